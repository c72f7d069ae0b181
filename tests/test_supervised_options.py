"Options of a supervised training: each one changes what is computed, or is refused in one line."

import functools
from typing import Any

import pytest
import torch

from reidnb.augmentation.configuration import Augmentation
from reidnb.catalogue.experiment import Batch, Experiment
from reidnb.catalogue.experiments import resolve_runs
from reidnb.core.configuration import ConfigurationError
from reidnb.data.batches import loader
from reidnb.losses.attributes_options import Attributes
from reidnb.losses.autoencoder_options import Autoencoder
from reidnb.losses.center_options import Center
from reidnb.losses.circle_options import Circle
from reidnb.losses.distillation_options import Distillation
from reidnb.losses.ema_options import EmaTriplet
from reidnb.losses.identity_options import ArcFace, CircleSoftmax, CosFace, Softmax
from reidnb.losses.objective import Objective
from reidnb.losses.ratio_options import Ratio
from reidnb.losses.triplet_options import SoftTriplet, Triplet, TripletPlusPositive
from reidnb.methods.supervised import Supervised
from reidnb.models import configuration as models
from reidnb.training.configuration import Optimiser, Schedule
from reidnb.training.fit import Plan, fit
from reidnb.training.schedules import rate_at

SIZE = models.Size(width=8, blocks=(1, 2, 2, 1), stem="3x3", residual_gamma=0.25)
STEPS, IMAGES = 3, 8
EPOCHS = (0.0, 50.0, 100.0)  # of the steps

# ---- what a training computes


@functools.cache
def step(number: int) -> dict:
    "A batch of four identities with two images each, as `PKBatches` makes them."
    generator = torch.Generator().manual_seed(number)
    mask = torch.zeros(IMAGES, 1, 64, 32)
    mask[:, :, 8:56, 8:24] = 1
    return dict(
        image=torch.randint(256, (IMAGES, 3, 64, 32), dtype=torch.uint8, generator=generator),
        mask=mask,
        label=torch.arange(4).repeat_interleave(2),
        attributes=torch.randint(2, (IMAGES, 5), generator=generator),
        step=number,
        epoch=EPOCHS[number],
    )


@functools.cache
def before() -> dict:
    "What another run has trained."
    previous = method_of(Experiment(objective=dict(autoencoder={})))
    return previous.inference_state()


def method_of(experiment: Experiment) -> Supervised:
    method = Supervised(
        experiment.model,
        SIZE,
        experiment.objective,
        augmentation=experiment.augmentation,
        classes=4,
        attributes={f"attribute {k}": 2 for k in range(5)},
    )
    if method.pool is not None:
        method.pool.seen.fill_(1000)  # nothing is pasted before a hundred images
    if experiment.start:
        method.start_from(before())
    return method


def outcome(experiment: Experiment) -> torch.Tensor:
    "Losses of three steps, and features before a test with and without a mask and a stretch."
    if experiment.optimiser != Optimiser():
        return trained(experiment)
    method = method_of(experiment).train()
    numbers = []
    for k in range(STEPS):
        method.begin_phase(epoch=EPOCHS[k])
        losses = method.losses(step(k))
        method.total(losses).backward()
        learning = [p for p in method.parameters() if p.grad is not None]
        torch.optim.SGD(learning, 0.05).step()
        for optimiser in method.own_optimisers():
            optimiser.step()
        method.zero_grad()
        numbers += [losses[name].detach().reshape(1) for name in sorted(losses)]
    method.eval()
    pixels = step(0)["image"].float() / 255
    stretch = torch.full((IMAGES,), 1.5)
    ratio = experiment.model.ratio
    iterations = 3 if ratio and ratio.affine else None
    with torch.no_grad():
        tested = [method.embed(pixels, iterations=iterations), method.embed(pixels, stretch=stretch)]
        tested.append(method.embed(pixels, step(0)["mask"]))
    return torch.cat([*numbers, *(vectors.flatten() for vectors in tested)])


