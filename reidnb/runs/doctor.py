"The doctor: what is installed, what was found, and what each preset can run."

# Before an evening of training, one look: versions, device, free disk, which real data sets lie under `data_root`, and for
# each preset whether it is ready or what it lacks. Nothing is read, drawn or downloaded.

import importlib.metadata
import os
import platform
import shutil
from collections.abc import Iterator
from itertools import product
from pathlib import Path

from reidnb.core.files import DamagedFile, leftovers, read_json
from reidnb.core.project import project_root
from reidnb.data.datasets import find_data, readable_names
from reidnb.data.samples import DataError
from reidnb.models.configuration import PUBLISHED_BLOCKS, Embedding
from reidnb.models.weights_options import PUBLISHED_WEIGHTS, backbone_name, starting_point
from reidnb.runs.presets import Preset, load_preset, preset_names
from reidnb.runs.records import Archive, read_result
from reidnb.synthetic.drawn import is_intact

IBN: tuple = (None, "a", "b")  # variants


def _has_gpu():
    try:
        import torch
    except ImportError:
        return False
    return torch.cuda.is_available()


def device_line() -> str:
    "Which device torch would train on."
    try:
        import torch
    except ImportError:
        return "torch is not installed: run make table, or pip install torch torchvision"
    device = torch.cuda.get_device_name() if _has_gpu() else f"cpu, {os.cpu_count()} cores"
    return f"torch {torch.__version__} on {device}"


def real_data_sets(preset: Preset) -> dict:  # name → folder or None
    "Which real data sets lie under a preset's data root."
    folders: dict = {}
    for name in readable_names():
        try:
            folders[name] = find_data(name, preset.data_root)
        except DataError:
            folders[name] = None
    return folders


def _store_problem(store: Path) -> str:  # "" for none
    "Why nothing can be kept in a store."
    existing = next(path for path in (store, *store.parents) if path.exists())
    if not existing.is_dir():
        return f"{existing} is a file, expected a folder"
    if not os.access(existing, os.W_OK):
        return f"{existing} cannot be written to; REIDNB_STORE names another"
    return ""


def _store_state(store):
    return _store_problem(store) or f"{_free_gigabytes(store):.0f} GB free"


def missing_requirements(
    preset: Preset,
    gpu: bool,  # whether there is one
) -> list:  # of sentences
    "What a preset still needs before it can run the Market tables."
    missing = []
    if problem := _store_problem(Path(preset.store)):
        missing.append(f"a store ({problem})")
    if preset.data == "real" and not real_data_sets(preset)["market"]:
        missing.append(f"Market-1501 under {preset.data_root}")
    if preset.weights not in ("none", *PUBLISHED_WEIGHTS) and not Path(preset.weights).exists():
        missing.append(f"the weights {preset.weights}, which are neither a file nor a folder")
    if preset.half and not gpu:
        missing.append("a CUDA GPU, without which it takes days")
    return missing


def starting_points() -> dict:  # the notes' name → text
    "What each backbone starts from where `weights = imagenet`."
    models = [
        Embedding(backbone=name, se=se, ibn=ibn) for name, se, ibn in product(PUBLISHED_BLOCKS, (False, True), IBN)
    ]
    models.append(Embedding(backbone="timm/hrnet_w18", last_stride=2))
    return {backbone_name(model): starting_point(model) for model in models}


def weights_of(preset: Preset) -> str:
    "What a preset's networks start from."
    if preset.weights == "none":
        return "random weights"
    if preset.weights in PUBLISHED_WEIGHTS:
        return f"{preset.weights} weights ('reidnb weights' lists each backbone's)"
    names = sorted(path.stem for path in Path(preset.weights).glob("*.safetensors"))
    return f"weights of {preset.weights}" + (f" for {', '.join(names)}" if names else "")


def _free_gigabytes(folder: Path) -> float:
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    return shutil.disk_usage(existing).free / 1e9


def _system_lines():
    version = importlib.metadata.version("reidnb")
    python, system = platform.python_version(), f"{platform.system()} {platform.machine()}"
    return [f"reidnb {version}, Python {python}, {system}", device_line()]


def _folder_lines(preset):
    store = Path(preset.store)
    lines = [
        f"project   {project_root()}",
        f"store     {store} ({_store_state(store)})",
        f"data root {preset.data_root}",
    ]
    for name, folder in real_data_sets(preset).items():
        lines.append(f"  {name:14} {folder or 'not found'}")
    return lines


def _preset_line(preset, gpu):
    missing = missing_requirements(preset, gpu)
    state = f"needs {' and '.join(missing)}" if missing else "ready"
    records = len(Archive(preset).runs())
    return f"preset {preset.name:10} {state}; {preset.data} data, {weights_of(preset)}, {records} records"


def _size(path: Path) -> int:  # bytes
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def describe_leftovers(store: Path) -> list:  # of lines
    "What `--clean` would free: what killed processes left behind more than a day ago."
    paths = leftovers(store)
    lines = [f"{path}  {_size(path) / 1e6:.1f} MB" for path in paths]
    total = sum(map(_size, paths)) / 1e6
    return [*lines, f"{len(paths)} left-overs of killed processes, {total:.1f} MB; table and batch remove them"]


def damaged_files(preset: Preset) -> Iterator[str]:  # a line for each
    "Every file of a preset's store that does not hold what was written, and published records likewise."
    from reidnb.data.images import is_whole
    from reidnb.training.checkpoints import CheckpointError, load_tensors

    archive, store = Archive(preset), Path(preset.store)
    for folder in archive.folders:
        for path in sorted(folder.glob("*.json")):
            yield from _complaint(read_result, path, DamagedFile)
    for path in sorted((store / "runs").glob("*/*.safetensors")):
        yield from _complaint(load_tensors, path, CheckpointError)
    for path in sorted((store / "runs").glob("*/history.json")):
        yield from _complaint(read_json, path, DamagedFile)
    for path in sorted((store / "images").glob("*.npy")):
        if not is_whole(path):
            yield f"{path}: not what was written"
    for root in sorted(path.parent for path in (store / "drawn").glob("*/*/drawn.csv")):
        if not is_intact(root):
            yield f"{root}: not the bytes that were drawn"


def _complaint(read, path, error_type):
    try:
        read(path)
    except error_type as error:
        yield str(error)


def examine() -> list:  # of lines
    "Everything the doctor has to say."
    presets = [load_preset(name) for name in preset_names()]
    gpu = _has_gpu()
    preset_lines = [_preset_line(preset, gpu) for preset in presets]
    return [*_system_lines(), *_folder_lines(presets[0]), *preset_lines]
