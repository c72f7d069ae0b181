"""What every description of a method has. Without torch."""

from typing import Any, ClassVar

from pydantic import BaseModel

from ..core.registry import Choice


class MethodOptions(Choice):
    "A method's own options; it names the class that learns."

    kinds: ClassVar[dict] = {}
    package: ClassVar[str] = "reidnb.methods"
    steps_setting: ClassVar[str] = "steps"  # the preset's setting for the length of a training
    rate_setting: ClassVar[str] = "learning_rate"  # and for the base learning rate
    generates: ClassVar[bool] = False  # learns to generate images; its networks have the preset's generator size
    learns: ClassVar[bool] = True  # an ensemble of trained members does not
    # model, objective and augmentation → their options that the method obeys; others are refused. All where a part is missing
    obeys: ClassVar[dict[str, tuple[str, ...]]] = {}

    kind: str = "supervised"

    def domains(self) -> tuple[str, ...]:
        "Data sets that a training uses besides the experiment's `data`."
        return ()

    def settings(self) -> tuple[str, ...]:
        "Settings of a preset that a training uses besides those of all methods."
        return ()

    def refuse_ignored(self, experiment: Any):
        "Refuse options that would change nothing (`ValueError`)."
        for part, obeyed in self.obeys.items():
            ignored = set(changed(getattr(experiment, part))) - set(obeyed)
            message = f'method = "{self.kind}" ignores {part}.{", ".join(sorted(ignored))}: leave it out'
            require(not ignored, message)


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
    obeys: ClassVar[dict[str, tuple[str, ...]]] = {"model": (), "objective": ("identity", "metric"), "augmentation": ()}

    def check(self, experiment: Any):
        "Refuse losses of labelled images (`ValueError`)."
        objective = experiment.objective
        message = f'method = "{self.kind}" learns without labels: expected identity and metric = "none"'
        require(not objective.identity and not objective.metric, message)


def changed(configuration: BaseModel) -> list[str]:
    "Fields that differ from their defaults."
    fields = type(configuration).model_fields.items()
    return [name for name, field in fields if getattr(configuration, name) != field.get_default()]


def all_but(description: type[BaseModel], *names: str) -> tuple[str, ...]:
    "All fields of a description but these."
    return tuple(name for name in description.model_fields if name not in names)


def require(
    condition: Any,  # what has to hold
    message: str,  # which key, what was expected
):
    "Refuse an experiment (`ValueError`)."
    if not condition:
        raise ValueError(message)
