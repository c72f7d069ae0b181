"""What every description of a loss has: a kind, a weight, and the function that it names. Without torch."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field

from ..core.registry import Choice

Weight = Annotated[float, Field(gt=0)]
Distance = Literal["euclidean", "cosine"]


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


class MetricLoss(LossDescription):
    "A loss on distances; it names a function of (features (B, D), labels (B,)) and its own arguments that gives a scalar."

    kinds: ClassVar[dict] = {}
    package: ClassVar[str] = "reidnb.losses"

    kind: str = "triplet"
