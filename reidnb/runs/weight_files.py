"What a file of trained weights holds, which backbones it fits, and its tensors as a safetensors file."

# A .pth file is a pickle: reading one may run code. torch reads it here with `weights_only`, which builds tensors and plain
# values and refuses everything else before it is called.

import pickle
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save_file

from reidnb.core.configuration import ConfigurationError
from reidnb.models.backbones import new_backbone
from reidnb.models.blocks import add_parts
from reidnb.models.configuration import PUBLISHED_BLOCKS, Embedding, Size
from reidnb.models.timm_networks import new_timm_network, own_heads
from reidnb.models.weights import (
    HEADS,
    gates_as_convolutions,
    misfits,
    parts_in,
    published_name,
    read_safetensors,
    weight_file,
    without_heads,
    without_prefixes,
)
from reidnb.models.weights_options import PUBLISHED_WEIGHTS, backbone_name, starting_point, untrained

WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network", "module", "weights")  # keys of checkpoints
TIMM_NETWORKS = ("timm/hrnet_w18",)  # those that tables name


class WeightFile(NamedTuple):
    "The tensors of a file, and how they were wrapped."

    tensors: dict  # name → tensor, without prefixes
    wrappers: list[str]  # keys under which they lay
    prefixes: list[str]  # that stood in front of names


def read_weight_file(path: Path) -> WeightFile:
    "Tensors of a safetensors or a .pth file (`ConfigurationError` for anything else; code in a file is not run)."
    if not path.is_file():
        raise ConfigurationError(f"{path}: no such file; expected a safetensors or .pth file")
    content = read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)
    tensors, wrappers = unwrapped(content, path)
    stripped, prefixes = without_prefixes(tensors)
    return WeightFile(stripped, wrappers, prefixes)


def _read_pickle(path):
    "The content of a .pth file that holds tensors and plain values alone."
    expected = "expected a file of tensors (state_dict)"
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        code = re.search(r"GLOBAL (\S+)", str(error))
        what = f"calls {code[1]}" if code else "has more than tensors in it"
        raise ConfigurationError(f"{path}: it {what}, which was not run; {expected}") from None
    except (EOFError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigurationError(f"{path}: neither a safetensors nor a .pth file ({reason}); {expected}") from None


def unwrapped(
    content: Any,  # of a file
    path: Path,  # for the message
) -> tuple[dict, list[str]]:  # name → tensor, and the keys under which they lay
    "The tensors of a checkpoint, whatever else it holds (`ConfigurationError` where there are none)."
    wrappers: list[str] = []
    while isinstance(content, dict):
        if tensors := {name: value for name, value in content.items() if isinstance(value, torch.Tensor)}:
            return tensors, wrappers
        inner = next((key for key in WRAPPERS if isinstance(content.get(key), dict)), None)
        if inner is None:
            break
        wrappers.append(inner)
        content = content[inner]
    expected = f"expected tensors by name, or under {', '.join(WRAPPERS)}"
    raise ConfigurationError(f"{path}: no tensors; {expected}")


def convert(
    file: WeightFile,
    path: Path,  # of the new file
):
    "Write the tensors of a file as safetensors (`ConfigurationError` where the new file exists)."
    if path.suffix != ".safetensors" or path.exists():
        raise ConfigurationError(f"--to {path}: expected the name of a new file that ends in .safetensors")
    separate = {name: tensor.contiguous().clone() for name, tensor in file.tensors.items()}
    save_file(separate, path)


# ---- which backbones a file fits


def candidates(parts: frozenset) -> list[Embedding]:  # se, ibn_a, ibn_b
    "Backbones of the published shapes with these parts."
    ibn: Any = next((part.removeprefix("ibn_") for part in parts if part != "se"), None)
    residual = [Embedding(backbone=name, se="se" in parts, ibn=ibn) for name in PUBLISHED_BLOCKS]
    return residual + [Embedding(backbone=name, last_stride=2) for name in TIMM_NETWORKS]


def differences(
    model: Embedding,  # a backbone
    tensors: dict,  # of a file
) -> dict[str, list[str]]:  # kind → names; {} where the file fits
    "What keeps a file from being a backbone's weights."
    net: Any
    rename: Callable = published_name
    heads: Sequence[str] = HEADS
    with torch.device("meta"):
        if model.of_timm:
            net = new_timm_network(model.backbone.removeprefix("timm/"), Size())
            rename, heads = str, own_heads(net)
        else:
            net = new_backbone(model, Size())
            add_parts(net, sorted(parts_in(tensors)))
    inner, _ = without_heads(tensors, heads)
    shapes = {rename(name): tensor.shape for name, tensor in net.state_dict().items()}
    return misfits(shapes, inner)


def describe_weight_file(path: Path) -> list[str]:
    "What a file holds and which backbones it fits, in lines."
    file = read_weight_file(path)
    numbers = sum(tensor.numel() for tensor in file.tensors.values())
    size = sum(tensor.numel() * tensor.element_size() for tensor in file.tensors.values())
    first = f"{path}: {len(file.tensors)} tensors, {numbers / 1e6:.2f} million numbers, {size / 1e6:.1f} MB"
    return [first, *notes(file), f"fits {_fitting(gates_as_convolutions(file.tensors))}"]


def notes(file: WeightFile) -> list[str]:
    "How the tensors of a file were wrapped, what is in their blocks, and what is left out."
    lines = []
    if file.wrappers:
        lines.append(f"wrapped in {'.'.join(file.wrappers)}")
    if file.prefixes:
        lines.append(f"prefixes {' '.join(file.prefixes)} stripped")
    if parts := parts_in(gates_as_convolutions(file.tensors)):
        lines.append(f"has {' and '.join(sorted(parts))} in its blocks")
    if dropped := without_heads(file.tensors)[1]:
        lines.append(f"left out {', '.join(dropped)}")
    return lines


def loaded_weights(
    model: Embedding,  # which network
    weights: str,  # imagenet, imagenet-v2, a folder or a file
) -> str:
    "What a network was started from, for its record."
    if weights in PUBLISHED_WEIGHTS:
        return starting_point(model, weights)
    path = weight_file(model, weights)
    file = read_weight_file(path)
    parts = parts_in(gates_as_convolutions(file.tensors))
    return "; ".join([str(path), *notes(file), *untrained(model, parts)])


def _fitting(tensors):
    "The backbones that a file fits; where there is none, why the nearest is none."
    wrong = {backbone_name(model): differences(model, tensors) for model in candidates(parts_in(tensors))}
    if fitting := [name for name, kinds in wrong.items() if not kinds]:
        return f"{', '.join(fitting)}, and the same with more in its blocks"
    nearest = min(wrong, key=lambda name: sum(map(len, wrong[name].values())))
    reasons = [f"{len(names)} {kind}, the first {names[0]}" for kind, names in wrong[nearest].items()]
    return f"no backbone; nearest is {nearest} ({'; '.join(reasons)})"
