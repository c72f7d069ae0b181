"""Every option of model, objective and augmentation is obeyed or refused, whatever the method: a changed option changes the losses of the first
steps or the vectors that a test compares, and each parameter that it brings learns; or the description is refused in one line."""

import copy
from functools import cache
from typing import Any, Literal, get_args, get_origin

import pytest
import torch
from pydantic import BaseModel

from reidnb.augmentation.configuration import Augmentation
from reidnb.catalogue.experiment import Experiment
from reidnb.core.configuration import ConfigurationError, validate
from reidnb.core.registry import all_kinds
from reidnb.data.batches import loader
from reidnb.data.samples import DataError
from reidnb.losses.attributes_options import Attributes
from reidnb.losses.autoencoder_options import Autoencoder
from reidnb.losses.center_options import Center
from reidnb.losses.description import IdentityLoss, MetricLoss
from reidnb.losses.distillation_options import Distillation
from reidnb.losses.objective import Objective
from reidnb.losses.ratio_options import Ratio
from reidnb.methods.description import MethodOptions
from reidnb.models.configuration import (
    AttributeHeads,
    Bottleneck,
    Embedding,
    LocalBranch,
    RatioHead,
    Reduction,
    Selection,
    Stripes,
)
from reidnb.runs.execute import context_of, images_of_generator, make_deterministic, prepare
from reidnb.runs.presets import load_preset
from reidnb.runs.records import Archive
from reidnb.training.fit import Plan, fit

UNLABELLED = {"objective.identity": "none", "objective.metric": "none"}
CLUSTERED = {"data": "duke", "start": {}, "method.target": "duke", "method.clustering": "kmeans"}
GENERATING = UNLABELLED | {"schedule.epochs": 20, "schedule.warmup": 0}
STYLES = GENERATING | {"method.kind": "stargan", "data": "duke"}
OWN_LOSSES = {"objective.metric": "none", "model.bnneck": False}
RELU = {"dim": 256, "slope": 0.0, "dropout": 0.5}
KINDS: dict[str, dict] = {  # method → what its description needs
    "supervised": {},
    "vpm": {"augmentation.stretch": 1.0},
    "mgn": {},
    "arn": OWN_LOSSES | {"method.target": "duke"},
    "hhl": OWN_LOSSES | {"method.target": "duke", "method.triplets": "D", "model.bottleneck": RELU},
    "pseudo_labels": CLUSTERED,
    "ssg": CLUSTERED | {"objective.identity": "none"},
    "dec": CLUSTERED | UNLABELLED,
    "cyclegan": GENERATING | {"method.target": "duke"},
    "stargan": GENERATING | {"data": "duke"},
    "dcgan": GENERATING,
    "lsro": {"generator": GENERATING | {"method.kind": "dcgan"}},
    "ensemble": {"members": [{}, {"repetition": 1}]},
}

RATIO = {"model.ratio": {}, "objective.ratio": {}, "augmentation.stretch": 1.0}
ATTRIBUTES = {"model.attributes": {}, "objective.attributes": {}}
CODES = {"start": {"objective.autoencoder": {}}, "objective.distillation": {"codes": ["ae"]}}
STRETCHED = {"augmentation.stretch": 1.0}
CONTEXT: dict[str, dict] = {  # option → what it needs to have a meaning
    "model.kernels": STRETCHED | {"augmentation.vary": [0.5, 1.0]},
    "model.padding": {"augmentation.occlude": 1.0},
    "model.ratio": RATIO,
    "objective.ratio": RATIO,
    "objective.ratio.regulariser": {"objective.ratio": {"relative": True}},
    "objective.ratio.regulariser_target": {"objective.ratio": {"relative": True}},
    "objective.ratio.cycle": {"model.ratio": {"affine": True}},
    "objective.ratio.frozen_trunk": {"start": {}},
    "model.ratio.iterations": {"model.ratio": {"affine": True}},
    "model.attributes": ATTRIBUTES,
    "objective.attributes": ATTRIBUTES,
    "model.attributes.scale": {"model.attributes": {"kind": "cosine"}},
    "model.attributes.layers": {"model.attributes": {"kind": "mlp"}},
    "objective.distillation": {"start": {}, "objective.distillation": {"ce_dist": 1.0}},
    "objective.distillation.codes": {"start": {"objective.autoencoder": {}}},
    "objective.distillation.relations": {"objective.distillation": {"tr_dist": 1.0}},
    "objective.distillation.code_loss": CODES,
    "objective.distillation.code_weight": CODES,
    "augmentation.stretch_ends": STRETCHED,
    "augmentation.stretch_share": STRETCHED,
    "augmentation.stretch_x": STRETCHED,
    "augmentation.background_of": {"augmentation.background": 1.0},
}
OTHER: dict[str, Any] = {  # option → another value, where the type does not say one
    "model.backbone": "resnet18",
    "model.select": {},
    "model.reduce": {"dim": 64},
    "model.reduce.dim": 256,
    "model.local": {},
    "model.stripes": {},
    "model.bottleneck": {"dim": 64},
    "model.ratio": {},
    "model.attributes": {},
    "objective.identity": "arcface",
    "objective.metric": "circle",
    "objective.center": {},
    "objective.ratio": {},
    "objective.attributes": {},
    "objective.distillation": {"tr_dist": 1.0},
    "objective.distillation.codes": ["ae"],
    "objective.autoencoder": {},
    "objective.autoencoder.code": 128,
    "objective.metric.margin_steps": [[0.0, 0.1]],
    "model.bottleneck.slope": 0.0,
    "objective.metric.ema": 0.5,
    "augmentation.stretch_share": [0.3, 0.4],
    "augmentation.vary": [0.5, 0.6],
}
WITH: dict[str, dict] = {  # option → what changes with it
    "model.ratio.affine": {"model.ratio.iterations": 2}  # which is to iterate
}
STEPS = {"augmentation.patch": 8}  # a pool of patches fills first
PARTS: dict[str, type[BaseModel]] = {"model": Embedding, "objective": Objective, "augmentation": Augmentation}
INNER: dict[str, type[BaseModel]] = {
    "model.ratio": RatioHead,
    "model.select": Selection,
    "model.reduce": Reduction,
    "model.local": LocalBranch,
    "model.bottleneck": Bottleneck,
    "model.stripes": Stripes,
    "model.attributes": AttributeHeads,
    "objective.center": Center,
    "objective.ratio": Ratio,
    "objective.attributes": Attributes,
    "objective.distillation": Distillation,
    "objective.autoencoder": Autoencoder,
}


