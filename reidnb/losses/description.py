"""What every description of a loss has: a kind, a weight, and the function that it names. Without torch."""

import math
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self

from pydantic import Field

from ..core.registry import Choice

Weight = Annotated[float, Field(gt=0)]
Distance = Literal["euclidean", "cosine"]


class Chance(NamedTuple):
    "The value of a loss where nothing is learnt, and the least that it can be."

    level: float
    least: float = 0.0

    def remaining(
        self,
        loss: float,  # at the end of a training
    ) -> float:
        "How much of the way from chance to the least is still to go: 1 at chance, 0 at the least."
        return (loss - self.least) / (self.level - self.least)


class LossDescription(Choice):
    "A loss with its weight; the other fields are arguments of the function that it names."

    weight: Weight = 1.0

    def arguments(
        self,
        epoch: float = 0.0,  # in the documents' epochs, for arguments that change during training
    ) -> dict[str, Any]:
        "Keyword arguments of the implementation."
        return {name: getattr(self, name) for name in type(self).model_fields if name not in ("kind", "weight")}

    def scaled(
        self,
        steps: float,  # of the documents
    ) -> Self:
        "The loss for a preset of which one step stands for so many: what changes at each step, changes by more."
        return self

    def chance(
        self,
        classes: int,  # C training identities
    ) -> Chance | None:
        "Its value where nothing is learnt; None where no such value is known."
        return None


class IdentityLoss(LossDescription):
    """A classification loss; it names a function of (features (B, D), class weights (C, D), labels (B,)) and its own
    arguments that gives the logits (B, C) of training."""

    kinds: ClassVar[dict] = {}
    package: ClassVar[str] = "reidnb.losses"
    on_sphere: ClassVar[bool] = False  # class weights are directions: their lengths do not matter

    kind: str = "softmax"
    smoothing: float = Field(0.1, ge=0, lt=1)  # label smoothing ε (004, line 35)

    def arguments(self, epoch: float = 0.0) -> dict[str, Any]:
        "Keyword arguments of the function that makes logits."
        return {name: value for name, value in super().arguments(epoch).items() if name != "smoothing"}

    @property
    def handicap(self) -> float:
        "By how much a margin lowers the logit of the right class where features say nothing (all cosines zero)."
        return 0.0

    def chance(self, classes: int) -> Chance:
        "Cross-entropy with equal logits: ln C, and more with a margin; the least is the entropy of the smoothed target."
        wrong = self.smoothing / classes
        right = 1 - self.smoothing + wrong
        level = math.log(math.exp(-self.handicap) + classes - 1) + right * self.handicap
        least = -right * math.log(right)
        if wrong:
            least -= (classes - 1) * wrong * math.log(wrong)
        return Chance(level, least)


class MetricLoss(LossDescription):
    "A loss on distances; it names a function of (features (B, D), labels (B,)) and its own arguments that gives a scalar."

    kinds: ClassVar[dict] = {}
    package: ClassVar[str] = "reidnb.losses"

    kind: str = "triplet"
