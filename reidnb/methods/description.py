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


OTHER_LOSSES = ("center", "ratio", "attributes", "distillation", "autoencoder")
NEED_MORE = ("occlude", "stretch", "vary", "background", "patch")  # than the images of a batch


def require_own_losses(
    experiment: Any,
    **ignored: tuple[str, ...],  # section → fields that have no effect
):
    "Refuse what a method with losses of its own would ignore: a metric loss, a neck, and other fields (`ValueError`)."
    kind = experiment.method.kind
    require(
        not experiment.objective.metric, f'method = {kind} has losses of its own: expected objective.metric = "none"'
    )
    require(not experiment.model.bnneck, f"method = {kind} has no neck: expected model.bnneck = false")
    for section, names in (ignored | dict(objective=OTHER_LOSSES, augmentation=NEED_MORE)).items():
        part = getattr(experiment, section)
        for name in names:
            default = type(part).model_fields[name].default
            message = f"{section}.{name}: method = {kind} does not use it; leave it out"
            require(getattr(part, name) == default, message)