def trained(experiment: Experiment) -> torch.Tensor:
    "Features after a training by `fit`."
    plan = Plan(steps=STEPS, base_rate=0.01, schedule=Schedule(warmup=0), optimiser=experiment.optimiser)
    batches = [{key: value for key, value in step(k).items() if key != "epoch"} for k in range(STEPS)]
    method = fit(method_of(experiment), functools.partial(loader, batches), plan).trained().eval()
    with torch.no_grad():
        return method.embed(step(0)["image"].float() / 255)


# ---- each option: what it needs, and another value

RATIO = dict(model=dict(ratio=dict(affine=True)), objective=dict(ratio={}), augmentation=dict(stretch=1.0))
RELATIVE = RATIO | dict(objective=dict(ratio=dict(relative=True)))
HEADS = dict(model=dict(attributes={}), objective=dict(attributes={}))
STRETCH = dict(augmentation=dict(stretch=1.0))
CODES = dict(start={}, objective=dict(distillation=dict(codes=["ae"])))


def metric(kind: str) -> dict:
    return dict(objective=dict(metric=dict(kind=kind)))


def identity(kind: str) -> dict:
    return dict(objective=dict(identity=dict(kind=kind)))


def heads(kind: str) -> dict:
    return dict(model=dict(attributes=dict(kind=kind)), objective=dict(attributes={}))


