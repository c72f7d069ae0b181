"Distances and cosines are computed in full precision while a network trains in half, also by losses from outside."

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from reidnb.core.precision import full_precision
from reidnb.core.registry import all_kinds
from reidnb.losses.description import IdentityLoss, MetricLoss

IMAGES, CLASSES, DIM = 64, 16, 2048
LABELS = torch.arange(CLASSES).repeat_interleave(IMAGES // CLASSES)


def features_of(seed: int = 0) -> torch.Tensor:  # (B, D) of which images of other identities are 13 apart
    rng = torch.Generator().manual_seed(seed)
    identities = torch.randn(CLASSES, DIM, generator=rng)[LABELS]
    images = identities + 0.5 * torch.randn(IMAGES, DIM, generator=rng)
    return 1 + images * 13 / (2 * DIM * 1.25) ** 0.5  # means of rectified maps have a mean themselves


def values_and_gradients(function, *tensors, half=False):
    "What a function gives, under autocast or not, and the gradients of its sum, which `fit` takes outside of autocast."
    leaves = [tensor.clone().requires_grad_() for tensor in tensors]
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        value = function(*leaves)
    return [value.detach(), *torch.autograd.grad(value.sum(), leaves)]


def assert_full(function, *tensors):
    "The same numbers bit for bit with autocast and without; a function that is given half precision computes in float32."
    expected = values_and_gradients(function, *tensors)
    found = values_and_gradients(function, *tensors, half=True)
    with torch.autocast("cpu", torch.bfloat16):
        assert function(*(tensor.bfloat16() for tensor in tensors)).dtype == torch.float32
    assert all(torch.equal(a, b) for a, b in zip(expected, found))


def naive_distances(a, b):
    squared = a.square().sum(1)[:, None] + b.square().sum(1)[None] - 2 * a @ b.T
    return squared.clamp_min(1e-12).sqrt()


def test_what_autocast_does_to_distances_and_what_full_precision_cures():
    from reidnb.losses.triplet import batch_hard, pairwise_distances

    x = features_of()
    exact = torch.cdist(x.double(), x.double())
    different = LABELS[:, None] != LABELS[None]
    with torch.autocast("cpu", torch.bfloat16):
        rounded, ours = naive_distances(x, x), pairwise_distances(x, x)
    nearest = exact.masked_fill(~different, torch.inf).argmin(1)
    assert 12 < exact[different].mean() < 14
    assert (rounded.double() - exact)[different].square().mean().sqrt() > 0.1  # of a margin of 0.3
    assert (rounded.masked_fill(~different, torch.inf).argmin(1) == nearest).float().mean() < 0.9
    assert (ours.double() - exact)[different].abs().max() < 1e-4
    assert (ours.masked_fill(~different, torch.inf).argmin(1) == nearest).all()
    assert torch.equal(batch_hard(ours, LABELS).a_n, ours.masked_fill(~different, torch.inf).amin(1))


@pytest.mark.parametrize("kind", sorted(all_kinds(MetricLoss)))
def test_every_metric_loss_is_computed_in_full_precision(kind):
    from reidnb.losses.triplet import metric_loss

    loss = MetricLoss.kinds[kind]()
    assert_full(lambda x: metric_loss(loss, x, LABELS, epoch=0.0), features_of())
    assert_full(lambda x: loss.implemented()(x, LABELS, **loss.arguments()).float(), features_of())


@pytest.mark.parametrize("kind", sorted(all_kinds(IdentityLoss)))
@pytest.mark.parametrize("generated", [None, LABELS < 0], ids=["real", "generated"])
def test_every_identity_loss_is_computed_in_full_precision(kind, generated):
    from reidnb.losses.identity import Classifier

    classifier = Classifier(DIM, CLASSES, IdentityLoss.kinds[kind]())
    torch.nn.init.normal_(classifier.weight)
    assert_full(lambda x: classifier(x, LABELS, generated), features_of())


def careless_loss(features, labels):
    "A loss that somebody adds without a thought of precision."
    unit = F.normalize(features)
    return (unit @ unit.T)[labels[:, None] != labels[None]].exp().mean()


def careless_logits(features, weight, labels):
    return F.normalize(features) @ F.normalize(weight).T


def test_a_loss_from_outside_need_not_think_of_precision():
    from reidnb.losses.identity import Classifier
    from reidnb.losses.triplet import metric_loss

    outside = dict(arguments=lambda epoch=0.0: {}, smoothing=0.1, on_sphere=True)
    metric = SimpleNamespace(implemented=lambda: careless_loss, **outside)
    assert_full(lambda x: metric_loss(metric, x, LABELS, epoch=0.0), features_of())
    identity = SimpleNamespace(implemented=lambda: careless_logits, **outside)
    classifier = Classifier(DIM, CLASSES, identity)
    assert_full(lambda x: classifier(x, LABELS), features_of())
    with pytest.raises(AssertionError):  # by itself it would be wrong
        assert_full(lambda x: careless_loss(x, LABELS), features_of())


def compared() -> dict:  # name → function of two feature matrices
    "Everything else that compares features."
    from reidnb.losses.adversarial import similarity_loss
    from reidnb.losses.arn import contrastive_loss, difference_loss
    from reidnb.losses.attributes import AttributeDistance
    from reidnb.losses.autoencoder import FeatureAutoencoder, code_change
    from reidnb.losses.center import CenterLoss
    from reidnb.losses.distillation import distance_distillation_loss
    from reidnb.losses.ema import ema_triplet_loss
    from reidnb.losses.hhl_triplets import hhl_triplet_loss
    from reidnb.losses.parts import part_distances
    from reidnb.losses.soft_clusters import soft_assignment
    from reidnb.models.attributes import cosine_logits
    from reidnb.models.parts import region_means

    source, style = LABELS < 8, LABELS % 2 == 0
    shown = torch.ones(IMAGES, 4)
    measure, center, coder = AttributeDistance(DIM), CenterLoss(DIM, CLASSES), FeatureAutoencoder(DIM, 64)
    torch.nn.init.normal_(measure.weight)
    parts = lambda x: x.unflatten(1, (4, -1))
    maps = lambda x: x.view(IMAGES, 128, 4, 4)
    return dict(
        attributes=measure,
        attribute_logits=lambda a, b: cosine_logits(a, b[:CLASSES], 2.0),
        autoencoder=lambda a, b: (
            code_change(coder.code(a), coder.code(b)) + coder.losses(a, "ae_l2", 0.1).mean() + 0 * b.sum()
        ),
        center=lambda a, b: center(a, LABELS) + center(b, LABELS),
        contrastive=lambda a, b: contrastive_loss(torch.cat([a, b]), torch.cat([LABELS, LABELS]), 20.0),
        difference=difference_loss,
        distances=distance_distillation_loss,
        ema=lambda a, b: ema_triplet_loss(a, b, LABELS, form="relative"),
        hhl=lambda a, b: hhl_triplet_loss(a + b, LABELS, source, is_style=style, margin=9.0),
        parts=lambda a, b: part_distances(parts(a), shown, parts(b), b_visible=shown),
        regions=lambda a, b: region_means(maps(a)[:, :6], maps(b)),
        similarity=lambda a, b: similarity_loss(a, b, False),
        soft_clusters=lambda a, b: soft_assignment(a, b[:8], 5.0),
    )


@pytest.mark.parametrize("name", compared())
def test_whatever_compares_features_is_computed_in_full_precision(name):
    assert_full(compared()[name], features_of(0), features_of(1))


def test_arguments_are_converted_by_position_and_by_name():
    @full_precision
    def product(a, *, b, scale=2):
        return scale * a @ b.T

    x = features_of()
    with torch.autocast("cpu", torch.bfloat16):
        assert product(x.bfloat16(), b=x.half()).dtype == torch.float32
        assert product(x.double(), b=x.double()).dtype == torch.float64
        assert (x @ x.T).dtype == torch.bfloat16  # outside of it autocast goes on
