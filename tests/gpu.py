"""What a machine computes, and how fast: every kind of experiment, ResNet-50 at full size, evaluation at Market's size.

    make gpu                                          the figures of a CUDA card, in less than eight minutes
    python tests/gpu.py --device cpu --size smoke     the same script without a card: everything small

It needs no network, and nothing of papermill, Jupyter or Snakemake. Data is drawn, networks start from random weights. Each figure is printed as
soon as it is there and kept in a JSON file; a second call goes on with what is missing. A figure that cannot be had is a row
"failed: …". Exit code 0: all figures are there; 1: some failed; 2: the time was up, call it again."""

import argparse
import dataclasses
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # from a clone that is not installed

from reidnb.catalogue.experiment import Experiment
from reidnb.catalogue.experiments import load_table
from reidnb.core.configuration import ConfigurationError
from reidnb.core.files import write_json
from reidnb.core.project import project_root
from reidnb.data.batches import PKBatches, loader
from reidnb.evaluation.protocols import embed
from reidnb.evaluation.ranking import RetrievalLabels, rank_scores
from reidnb.evaluation.reranking import rerank
from reidnb.runs import execute
from reidnb.runs.datasets import draw_all, training_datasets
from reidnb.runs.presets import Preset, load_preset
from reidnb.runs.records import Archive, peak_memory
from reidnb.training.fit import fit

STEPS = 2  # of each kind of experiment
TOLERANCES = (5e-3, 5e-2)  # of the losses of these steps, relative: Adam's first step has the gradient's sign
NOT_NEEDED = ("papermill", "nbclient", "nbformat", "jupyter", "jupyter_core", "ipykernel", "IPython", "snakemake")
BASELINE = "market-backbones/r50-01"


class TimeIsUp(Exception):
    "No time is left for another figure."


# ---- figures


class Value(NamedTuple):
    "What was measured."

    value: float
    unit: str
    note: str = ""
    failed: str = ""  # why the value is not as it should be


class Figures:
    "All figures of a machine, printed and kept as they come."

    def __init__(self, path: Path, machine: dict, seconds: float):
        self.path, self.machine = path, machine
        self.end = time.perf_counter() + seconds
        self.rows: dict[str, dict] = {}
        if path.exists():
            self._read()
        print(", ".join(f"{name} {value}" for name, value in machine.items()), flush=True)
        for name in self.rows:
            self._print(name)

    def _read(self):
        "Figures of an earlier call; failed ones are measured again (`ConfigurationError` for those of another machine)."
        earlier = json.loads(self.path.read_text(encoding="utf8"))
        if earlier["machine"] != self.machine:
            differs = [name for name, value in self.machine.items() if earlier["machine"].get(name) != value]
            raise ConfigurationError(f"{self.path}: figures of another {', '.join(differs)}; name another --json")
        self.rows = {name: row for name, row in earlier["figures"].items() if not row["failed"]}

    def measure(self, name: str, figure: Callable[[], Value]):
        "Add a figure, unless it is there (`TimeIsUp`)."
        if name in self.rows:
            return
        if time.perf_counter() > self.end:
            raise TimeIsUp
        began = time.perf_counter()
        try:
            row = figure()._asdict()
        except Exception as error:  # whatever it is, it is a row
            reason = " ".join(str(error).split())[:300]
            row = Value(float("nan"), "", failed=f"{type(error).__name__}: {reason}")._asdict() | dict(value=None)
        self.rows[name] = row | dict(seconds=round(time.perf_counter() - began, 1))
        self._print(name)
        self.write()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def write(self):
        write_json(self.path, dict(machine=self.machine, figures=self.rows))

    def _print(self, name):
        row = self.rows[name]
        value = "" if row["value"] is None else f"{row['value']:.4g} {row['unit']}"
        failed = f"failed: {row['failed']}" if row["failed"] else ""
        remarks = "; ".join(filter(None, (failed, row["note"])))
        print(f"{name:60} {value:>18} {row['seconds']:7.1f} s  {remarks}".rstrip(), flush=True)

    def failed(self) -> list:
        return [name for name, row in self.rows.items() if row["failed"]]


# ---- presets: data is drawn, weights are random


def small_preset(store: Path, device: str) -> Preset:
    "The preset of the tests."
    changed = dict(store=str(store), steps=STEPS, gan_steps=STEPS, vpm_steps=STEPS, device=device)
    return load_preset("smoke").model_copy(update=changed)