OPTIONS: list[tuple[str, dict, Any]] = [
    ("augmentation.flip", {}, 1.0),
    ("augmentation.pad", {}, 0),
    ("augmentation.erase", {}, 1.0),
    ("augmentation.occlude", {}, 1.0),
    ("augmentation.stretch", {}, 1.0),
    ("augmentation.stretch_ends", STRETCH, "head"),
    ("augmentation.stretch_share", STRETCH, (0.3, 0.6)),
    ("augmentation.stretch_x", STRETCH, True),
    ("augmentation.vary", {}, (0.5, 1.0)),
    ("augmentation.jitter", {}, 1.0),
    ("augmentation.affine", {}, 1.0),
    ("augmentation.background", {}, 1.0),
    ("augmentation.background_of", dict(augmentation=dict(background=1.0)), "grey"),
    ("augmentation.patch", {}, 1.0),
    ("augmentation.paste", {}, 1.0),
    ("model.backbone", {}, "resnet18"),
    ("model.se", {}, True),
    ("model.ibn", {}, "a"),
    ("model.last_stride", {}, 2),
    ("model.bnneck", {}, False),
    ("model.pooling", {}, "gem"),
    ("model.padding", dict(augmentation=dict(occlude=1.0)), "masked"),
    ("model.kernels", {}, "affine"),
    ("model.stem_pool", {}, "convolution"),
    ("model.downsampling", {}, "max"),
    ("model.ratio", dict(augmentation=dict(stretch=1.0), objective=dict(ratio={}), model=dict(ratio={})), {"depth": 1}),
    ("model.select", {}, {}),
    ("model.reduce", {}, {}),
    ("model.local", {}, {}),
    ("model.attributes", HEADS, {"kind": "cosine"}),
    ("model.stripes", {}, {}),
    ("model.frozen_norms", {}, True),
    ("model.bottleneck", {}, True),
    ("model.non_local", {}, True),
    ("model.ratio.depth", RATIO, 3),
    ("model.ratio.output", RATIO, "linear"),
    ("model.ratio.affine", dict(RATIO, model=dict(ratio={})), True),
    ("model.ratio.iterations", RATIO, 3),
    ("model.select.share", dict(model=dict(select={})), 0.25),
    ("model.select.losses", dict(model=dict(select={})), "triplet"),
    ("model.reduce.dim", dict(model=dict(reduce={})), 128),
    ("model.reduce.dropout", dict(model=dict(reduce={})), 0.5),
    ("model.local.detach", dict(model=dict(local={})), True),
    ("model.bottleneck.dim", dict(model=dict(bottleneck={})), 128),
    ("model.bottleneck.slope", dict(model=dict(bottleneck={})), 0.1),
    ("model.bottleneck.dropout", dict(model=dict(bottleneck={})), 0.5),
    ("model.stripes.count", dict(model=dict(stripes={})), 4),
    ("model.stripes.kind", dict(model=dict(stripes={})), "average"),
    ("model.attributes.kind", HEADS, "bottleneck"),
    ("model.attributes.scale", heads("cosine"), 2.0),
    ("model.attributes.layers", heads("mlp"), 4),
    ("model.attributes.dropout", HEADS, 0.5),
    ("model.attributes.attention", HEADS, True),
    ("objective.identity", {}, "none"),
    ("objective.metric", {}, "none"),
    ("objective.center", {}, {"weight": 0.01}),
    ("objective.ratio", RATIO, {"weight": 2.0}),
    ("objective.attributes", HEADS, {"weight": 2.0}),
    ("objective.distillation", dict(start={}), {"ce_dist": 1.0}),
    ("objective.autoencoder", {}, {}),
    ("objective.weights", {}, "learned"),
    *[(f"objective.identity.{name}", identity("softmax"), value) for name, value in (("weight", 2), ("smoothing", 0))],
    *[
        (f"objective.identity.{name}", identity(kind), value)
        for kind in ("arcface", "cosface", "circle_softmax")
        for name, value in (("weight", 2), ("smoothing", 0), ("scale", 16), ("margin", 0.1))
    ],
    *[
        (f"objective.metric.{name}", metric("triplet"), value)
        for name, value in (("weight", 2), ("margin", 1), ("margin_steps", ((40, 2),)), ("mining", "all"))
    ],
    *[
        (f"objective.metric.{name}", metric(kind), value)
        for kind in ("soft_triplet", "triplet", "triplet_plus_positive", "ema_triplet")
        for name, value in (("weight", 2), ("distance", "cosine"))
    ],
    ("objective.metric.margin", metric("triplet_plus_positive"), 1),
    *[(f"objective.metric.{name}", metric("circle"), value) for name, value in (("weight", 2), ("margin", 0.1))],
    ("objective.metric.scale", metric("circle"), 16),
    *[
        (f"objective.metric.{name}", metric("ema_triplet"), value)
        for name, value in (("form", "relative"), ("margin", 0.9), ("detach", False), ("ema", 0.9))
    ],
    ("objective.center.weight", dict(objective=dict(center={})), 0.01),
    ("objective.center.rate", dict(objective=dict(center={})), 0.1),
    ("objective.attributes.weight", HEADS, 2),
    ("objective.attributes.pairs", HEADS, "all"),
    ("objective.attributes.margins", HEADS, True),
    ("objective.ratio.weight", RATIO, 2),
    ("objective.ratio.relative", RATIO, True),
    ("objective.ratio.logarithm", RATIO, False),
    ("objective.ratio.regulariser", RELATIVE, 1.0),
    ("objective.ratio.regulariser_target", RELATIVE, "zero"),
    ("objective.ratio.cycle", RATIO, 1.0),
    ("objective.ratio.identity_gradient", RATIO, False),
    ("objective.ratio.trunk", RATIO, "whole"),
    ("objective.ratio.frozen_trunk", RATIO | dict(start={}), True),
    ("objective.distillation.ce_dist", CODES, 1.0),
    ("objective.distillation.tr_dist", CODES, 1.0),
    ("objective.distillation.temperature", dict(start={}, objective=dict(distillation=dict(ce_dist=1))), 10),
    ("objective.distillation.outputs", dict(start={}, objective=dict(distillation=dict(ce_dist=1))), "features"),
    ("objective.distillation.mean_over", dict(start={}, objective=dict(distillation=dict(ce_dist=1))), "elements"),
    ("objective.distillation.relations", dict(start={}, objective=dict(distillation=dict(tr_dist=1))), "hardest"),
    ("objective.distillation.codes", CODES, ["ae", "ae_l1"]),
    ("objective.distillation.code_loss", CODES, "bce"),
    ("objective.distillation.code_weight", CODES, 10),
    ("objective.autoencoder.code", dict(objective=dict(autoencoder={})), 256),
    ("objective.autoencoder.penalty", dict(objective=dict(autoencoder={})), 1.0),
    ("objective.autoencoder.penalise", dict(objective=dict(autoencoder={})), "weights"),
    ("objective.autoencoder.where", dict(objective=dict(autoencoder={})), "before"),
    ("optimiser.weight_decay", dict(optimiser=dict(momentum=0.8)), 0.1),
    ("optimiser.momentum", dict(optimiser=dict(weight_decay=0)), 0.5),
    ("optimiser.clip", dict(optimiser=dict(momentum=0.8)), 1e-8),
    ("optimiser.ema", dict(optimiser=dict(momentum=0.8)), 0.9),
]