# ---- descriptions


def described(*changes: dict) -> dict:
    "A description from dotted keys; later ones win, and dicts are joined."
    description: dict = {}
    for key, value in ((key, value) for change in changes for key, value in change.items()):
        *parents, name = key.split(".")
        inner = description
        for parent in parents:
            if not isinstance(inner.get(parent), dict):
                inner[parent] = {"kind": inner[parent]} if parent in inner else {}
            inner = inner[parent]
        old = inner.get(name)
        value = described(value) if isinstance(value, dict) else value
        inner[name] = old | value if isinstance(old, dict) and isinstance(value, dict) else copy.deepcopy(value)
    if "members" in description:
        description["members"] = tuple(Experiment.model_validate(member) for member in description["members"])
    return description


def with_start(description: dict) -> dict:
    "A start has the model and what else its own keys say, without what only the later run has."
    if "start" not in description:
        return description
    model = {name: value for name, value in description.get("model", {}).items() if name not in ("ratio", "attributes")}
    return description | dict(start=Experiment.model_validate({"model": model} | described(description["start"])))


def experiment_of(description: dict) -> Experiment:
    "The typed description (`ConfigurationError` where it is refused)."
    description = with_start(description)
    if isinstance(description.get("generator"), dict):
        description = description | dict(generator=Experiment.model_validate(description["generator"]))
    return validate(Experiment, description, "test")


def other_value(option: str, field) -> Any:
    "A value that is not the default."
    if option in OTHER:
        return OTHER[option]
    default, kind = field.get_default(), field.annotation
    if isinstance(default, bool):
        return not default
    choices = [choice for part in (kind, *get_args(kind)) if get_origin(part) is Literal for choice in get_args(part)]
    if choices:
        return next(choice for choice in choices if choice != default)
    if kind is int:
        return default + 1
    if isinstance(default, (int, float)):
        return default / 2 if default else 0.5
    raise AssertionError(f"{option}: no other value than {default!r} is known; add one to OTHER in {__file__}")


def options_of(part: str) -> dict[str, dict]:
    "Option → the changes that give it another value."
    changes = {}
    for name, field in PARTS[part].model_fields.items():
        changes[f"{part}.{name}"] = {f"{part}.{name}": other_value(f"{part}.{name}", field)}
    return changes


def inner_options(part: str) -> dict[str, dict]:
    "The same of the descriptions inside."
    changes = {}
    for path, description in INNER.items():
        if path.startswith(part):
            for name, field in description.model_fields.items():
                option = f"{path}.{name}"
                changes[option] = {option: other_value(option, field)} | WITH.get(option, {})
    families = {"objective.identity": IdentityLoss, "objective.metric": MetricLoss}
    for path, family in families.items():
        for kind, description in all_kinds(family).items() if part == "objective" else ():
            for name, field in description.model_fields.items():
                option = f"{path}.{name}"
                if name != "kind":
                    changes[f"{option} of {kind}"] = {f"{path}.kind": kind, option: other_value(option, field)}
    return changes