def full_preset(store: Path, device: str) -> Preset:
    "Networks, images and batches of `full` on few drawn images, and as few steps as can be."
    drawn = dict(identities=64, images=8, test_identities=4, distractors=4, junk=2)
    partial_data = dict(partial_identities=4, ilids_identities=4)
    changed = dict(store=str(store), data="drawn", weights="none", device=device, workers=0)
    steps = dict(steps=1, gan_steps=1, vpm_steps=1, checkpoint_every=1000)
    return load_preset("full").model_copy(update=changed | steps | drawn | partial_data)


class Sizes(NamedTuple):
    "How large a call measures."

    name: str
    kinds: Preset  # of two steps of each kind
    baseline: Preset  # of ResNet-50's speed
    queries: int  # of the evaluation
    gallery: int
    dim: int


def sizes_of(size: str, store: Path, device: str) -> Sizes:
    full = full_preset(store / "full", device)
    if size == "full":
        return Sizes("full", full, full, queries=3368, gallery=15913, dim=2048)
    small = small_preset(store / "smoke", device)
    scale = {name: getattr(small, name) for name in ("identities", "images", "test_identities", "distractors", "junk")}
    few = dict(batch_divisor=8, image_height=128, image_width=64, store=small.store) | scale
    return Sizes("smoke", small, full.model_copy(update=few), queries=336, gallery=1591, dim=256)


# ---- two steps of an experiment


class Steps(NamedTuple):
    losses: list  # of each step, from the largest to the smallest
    memory: str


def two_steps(experiment: Experiment, preset: Preset) -> Steps:
    "Train as `run` does, and stop after two steps; runs that it builds on are trained by `run`."
    archive = Archive(preset, published=False)
    start = execute.starting_tensors(experiment, preset, 0, name="", archive=archive)
    generated = execute.generated_images_for(experiment, preset, 0, archive=archive)
    context = execute.context_of(experiment, preset, start=start, generated=generated)
    forget_peak()
    execute.make_deterministic(preset.threads)
    prepared = execute.prepare(context)
    if not experiment.method.learns:
        return Steps([], peak())
    plan = execute.training_plan(context, preset, prepared.batches.per_epoch)
    plan = dataclasses.replace(plan, steps=STEPS, keep_history=1, snapshots=())
    history = fit(prepared.method, partial(loader, prepared.batches), plan).history
    return Steps([losses_of(line) for line in history], peak())


def losses_of(line: dict) -> list:
    "The losses of a line of the history."
    other = ("step", "rate")
    values = [value for name, value in line.items() if name not in other and not name.startswith("weight.")]
    return sorted(values, reverse=True)


def forget_peak():
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def peak() -> str:
    "The most memory since `forget_peak`; of the process where there is no card."
    if torch.cuda.is_available():
        return f"peak {torch.cuda.max_memory_allocated() / 2**30:.2f} GiB"
    return f"peak of the process {peak_memory() / 1024:.2f} GiB"


def compared(experiment: Experiment, on_cpu: Preset, on_device: Preset) -> Value:
    "The largest relative difference between the losses on the device and on the processor."
    torch.backends.cudnn.allow_tf32 = False  # the comparison is in float32
    try:
        reference, device = two_steps(experiment, on_cpu).losses, two_steps(experiment, on_device).losses
    finally:
        torch.backends.cudnn.allow_tf32 = True
    differences = [relative_difference(*losses) for losses in zip(reference, device, strict=True)]
    failed = [f"step {k}: {d:.2g}" for k, d in enumerate(differences) if not d <= TOLERANCES[k]]
    note = "nothing to learn" if not differences else ""
    return Value(max(differences, default=0.0), "of a loss", note, failed=", ".join(failed))


def relative_difference(reference: list, device: list) -> float:
    pairs = zip(reference, device, strict=True)
    return max(abs(a - b) / max(abs(a), 1e-2) for a, b in pairs)


def timed_steps(experiment: Experiment, preset: Preset) -> Value:
    "Seconds of preparation and two steps."
    began = time.perf_counter()
    losses, memory = two_steps(experiment, preset)
    finite = np.isfinite(np.concatenate(losses)).all() if losses else True
    seconds = time.perf_counter() - began
    return Value(seconds, "s", memory, failed="" if finite else f"losses {losses}")


# ---- ResNet-50's speed


class InMemory:
    "A store of decoded images in memory."

    def __init__(self, store):
        self.samples = store.samples
        self.images = store[np.arange(len(store))]

    def __len__(self):
        return len(self.images)

    def __getitem__(self, rows):
        return self.images[rows]


