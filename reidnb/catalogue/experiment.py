"A training described in full, apart from its size and seed. Without torch."

from typing import Annotated

from pydantic import Field, field_validator, model_validator

from ..augmentation.configuration import Augmentation
from ..core.configuration import Configuration
from ..core.registry import one_of
from ..data.datasets import dataset
from ..losses.objective import Objective
from ..methods.description import MethodOptions
from ..methods.supervised_options import SupervisedOptions
from ..models.configuration import Embedding
from ..training.configuration import Optimiser, Schedule


Side = Annotated[float, Field(ge=0.25, le=8)]  # of an image, against the preset's


class Batch(Configuration):
    "A PK batch."

    images: int = Field(64, ge=1)  # P*K; a generator, which needs no identities, may take fewer than four
    instances: int = Field(4, ge=2)  # K
    balanced: bool = False  # singletons dropped, small identities doubled at random (002, line 23)

    def check(self):
        "Refuse a batch that is not of whole identities (`ValueError`)."
        if self.images % self.instances or self.images < 2 * self.instances:
            numbers = f"batch: images = {self.images}, instances = {self.instances}"
            raise ValueError(f"{numbers}: expected images of two identities or more, with so many instances of each")


class Experiment(Configuration):
    "One training. Its defaults are the baseline of the notes (001, lines 46 to 51)."

    method: one_of(MethodOptions) = SupervisedOptions()  # type: ignore[valid-type]
    data: str = "market"  # a data set, or several as one, whose identities are kept apart
    start: "Experiment | None" = None  # the run whose weights this one starts from; in TOML its name
    pretrain: "Experiment | None" = None  # the same, in the place of ImageNet weights where a preset has none, or where a preset lets a generator go on from another
    generator: "Experiment | None" = None  # the run that generates images for this one; in TOML its name
    members: "tuple[Experiment, ...]" = ()  # the runs of an ensemble; in TOML their names
    snapshots: int = Field(0, ge=0, le=50)  # saved during training, evenly; the last is its end
    repetition: int = Field(0, ge=0, le=99)  # the same description once more, with other random numbers
    image_scale: tuple[Side, Side] = (1.0, 1.0)  # height and width against the preset's, in training and test
    batch: Batch = Batch()
    augmentation: Augmentation = Augmentation()
    model: Embedding = Embedding()
    objective: Objective = Objective()
    schedule: Schedule = Schedule()
    optimiser: Optimiser = Optimiser()

    @field_validator("data")
    @classmethod
    def _check_data(cls, name: str) -> str:
        return dataset(name).name

    @model_validator(mode="after")
    def _fits(self):
        "Each part refuses what does not fit to it; the rules stand beside the methods and losses."
        for name in self.method.domains():
            dataset(name)
        if self.generator is not None and not self.generator.method.generates:
            raise ValueError(f"generator: a run of kind {self.generator.method.kind} generates no images")
        if not self.method.generates:  # whose images need no identities
            self.batch.check()
        if self.augmentation.stretch and not self.method.stretches:
            raise ValueError(
                f"augmentation.stretch: {self.method.kind} stretches no images; expected supervised or vpm"
            )
        if self.members and self.method.learns:
            raise ValueError(f'members: a run of kind {self.method.kind} has none; expected method = "ensemble"')
        if self.start is not None and self.pretrain is not None:
            raise ValueError("start and pretrain: expected one of them, since a start replaces ImageNet weights anyway")
        self.objective.check(self)
        self.method.check(self)
        self.method.refuse_ignored(self)
        return self

    def domains(self) -> tuple[str, ...]:
        "The data, or several sets as one, that a training opens."
        return (self.data, *self.method.domains())