def changed(needs: dict, path: str, value) -> Experiment:
    "An experiment with one more option."
    section, *keys = path.split(".")
    values = dict(needs)
    inner = values[section] = dict(values.get(section, {}))
    for key in keys[:-1]:
        inner[key] = dict(inner[key]) if isinstance(inner.get(key), dict) else {}
        inner = inner[key]
    inner[keys[-1]] = value
    return Experiment(**values)


def title(option) -> str:
    path, needs, value = option
    kinds = [part["kind"] for part in needs.get("objective", {}).values() if isinstance(part, dict) and "kind" in part]
    return "-".join([path, *kinds])


@functools.cache
def unchanged(needs: str) -> torch.Tensor:
    "What a training computes without the option."
    return outcome(Experiment(**eval(needs)))


@pytest.mark.parametrize("option", OPTIONS, ids=title)
def test_an_option_changes_what_is_computed(option):
    path, needs, value = option
    numbers, others = unchanged(repr(needs)), outcome(changed(needs, path, value))
    assert others.isfinite().all()
    assert numbers.shape != others.shape or not torch.equal(numbers, others)


def test_each_option_of_a_supervised_training_is_in_the_list():
    "An option that is added has to be shown to take effect."
    parts = (Augmentation, models.Embedding, models.RatioHead, models.Selection, models.Reduction, models.LocalBranch)
    parts += (models.Bottleneck, models.Stripes, models.AttributeHeads, Objective, Softmax, ArcFace, CosFace)
    parts += (CircleSoftmax, Triplet, SoftTriplet, TripletPlusPositive, Circle, EmaTriplet, Center, Ratio, Attributes)
    parts += (Distillation, Autoencoder)
    listed = set()
    for path, needs, value in OPTIONS:
        part: Any = changed(needs, path, value)
        *keys, name = path.split(".")
        for key in keys:
            part = getattr(part, key)
        listed.add((type(part), name))
    missing = {(part.__name__, name) for part in parts for name in part.model_fields if (part, name) not in listed}
    assert {(part, name) for part, name in missing if name != "kind" or part == "AttributeHeads"} == set()


# ---- schedules

SCHEDULES: list[tuple[dict, dict]] = [
    ({}, dict(epochs=60)),
    ({}, dict(rate=0.5)),
    ({}, dict(warmup=5)),
    ({}, dict(warmup_from=0.5)),
    ({}, dict(kind="cosine")),
    ({}, dict(drops=(20, 30))),
    ({}, dict(factor=0.5)),
    (dict(kind="cosine"), dict(flat=60)),
    (dict(kind="linear"), dict(flat=60)),
]


@pytest.mark.parametrize(("needs", "change"), SCHEDULES, ids=str)
def test_an_option_changes_a_schedule(needs, change):
    before, after = Schedule(**needs), Schedule(**needs, **change)
    shares = [k / 40 for k in range(41)]
    rates = [[rate_at(schedule, share * schedule.epochs) for share in shares] for schedule in (before, after)]
    assert rates[0] != rates[1]