def trained_speed(preset: Preset, *, half: bool, steps: int, warm_up: int) -> Value:
    "Images a second of the baseline's training, augmentation and the optimiser included."
    experiment = Experiment()
    preset = preset.model_copy(update=dict(half=half))
    context = execute.context_of(experiment, preset)
    batches = PKBatches(InMemory(context.training_images()), context.batch_images, experiment.batch.instances, seed=0)
    method = context.options.implemented().create(context, batches.classes)
    plan = execute.training_plan(context, preset, batches.per_epoch)
    plan = dataclasses.replace(plan, steps=warm_up + steps)
    moments = []
    execute.make_deterministic(preset.threads)
    forget_peak()
    fit(method, partial(loader, batches), plan, progress=lambda _: moments.append(time.perf_counter()))
    seconds = moments[-1] - moments[warm_up - 1]  # a step ends when its losses have been read
    height, width = context.image
    note = f"{height} × {width}, batch {context.batch_images}, {'bf16' if plan.half else 'float32'}, {peak()}"
    return Value(steps * context.batch_images / seconds, "images/s", note)


def embedded_speed(preset: Preset, images: int) -> Value:
    "Images a second of the baseline's features."
    context = execute.context_of(Experiment(), preset)
    method = context.options.implemented().create(context, 4).to(context.device).to(memory_format=torch.channels_last)
    store = context.training_images()
    rows = np.arange(images) % len(store)
    embed(method, store, rows, device=context.device)
    began = time.perf_counter()
    embed(method, store, rows, device=context.device)
    return Value(images / (time.perf_counter() - began), "images/s", "float32")


# ---- evaluation


class Features(NamedTuple):
    queries: np.ndarray  # (Q, D)
    gallery: np.ndarray  # (G, D)
    labels: RetrievalLabels


def drawn_features(sizes: Sizes, identities: int = 750, cameras: int = 6) -> Features:
    "Features around a centre for each identity, as a trained network gives them."
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((identities, sizes.dim), np.float32)
    pids = [rng.integers(identities, size=count) for count in (sizes.queries, sizes.gallery)]
    features = [centres[p] + 1.5 * rng.standard_normal((len(p), sizes.dim), np.float32) for p in pids]
    camids = [rng.integers(cameras, size=len(p)) for p in pids]
    return Features(*features, RetrievalLabels(*pids, *camids))


def evaluated(sizes: Sizes, features: Features, device: str, threads: int) -> Value:
    "Seconds from features to scores; numba compiles before."
    place = None if device == "cpu" else device
    rank = partial(rank_scores, labels=features.labels, threads=threads, device=place)
    rank(features.queries[:32], features.gallery, labels=first_queries(features.labels, 32))
    began = time.perf_counter()
    scores = rank(features.queries, features.gallery)
    seconds = time.perf_counter() - began
    return Value(seconds, "s", f"{sizes.queries} × {sizes.gallery} of {sizes.dim}, mAP {scores.mAP:.3f}")


def first_queries(labels: RetrievalLabels, count: int) -> RetrievalLabels:
    return labels._replace(query_pids=labels.query_pids[:count], query_camids=labels.query_camids[:count])


def reranked(sizes: Sizes, features: Features, device: str, threads: int) -> Value:
    "Seconds from features to re-ranked distances."
    again = partial(rerank, threads=threads, device=None if device == "cpu" else device)
    again(features.queries[:100], features.gallery[:300])
    began = time.perf_counter()
    distances = again(features.queries, features.gallery)
    failed = "" if np.isfinite(distances).all() else "distances are not finite"
    return Value(time.perf_counter() - began, "s", f"{peak()}", failed=failed)


# ---- all figures


def kinds_of(choice: str) -> list:
    "Experiments that have every choice of the tables, as table/run."
    keys = list(json.loads((project_root() / "data" / "training_net.json").read_text(encoding="utf8")))
    if not choice:
        return keys
    chosen = choice.split(",")
    if unknown := [key for key in chosen if key not in keys]:
        raise ConfigurationError(f"--kinds {','.join(unknown)}: expected some of {', '.join(keys)}")
    return chosen


def experiment_of(key: str) -> Experiment:
    slug, run = key.split("/")
    return load_table(slug).experiments[run]


