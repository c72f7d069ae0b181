"Mutated inputs through the real loaders: a mistake is one of our errors, with a message; anything else is a traceback."

import io
import json
import random
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from reidnb.catalogue.experiments import TableFile, load_table, resolve_runs, table_slugs
from reidnb.core.configuration import ConfigurationError, read_toml, validate
from reidnb.core.files import DamagedFile, read_json, write_json
from reidnb.core.project import project_root
from reidnb.data.images import decode
from reidnb.data.samples import DataError
from reidnb.evaluation.features import read_features, score_features
from reidnb.runs.presets import load_preset
from reidnb.runs.records import read_result
from reidnb.training.checkpoints import CheckpointError, load_tensors, save_tensors

from .counts import Counts

OURS = (ConfigurationError, DataError, DamagedFile, CheckpointError)
VALUES = [
    None,
    True,
    -1,
    0,
    1,
    5,
    1e308,
    float("nan"),
    "",
    "none",
    "../../x",
    "<script>",
    "$(touch executed)",
    "ü" * 50,
    [],
    [1],
    {},
    {"kind": "x"},
    [[[]]],
]


class Loader(NamedTuple):
    "Something that reads a file."

    name: str
    suffix: str
    whole: bytes  # an input that is right
    read: Callable[[Path], Any]
    checked: bool = False  # whether it has a checksum: a mutant that can be read has to hold the same


def mutated_bytes(data: bytes, rng: random.Random) -> bytes:
    "Flipped bits, cut ends, doubled or removed pieces, foreign bytes."
    mutant = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        at = rng.randrange(len(mutant)) if mutant else 0
        size = rng.choice((1, 4, 64, 1024))
        how = rng.randrange(6)
        if how == 0 and mutant:
            mutant[at] ^= 1 << rng.randrange(8)
        elif how == 1:
            del mutant[at:]
        elif how == 2:
            del mutant[at : at + size]
        elif how == 3:
            mutant[at:at] = mutant[at : at + size]
        elif how == 4:
            mutant[at:at] = rng.randbytes(size)
        else:
            mutant[at:at] = rng.choice(
                (b"\x00", b"\xff\xfe", b'"', b"{", b"]", b"\n[x]\n", b"= 5\n", b",,,", b"../", b"9" * 400)
            )
    return bytes(mutant)


def mutated_values(value: Any, rng: random.Random) -> Any:
    "A nested description in which one value, key or piece is another."
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(sorted(value))
        how = rng.randrange(8)
        changed = dict(value)
        if how == 0:
            del changed[key]
        elif how == 1:
            changed[f"{key}x"] = changed.pop(key)
        else:
            changed[key] = mutated_values(value[key], rng)
        return changed
    if isinstance(value, list) and value and rng.random() < 0.7:
        changed = list(value)
        at = rng.randrange(len(changed))
        changed[at] = mutated_values(changed[at], rng)
        return changed
    return rng.choice(VALUES)


def _npz() -> bytes:
    rng, file = np.random.default_rng(0), io.BytesIO()
    pids = np.repeat(np.arange(4), 3)
    split = np.where(np.arange(12) % 3 == 0, "query", "gallery")
    features = rng.normal(size=(12, 4)).astype(np.float32)
    np.savez(file, features=features, pids=pids, camids=np.tile([1, 2, 3], 4), split=split)
    return file.getvalue()


def _image(suffix: str) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 255, (32, 16, 3), np.uint8)
    Image.fromarray(pixels).save(file, "JPEG" if suffix == ".jpg" else "PNG")
    return file.getvalue()


def _weights(folder: Path) -> bytes:
    import torch

    path = folder / "whole.safetensors"
    save_tensors(path, {"a": torch.arange(40.0), "b": torch.ones(3, 4)}, run="r", step=1)
    return path.read_bytes()


def _read_table(path: Path):
    file = validate(TableFile, read_toml(path), path.name)
    resolve_runs(file.runs, path.name)


def _read_scored(path: Path):
    score_features(read_features(path))


def _result_bytes(folder: Path) -> bytes:
    published = project_root() / "reports" / "records" / "mini"
    content = read_json(next(path for path in sorted(published.glob("*.*.json"))))
    write_json(folder / "whole.json", content)
    return (folder / "whole.json").read_bytes()


