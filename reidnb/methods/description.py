"""What every description of a method has. Without torch."""

from typing import Any, ClassVar

from ..core.registry import Choice


class MethodOptions(Choice):
    "A method's own options; it names the class that learns."

    kinds: ClassVar[dict] = {}
    package: ClassVar[str] = "reidnb.methods"
    steps_setting: ClassVar[str] = "steps"  # the preset's setting for the length of a training
    rate_setting: ClassVar[str] = "learning_rate"  # and for the base learning rate
    generates: ClassVar[bool] = False  # learns to generate images; its networks have the preset's generator size
    learns: ClassVar[bool] = True  # an ensemble of trained members does not
    stretches: ClassVar[bool] = False  # cuts and stretches training images, which are decoded larger for it

    kind: str = "supervised"

    def domains(self) -> tuple[str, ...]:
        "Data sets that a training uses besides the experiment's `data`."
        return ()


class TargetOptions(MethodOptions):
    "Options of a method that learns from the unlabelled images of a target domain."

    target: str  # a data set

    def domains(self) -> tuple[str, ...]:
        return (self.target,)


class GeneratorOptions(MethodOptions):
    "Options of a method that learns to generate images, without labels."

    steps_setting: ClassVar[str] = "gan_steps"
    rate_setting: ClassVar[str] = "gan_rate"
    generates: ClassVar[bool] = True

    def check(self, experiment: Any):
        "Refuse losses of labelled images (`ValueError`)."
        objective = experiment.objective
        message = f'method = "{self.kind}" learns without labels: expected identity and metric = "none"'
        require(not objective.identity and not objective.metric, message)


def require(
    condition: Any,  # what has to hold
    message: str,  # which key, what was expected
):
    "Refuse an experiment (`ValueError`)."
    if not condition:
        raise ValueError(message)