def datasets_of(experiment: Experiment) -> set:
    "Single data sets that an experiment and the runs that it builds on train on."
    runs = (experiment.start, experiment.pretrain, experiment.generator, *experiment.members)
    return set(training_datasets(experiment)).union(*(datasets_of(run) for run in runs if run))


def drawn(preset: Preset, names: list) -> Value:
    "Draw the data sets that are not there yet, each in a process of its own where there are cores for it."
    began = time.perf_counter()
    workers = min(len(names), os.cpu_count() or 1)
    if workers <= 2:
        draw_all(preset, tuple(names))
    else:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            list(pool.map(partial(draw_all, preset), [(name,) for name in names]))
    return Value(time.perf_counter() - began, "s", ", ".join(names))


def without_notebooks() -> Value:
    "How many modules of notebooks and batches were imported; there should be none."
    imported = sorted({name.split(".")[0] for name in sys.modules} & set(NOT_NEEDED))
    return Value(len(imported), "modules", failed=", ".join(imported))


def all_figures(arguments) -> Iterator[tuple[str, Callable[[], Value]]]:
    "Names and functions, the ones that say most first."
    device, store = arguments.device, arguments.store
    sizes = sizes_of(arguments.size, store, device)
    small, small_cpu = (small_preset(store / "smoke", place) for place in (device, "cpu"))
    steps, warm_up = (64, 16) if arguments.size == "full" else (2, 1)
    kinds = [(key, experiment_of(key)) for key in kinds_of(arguments.kinds)]
    names = sorted(set().union(*(datasets_of(experiment) for _, experiment in kinds), ["market"]))
    yield "data at smoke, drawn", partial(drawn, small, names)
    yield f"data at {sizes.name} size, drawn", partial(drawn, sizes.kinds, names)
    speed = partial(trained_speed, sizes.baseline, steps=steps, warm_up=warm_up)
    yield "ResNet-50 baseline, training", partial(speed, half=True)
    if device == "cuda":
        yield "ResNet-50 baseline, training in float32", partial(speed, half=False)
    yield "ResNet-50 baseline, features", partial(embedded_speed, sizes.baseline, images=8 * steps)
    features = drawn_features(sizes)
    for threads, words in ((1, "one thread"), (0, "all cores")):
        yield f"evaluation, {words}", partial(evaluated, sizes, features, device, threads)
        yield f"re-ranking, {words}", partial(reranked, sizes, features, device, threads)
    for key, experiment in kinds:
        yield f"{device} and cpu, {key}", partial(compared, experiment, small_cpu, small)
    for key, experiment in kinds:
        yield f"two steps at {sizes.name}, {key}", partial(timed_steps, experiment, sizes.kinds)
    if sizes.kinds != sizes.baseline:
        yield f"two steps of full's network, {BASELINE}", partial(timed_steps, experiment_of(BASELINE), sizes.baseline)
    yield "imported of notebooks and batches", without_notebooks


def machine_of(device: str, size: str) -> dict:
    name = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    return dict(device=name, torch=torch.__version__, size=size)


def parsed(words: list | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--size", choices=("full", "smoke"), default="full", help="smoke: no card needed")
    parser.add_argument("--json", type=Path, help="where figures are kept (store/gpu.json)")
    parser.add_argument("--store", type=Path, help="where data is drawn (store/gpu)")
    parser.add_argument("--kinds", default="", help="experiments with commas between them (all of training_net.json)")
    parser.add_argument("--seconds", type=float, default=450, help="no figure is begun after so long")
    arguments = parser.parse_args(words)
    store = project_root() / "store"
    arguments.store = arguments.store or store / "gpu"
    arguments.json = arguments.json or store / "gpu.json"
    return arguments


def main(words: list | None = None) -> int:  # exit code
    arguments = parsed(words)
    if arguments.device == "cuda" and not torch.cuda.is_available():
        print("tests/gpu.py: torch sees no CUDA card here; expected one, or --device cpu --size smoke", file=sys.stderr)
        return 1
    try:
        figures = Figures(arguments.json, machine_of(arguments.device, arguments.size), arguments.seconds)
        for name, figure in all_figures(arguments):
            figures.measure(name, figure)
    except ConfigurationError as error:
        print(f"tests/gpu.py: {error}", file=sys.stderr)
        return 1
    except TimeIsUp:
        print(f"{arguments.seconds:.0f} s are over; the same command goes on with the figures that are missing")
        return 2
    failed = figures.failed()
    print(f"{len(figures.rows)} figures in {arguments.json}" + (f", {len(failed)} failed" if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