def context_for(option: str) -> dict:
    "What an option needs to have a meaning: its own part, and what is listed."
    option = option.partition(" of ")[0]
    outer = option.rpartition(".")[0]
    own = {outer: OTHER[outer]} if outer in INNER else {}
    return own | CONTEXT.get(outer, {}) | CONTEXT.get(option, {}) if outer in INNER else CONTEXT.get(option, {})


# ---- trainings


class Trained:
    "A method before training: the losses of its first step, and if need be what two steps give."

    def __init__(self, method, batches, *, schedule, image):
        self.method, self.batches = method, batches
        self.schedule, self.image = schedule, image
        self.learning = {name for name, parameter in method.named_parameters() if parameter.requires_grad}
        with torch.no_grad():
            losses = copy.deepcopy(method).train().losses({**batches[0], "epoch": 0.0})
        self.first = {name: float(loss) for name, loss in losses.items()}
        self.after = cache(self._after)

    def _after(self, steps: int) -> tuple:
        "Losses of some steps, vectors of a test, and parameters that learnt nothing."
        method = copy.deepcopy(self.method)
        schedule = self.schedule.model_copy(update=dict(warmup=0))
        plan = Plan(steps=steps, base_rate=1e-3, schedule=schedule, keep_history=1)
        history = fit(method, lambda part: loader(self.batches, part), plan).history
        losses = [[line[name] for name in self.first] for line in history]
        images = torch.randn(4, 3, *self.image, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            vectors = method.eval().embed(images)
        parameters = method.named_parameters()
        return losses, vectors.tolist(), {name for name, p in parameters if p.grad is None} & self.learning


class Runs:
    "Methods at preset smoke, smaller, in a store of their own."

    def __init__(self, folder):
        make_deterministic(1)
        scale = dict(gan_steps=1, steps=1, network_width=4, identities=8, clusters=8)
        self.preset = load_preset("smoke").model_copy(update=dict(store=str(folder), device="cpu") | scale)
        self.archive = Archive(self.preset, published=False)
        self.trained = cache(self._trained)
        self.start = cache(self._start)
        self.generated = cache(self._generated)

    def _generated(self, data: str, kind: str):
        generator = experiment_of(described(KINDS[kind], {"method.kind": kind}))
        return images_of_generator(generator, data, self.preset, seed=0, archive=self.archive)

    def _start(self, experiment: Experiment) -> dict:
        return prepare(context_of(experiment, self.preset)).method.inference_state()

    def _trained(self, experiment: Experiment) -> Trained:
        start = self.start(experiment.start) if experiment.start else {}
        generated = None
        if experiment.generator:
            generated = self.generated(experiment.data, experiment.generator.method.kind)
        context = context_of(experiment, self.preset, start=start, generated=generated)
        prepared = prepare(context)
        return Trained(prepared.method, prepared.batches, schedule=experiment.schedule, image=context.image)


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Runs:
    return Runs(tmp_path_factory.mktemp("options"))


def problem(runs: Runs, kind: str, option: str, change: dict) -> str | None:
    "What is wrong with an option; None where it is obeyed or refused."
    needed = [KINDS[kind], {"method.kind": kind}, context_for(option)]
    if isinstance(change.get(option), bool) and KINDS[kind].get(option) is change[option]:
        change = {option: not change[option]}  # a method without a neck says so: a neck is the other value
    try:
        experiment = experiment_of(described(*needed, change))
    except ConfigurationError as error:
        return None if "\n" not in str(error) else f"{option}: refused in more than one line"
    if option in needed[-1]:  # the context has the option itself
        needed[-1] = {key: value for key, value in needed[-1].items() if key.startswith("augmentation")}
    try:
        without, with_it = runs.trained(experiment_of(described(*needed))), runs.trained(experiment)
        new = with_it.learning - without.learning
        if with_it.first != without.first and not new:
            return None
        steps = STEPS.get(option, 3)
        losses, vectors, idle = with_it.after(steps)
        if (losses, vectors) == without.after(steps)[:2]:
            return f"{option} is ignored"
    except (ConfigurationError, DataError):
        return None
    except Exception as error:
        return f"{option}: {type(error).__name__}: {error}"
    return f"{option} brings {min(idle & new)}, which does not learn" if idle & new else None


def check_options(runs, kind, options):
    problems = [problem(runs, kind, option, change) for option, change in options.items()]
    assert not [description for description in problems if description]


def test_every_method_is_here():
    assert set(KINDS) == {kind for kind in all_kinds(MethodOptions)}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_option_is_obeyed_or_refused(runs, kind, part):
    check_options(runs, kind, options_of(part))


@pytest.mark.parametrize("part", ("model", "objective"))
@pytest.mark.parametrize("kind", ("supervised", "vpm", "mgn", "ssg"))
def test_options_of_losses_and_layers_are_obeyed_or_refused(runs, kind, part):
    check_options(runs, kind, inner_options(part))