def _read_weights(path: Path) -> Any:
    tensors, facts = load_tensors(path)
    return {name: tensor.tolist() for name, tensor in sorted(tensors.items())}, facts


def loaders(folder: Path) -> list[Loader]:
    "Every kind of file that is read, with an input that is right."
    root = project_root()
    plan = (root / "data" / "experiments" / "market-backbones.toml").read_bytes()
    settings = (root / "settings.ini").read_bytes()
    result = _result_bytes(folder)
    return [
        Loader("TOML of a table", ".toml", plan, _read_table),
        Loader("settings", ".ini", settings, lambda path: load_preset("smoke", path)),
        Loader("features", ".npz", _npz(), _read_scored),
        Loader("weights", ".safetensors", _weights(folder), _read_weights, checked=True),
        Loader("scores", ".json", result, _read_renamed, checked=True),
        Loader("JPEG", ".jpg", _image(".jpg"), lambda path: decode(path, (32, 16))),
        Loader("PNG", ".png", _image(".png"), lambda path: decode(path, (32, 16))),
    ]


def _read_renamed(path: Path) -> dict:
    "Scores are read under their own name."
    try:
        run = json.loads(path.read_text(encoding="utf8")).get("run")
    except (ValueError, AttributeError, RecursionError):
        run = None
    name = run if isinstance(run, str) and run.isalnum() else "0" * 12
    other = path.with_name(f"{name}.000000.json")
    other.write_bytes(path.read_bytes())
    try:
        return read_result(other)
    finally:
        other.unlink()


def try_bytes(loader: Loader, folder: Path, rng: random.Random, counts: Counts):
    "One mutant of a file."
    kind = f"mutated {loader.name}"
    counts.tried(kind)
    path = folder / f"mutant{loader.suffix}"
    path.write_bytes(mutated_bytes(loader.whole, rng))
    read = _expect_ours(kind, lambda: loader.read(path), counts, path.read_bytes()[:200])
    if loader.checked and read is not None:
        whole = folder / f"original{loader.suffix}"
        whole.write_bytes(loader.whole)
        if read != loader.read(whole):
            counts.bad(kind, "wrong", f"read as {str(read)[:200]}")
    _count_executed(kind, folder, counts)


def try_description(rng: random.Random, counts: Counts):
    "One mutant of a description that TOML has read."
    kind = "mutated description"
    counts.tried(kind)
    slug = rng.choice(table_slugs())
    raw = tomllib.loads((project_root() / "data" / "experiments" / f"{slug}.toml").read_text(encoding="utf8"))
    mutant = mutated_values(raw, rng)

    def read():
        file = validate(TableFile, mutant, "mutant.toml")
        resolve_runs(file.runs, "mutant.toml", lambda other: _runs_of(other))

    _expect_ours(kind, read, counts, slug)


def _runs_of(slug: str) -> dict:
    from reidnb.catalogue.experiments import _read_file

    return _read_file(slug, project_root()).runs


def try_name(rng: random.Random, counts: Counts):
    "One name of a table, preset or row that does not exist."
    kind = "mutated names"
    counts.tried(kind)
    name = rng.choice(
        [
            "../" * 5 + "etc/passwd",
            "market-backbone",
            "",
            "a" * 5000,
            "$(touch executed)",
            "x\x00y",
            "ü",
            "{run}",
            "r50-01/..",
        ]
    )
    read = rng.choice((load_table, load_preset))
    _expect_ours(kind, lambda: read(name), counts, name)


def _expect_ours(kind, read, counts, example):
    try:
        return read()
    except OURS as error:
        if not str(error).strip() or "\n" in str(error).strip():
            counts.bad(kind, "traceback", f"a message of several lines or none: {error!r} for {example!r}")
    except Exception as error:
        counts.bad(kind, "traceback", f"{type(error).__name__}: {error} for {example!r}")


def _count_executed(kind, folder, counts):
    if (folder / "executed").exists() or Path("executed").exists():
        counts.bad(kind, "executed", "a file 'executed' was made")


def mutate(folder: Path, seed: int, count: int, counts: Counts):
    "Some mutants of every kind, the same for the same seed."
    rng = random.Random(seed)
    readers = loaders(folder)
    for number in range(count):
        which = number % (len(readers) + 2)
        if which < len(readers):
            try_bytes(readers[which], folder, rng, counts)
        elif which == len(readers):
            try_description(rng, counts)
        else:
            try_name(rng, counts)
