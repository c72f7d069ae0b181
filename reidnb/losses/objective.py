"""What a training minimises: an identity loss, a metric loss, and what is added to them. Without torch."""

from typing import Any, Literal

from ..core.configuration import Configuration
from ..core.registry import one_of
from .attributes_options import Attributes
from .autoencoder_options import Autoencoder
from .center_options import Center
from .description import Chance, IdentityLoss, MetricLoss
from .distillation_options import Distillation
from .identity_options import Softmax
from .ratio_options import Ratio
from .triplet_options import Triplet


class Objective(Configuration):
    'The losses of a training; "none" leaves the identity or the metric loss out.'

    identity: one_of(IdentityLoss, optional=True) = Softmax()  # type: ignore[valid-type]
    metric: one_of(MetricLoss, optional=True) = Triplet()  # type: ignore[valid-type]
    center: Center | None = None
    ratio: Ratio | None = None
    attributes: Attributes | None = None
    distillation: Distillation | None = None
    autoencoder: Autoencoder | None = None
    weights: Literal["fixed", "learned"] = "fixed"  # learned: one log variance per loss (001, line 65)

    def scaled(
        self,
        steps: float,  # of the documents
    ) -> "Objective":
        "The losses for a preset of which one step stands for so many."
        metric = self.metric and self.metric.scaled(steps)
        return self.model_copy(update=dict(metric=metric))

    def check(
        self,
        experiment: Any,  # that it is part of
    ):
        "Let each part refuse what does not fit (`ValueError`)."
        for part in (self.identity, self.metric, self.ratio, self.attributes, self.distillation):
            if part is not None:
                part.check(experiment)
        if experiment.model.bottleneck and self.identity is None:
            raise ValueError("model.bottleneck stands before the identity classifier: expected an identity loss")
        if experiment.model.ratio is not None and self.ratio is None:
            raise ValueError("model.ratio and objective.ratio belong together: a ratio network, and how it learns")
        if experiment.model.attributes is not None and self.attributes is None:
            raise ValueError("model.attributes and objective.attributes belong together: classifiers and their loss")

    def chances(
        self,
        experiment: Any,  # that it is part of
        classes: int,  # training identities
        attributes: dict[str, int],  # attribute → number of its values
    ) -> dict[str, Chance | None]:
        """What each loss is where nothing is learnt.

        A metric loss counts only where no identity loss is: the hardest pairs of a batch may stay at chance while the
        mean pair is far from it."""
        chances = {}
        if self.identity is not None:
            chances["identity"] = self.identity.chance(classes)
        elif self.metric is not None:
            chances["metric"] = self.metric.chance(classes)
        if self.ratio is not None:
            chances["ratio"] = self.ratio.chance(experiment.augmentation)
        if self.attributes is not None:
            chances["attributes"] = self.attributes.chance(attributes)
        return chances
