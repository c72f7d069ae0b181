"""What a training step consists of, operation by operation, for every kind of experiment, under autocast as in `full`.

On a GPU deterministic mode refuses some operations, most of them gradients. No GPU is needed to find them: backward runs
the same operations on a CPU. Torch's own list (`torch.use_deterministic_algorithms`) says which."""

import re
import sys
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from test_training_net import ENTRIES, choices, experiment_named, net_preset, prepare
from torch.utils._python_dispatch import TorchDispatchMode

from reidnb.models import generators

# What torch's list names as refused → the operations that are meant, as beginnings of their names.
REFUSED = {
    "AvgPool3d": ("avg_pool3d_backward",),
    "AdaptiveAvgPool2d": ("_adaptive_avg_pool2d_backward",),
    "AdaptiveAvgPool3d": ("_adaptive_avg_pool3d_backward",),
    "AdaptiveMaxPool2d": ("adaptive_max_pool2d_backward", "adaptive_max_pool3d_backward"),
    "FractionalMaxPool2d": ("fractional_max_pool2d_backward",),
    "FractionalMaxPool3d": ("fractional_max_pool3d_backward",),
    "MaxUnpool1d": ("max_unpool2d",),  # the one-dimensional one calls it
    "MaxUnpool2d": ("max_unpool2d",),
    "MaxUnpool3d": ("max_unpool3d",),
    "interpolate": (
        "upsample_linear1d_backward",
        "upsample_bilinear2d_backward",
        "_upsample_bilinear2d_aa_backward",
        "upsample_bicubic2d_backward",
        "_upsample_bicubic2d_aa_backward",
        "upsample_trilinear3d_backward",
    ),
    "ReflectionPad1d": ("reflection_pad1d_backward",),
    "ReflectionPad2d": ("reflection_pad2d_backward",),
    "ReflectionPad3d": ("reflection_pad3d_backward",),
    "NLLLoss": ("nll_loss2d_forward",),  # of maps; that of vectors, as classifiers use it, is deterministic
    "CTCLoss": ("_ctc_loss_backward", "_cudnn_ctc_loss"),
    "EmbeddingBag": ("_embedding_bag",),
    "put_": ("put",),
    "histc": ("histc",),
    "bincount": ("bincount",),
    "median": ("median.dim", "nanmedian.dim", "kthvalue"),
    "grid_sample": ("grid_sampler_2d_backward", "grid_sampler_3d_backward"),
    "scatter_reduce": ("scatter_reduce",),
}
# On other devices than CUDA, or for quantised tensors.
ELSEWHERE = {"index_put", "index_reduce", "kthvalue", "Embedding", "MaxPool2d", "MaxPool3d", "resize_"}
# Operations that run although they are refused: (operation, kinds of methods) → why that is harmless.
EXCEPTIONS: dict[tuple[str, tuple], str] = {}
PRODUCTS = ("mm.", "bmm.", "addmm.", "baddbmm.", "_cdist_forward.")  # of features


class Operations(TorchDispatchMode):
    "Names of all operations, and matrix products of half precision in the package's losses."

    def __init__(self):
        super().__init__()
        self.names: set[str] = set()
        self.half_products: set[str] = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = str(function).removeprefix("aten.")
        self.names.add(name)
        if name.startswith(PRODUCTS) and any(getattr(value, "dtype", None) == torch.bfloat16 for value in args):
            self.half_products |= calling_loss()
        return function(*args, **(kwargs or {}))


def calling_loss() -> set[str]:
    "File and line of the innermost code of the package, if that belongs to a loss and calls no layer of a network."
    frame = sys._getframe(2)
    while frame is not None:
        path = frame.f_code.co_filename
        if path.endswith("torch/nn/modules/linear.py"):
            return set()
        if "/reidnb/" in path:
            return {f"{path}:{frame.f_lineno}"} if "/reidnb/losses/" in path else set()
        frame = frame.f_back
    return set()


def refused(names: set[str], kind: str = "") -> set[str]:
    "Those operations that have no deterministic implementation on a GPU."
    prefixes = tuple(prefix for ops in REFUSED.values() for prefix in ops)
    excepted = tuple(op for op, kinds in EXCEPTIONS if kind in kinds)
    return {n for n in names if re.split(r"\.default|_$", n)[0].startswith(prefixes) and not n.startswith(excepted)}


def test_the_list_is_torchs():
    text = torch.use_deterministic_algorithms.__doc__.partition("operations will throw a")[2].partition("In addition")[
        0
    ]
    documented = set(re.findall(r":(?:class|func):`torch\.(?:\w+\.)*(\w+)`", text))
    assert documented - ELSEWHERE == set(REFUSED)


def test_refused_operations_are_found():
    x = torch.randn(2, 4, 8, 8, requires_grad=True)
    labels = torch.zeros(2, 8, 8, dtype=torch.long)
    for function in (
        lambda: F.adaptive_max_pool2d(x, (2, 1)).sum(),
        lambda: F.adaptive_avg_pool2d(x, (2, 1)).sum(),
        lambda: F.pad(x, (1, 1, 1, 1), mode="reflect").sum(),
        lambda: F.interpolate(x, (16, 16), mode="bilinear").sum(),
        lambda: F.grid_sample(x, torch.zeros(2, 3, 3, 2), align_corners=False).sum(),
        lambda: F.cross_entropy(x, labels),
    ):
        with Operations() as operations:
            function().backward()
        assert len(refused(operations.names)) == 1, operations.names
    with Operations() as operations:
        F.cross_entropy(x.mean((2, 3)), labels[:, 0, 0]).backward()
        F.max_pool2d(x, 2).sum().backward()
    assert not refused(operations.names)


def cover() -> list:
    "A small set of experiments with every choice of method, network and losses."
    named = {}
    for key in ENTRIES:
        experiment = experiment_named(key)
        if not experiment.members:  # nothing is left to learn
            chosen = choices(experiment)
            named[key] = {c for c in chosen if c.startswith(("method.", "model.", "objective."))} | {"plain"}
    left, keys = set().union(*named.values()), []
    while left:
        best = max(named, key=lambda key: (len(named[key] & left), -len(named[key])))
        keys.append(best)
        left -= named[best]
    return keys


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    return net_preset(tmp_path_factory.mktemp("ops"))


@pytest.mark.parametrize("key", cover())
def test_a_step_is_deterministic_on_a_gpu_and_compares_in_full_precision(key, preset, monkeypatch):
    from reidnb.data.batches import loader
    from reidnb.runs.execute import make_deterministic
    from reidnb.runs.records import Archive
    from reidnb.training.fit import Plan, fit

    monkeypatch.setattr(generators, "reflected", generators.joined_margins)  # as on a GPU
    monkeypatch.setattr(generators, "halves", generators.joined_halves)
    make_deterministic(1)
    experiment = preset.resolved(experiment_named(key))
    method, batches = prepare(experiment, preset, 0, Archive(preset, published=False))
    rate = preset.rate_of(experiment)
    plan = Plan(1, rate, experiment.schedule, experiment.optimiser, half=True)
    with Operations() as operations:
        fit(method, partial(loader, batches), plan)
    assert any("backward" in name for name in operations.names)
    assert not refused(operations.names, experiment.method.kind)
    assert not operations.half_products
