"""What every description of a method has. Without torch."""

from typing import Any, ClassVar

from pydantic import BaseModel, Field

from ..core.registry import Choice
from ..losses.description import Chance
from ..training.configuration import Schedule


class MethodOptions(Choice):
    "A method's own options; it names the class that learns."

    kinds: ClassVar[dict] = {}
    package: ClassVar[str] = "reidnb.methods"
    steps_setting: ClassVar[str] = "steps"  # the preset's setting for the length of a training
    rate_setting: ClassVar[str] = "learning_rate"  # and for the base learning rate
    generates: ClassVar[bool] = False  # learns to generate images; its networks have the preset's generator size
    learns: ClassVar[bool] = True  # an ensemble of trained members does not
    stretches: ClassVar[bool] = False  # cuts and stretches training images, which are decoded larger for it
    # model, objective and augmentation → their options that the method obeys; others are refused. All where a part is missing
    obeys: ClassVar[dict[str, tuple[str, ...]]] = {}

    kind: str = "supervised"

    def domains(self) -> tuple[str, ...]:
        "Data sets that a training uses besides the experiment's `data`."
        return ()

    def filled(
        self,
        experiment: Any,  # whose method this is
        preset: Any,
    ) -> dict[str, Any]:  # key of the experiment → value
        "What a preset fills in where an experiment leaves it open."
        return {}

    def decoding_scale(self) -> float:
        "How much larger training images are decoded than they are trained with."
        return 1.0

    def settings(self) -> tuple[str, ...]:
        "Settings of a preset that a training uses besides those of all methods."
        return ()

    def refuse_ignored(self, experiment: Any):
        "Refuse options that would change nothing (`ValueError`)."
        for part, obeyed in self.obeys.items():
            ignored = set(changed(getattr(experiment, part))) - set(obeyed)
            message = f'method = "{self.kind}" ignores {part}.{", ".join(sorted(ignored))}: leave it out'
            require(not ignored, message)

    def chances(
        self,
        experiment: Any,  # that it is part of
        classes: int,  # training identities
        attributes: dict[str, int],  # attribute → number of its values
    ) -> dict[str, Chance | None]:  # by the name of the loss
        "What its losses are where nothing is learnt; None where no such value is known."
        return experiment.objective.chances(experiment, classes, attributes)


class TargetOptions(MethodOptions):
    "Options of a method that learns from the unlabelled images of a target domain."

    target: str  # a data set

    def domains(self) -> tuple[str, ...]:
        return (self.target,)


class GeneratorOptions(MethodOptions):
    """Options of a method that learns to generate images, without labels.

    Where an experiment leaves batch, schedule or image scale at their defaults, which suit no generator, a kind takes the preset's."""

    steps_setting: ClassVar[str] = "gan_steps"
    rate_setting: ClassVar[str] = "gan_rate"
    blocks_setting: ClassVar[str] = "gan_blocks"  # the preset's setting for the number of residual blocks
    scale_setting: ClassVar[str] = ""  # and for height and width of its images against the preset's
    generates: ClassVar[bool] = True
    obeys: ClassVar[dict[str, tuple[str, ...]]] = {"model": (), "objective": ("identity", "metric"), "augmentation": ()}

    documented: bool = False  # the documents' networks even where the preset has stand-ins for them
    enlarge: float = Field(1.0, ge=1, le=2)  # images are decoded so much larger, and cropped at random; 1: the preset's

    def filled(self, experiment: Any, preset: Any) -> dict[str, Any]:
        "Networks, crops and size of the images."
        options = self.filled_options(preset)
        changes: dict[str, Any] = {"method": self.model_copy(update=options)}
        if self.scale_setting and experiment.image_scale == (1.0, 1.0):
            changes["image_scale"] = getattr(preset, self.scale_setting)
        return changes

    def filled_options(self, preset: Any) -> dict[str, Any]:
        "Own options that the preset decides; where it has no stand-ins, none can be asked for."
        documented = self.documented or preset.gan_structure == "documented"
        enlarge = preset.gan_enlarge if self.enlarge == 1 else self.enlarge
        return {"documented": documented, "enlarge": enlarge}

    def decoding_scale(self) -> float:
        return self.enlarge

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


def open_batch(
    experiment: Any,  # of a generator
    images: int,  # that the preset takes
) -> dict[str, Any]:  # key → value; {} where the experiment has a batch of its own
    "A preset's batch of a generator. Its images need no identities: `instances` is what it is in the runs that were published."
    default = type(experiment.batch)()
    if experiment.batch != default:
        return {}
    return {"batch": default.model_copy(update={"images": images, "instances": 2})}


def open_schedule(
    experiment: Any,  # of a generator
    epochs: float,  # that the preset takes
    *,
    falls: float,  # share of them, at the end, in which the rate falls to zero
) -> dict[str, Any]:  # key → value; {} where the experiment has a schedule of its own
    "A preset's schedule of a generator."
    if experiment.schedule != Schedule():
        return {}
    flat = epochs * (1 - falls)
    return {"schedule": Schedule(epochs=epochs, warmup=0, kind="linear", flat=flat)}


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