def test_each_option_of_a_schedule_is_in_the_list():
    assert {name for _, change in SCHEDULES for name in change} == set(Schedule.model_fields)


# ---- refusals

TRIPLETS = 'expected metric kind = "triplet"'
REFUSALS = {
    "pairs of another metric loss": (
        dict(HEADS, objective=dict(attributes=dict(pairs="all"), metric="circle")),
        TRIPLETS,
    ),
    "pairs without a metric loss": (dict(HEADS, objective=dict(attributes=dict(pairs="all"), metric="none")), TRIPLETS),
    "margins of another metric loss": (
        dict(HEADS, objective=dict(attributes=dict(margins=True), metric="soft_triplet")),
        TRIPLETS,
    ),
    "mining beside pairs": (
        dict(HEADS, objective=dict(attributes=dict(pairs="all"), metric=dict(kind="triplet", mining="all"))),
        'mining = "all" has no effect',
    ),
    "a margin beside margins": (
        dict(HEADS, objective=dict(attributes=dict(margins=True), metric=dict(kind="triplet", margin=0.5))),
        "margin = 0.5 has no effect",
    ),
    "a regulariser without relative labels": (
        dict(RATIO, objective=dict(ratio=dict(regulariser=1.0))),
        "regulariser = 1.0 has no effect: expected relative = true",
    ),
    "a target without a regulariser": (
        dict(RATIO, objective=dict(ratio=dict(relative=True, regulariser=0, regulariser_target="zero"))),
        'regulariser_target = "zero" has no effect: expected a regulariser above 0',
    ),
    "a ratio network and varied sizes": (dict(RATIO, augmentation=dict(vary=[0.5, 1.0])), "augmentation.vary"),
    "distillation of nothing": (dict(start={}, objective=dict(distillation={})), "expected what is kept"),
    "a temperature alone": (
        dict(start={}, objective=dict(distillation=dict(tr_dist=1, temperature=10))),
        "temperature = 10.0 has no effect: expected ce_dist above 0",
    ),
    "a loss of no codes": (
        dict(start={}, objective=dict(distillation=dict(tr_dist=1, code_loss="bce"))),
        'code_loss = "bce" has no effect: expected codes',
    ),
    "a bottleneck before no classifier": (
        dict(model=dict(bottleneck=True), objective=dict(identity="none")),
        "model.bottleneck stands before the identity classifier",
    ),
    "members of no ensemble": (dict(members=[{}, {}]), "members: a run of kind supervised has none"),
    "two places to start from": (dict(start={}, pretrain={}), "start and pretrain: expected one of them"),
    "a batch with a remainder": (dict(batch=dict(images=30)), "images = 30, instances = 4: expected images of two"),
    "a batch of one identity": (dict(batch=dict(images=8, instances=8)), "expected images of two identities"),
    "no size": (dict(image_scale=[0, 1]), "greater than or equal to 0.25"),
    "flat steps": (dict(schedule=dict(flat=10)), 'expected kind = "cosine" or "linear"'),
    "a background that nobody gets": (dict(augmentation=dict(background_of="grey")), "a background above 0"),
    "an end that nobody cuts": (dict(augmentation=dict(stretch_ends="head")), "a stretch above 0"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_would_be_ignored_is_refused_in_one_line(name):
    values, message = REFUSALS[name]
    with pytest.raises(ConfigurationError) as error:
        resolve_runs(dict(a=values), "toy.toml")
    assert message in str(error.value) and "\n" not in str(error.value)


def test_patches_are_pasted_on_exchanged_backgrounds():
    "A background makes images floats; the pool of patches holds bytes."
    assert outcome(Experiment(augmentation=dict(background=1.0, patch=1.0))).isfinite().all()


def test_values_at_their_defaults_are_never_refused():
    parts = (Schedule, Augmentation, models.AttributeHeads, Ratio, Batch, models.Embedding)
    for part in parts:
        defaults = {name: field.get_default() for name, field in part.model_fields.items()}
        assert part(**defaults) == part()
