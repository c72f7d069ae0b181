"`run(experiment, preset, seed)` leaves a record; `score(run, protocol)` leaves scores."

# Everything that trains calls these two: a notebook, the command line, a batch, a test. A run that has a record is not run again; a run that
# was killed goes on from its checkpoint; a run that failed says why in `failed.json`; a protocol that is added later tests the weights that
# were saved. An experiment goes down once, to the method that prepares it.

import contextlib
import dataclasses
import datetime
import json
import math
import os
import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ..catalogue.experiment import Experiment
from ..core.configuration import ConfigurationError, describe
from ..core.files import is_sound, notice, write_json
from ..data.batches import loader
from ..data.generated import GeneratedImages
from ..data.images import ImageStore
from ..data.unlabelled import mask_store
from ..evaluation.configuration import Protocol
from ..evaluation.intervals import bootstrap_interval
from ..evaluation.protocols import evaluate
from ..evaluation.ranking import Scores
from ..methods.base import Context, Generation, GeneratorSize, Prepared
from ..synthetic.drawn import drawing_of
from ..training.checkpoints import CheckpointError, DamagedCheckpoint, load_tensors, prefixed, save_tensors
from ..training.fit import Method, Plan, Training, fit
from .datasets import (
    about_data,
    batch_images,
    data_fingerprint,
    dataset_root,
    identity_attributes,
    image_folder,
    image_size,
    input_scale,
    open_data,
    run_id,
    scaled_experiment,
    start_run,
    testing_scale,
    total_steps,
    training_datasets,
    training_fingerprint,
    training_scale,
)
from .presets import Preset
from .records import Archive, pack_scores, peak_memory, provenance, scores_identity
from .weight_files import loaded_weights

WEIGHTS = "weights.safetensors"


def choose_device(preset: Preset) -> str:
    "cuda or cpu (`ConfigurationError` where the preset wants a GPU and there is none)."
    available = torch.cuda.is_available()
    if preset.device == "cuda" and not available:
        raise ConfigurationError(
            f"settings.ini [{preset.name}] device = cuda: torch sees no CUDA GPU here; use auto or cpu"
        )
    return "cuda" if available and preset.device != "cpu" else "cpu"


def make_deterministic(threads: int):
    "The same numbers from the same seed, bit for bit."
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    torch.set_num_threads(threads)


# ---- the context of a method


def context_of(
    experiment: Experiment,
    preset: Preset,
    seed: int = 0,
    *,
    start: dict | None = None,  # trained tensors of the run that this one starts from
    generated: GeneratedImages | None = None,  # images that another run generated for this one
) -> Context:
    "What surrounds a method in a training, or where its weights are loaded."
    experiment = preset.resolved(experiment)
    scale = training_scale(experiment)
    sizes: dict[str, Any] = dict(
        size=preset.network_size(experiment.model.backbone),
        image=image_size(preset, input_scale(experiment)),
        batch_images=batch_images(experiment, preset),
        batch_divisor=preset.batch_divisor,
        generator_size=generator_size(experiment, preset),
        settings=preset.further_settings(experiment),
    )
    data: dict[str, Any] = dict(
        images=lambda name: open_data(name, preset, "train", scale=scale),
        attributes=lambda name: identity_attributes(name, preset),
        masks=lambda name, images: person_masks(name, images, preset),
        folder=image_folder(preset),
        fingerprint=training_fingerprint(experiment, preset),
    )
    return Context(
        experiment=scaled_experiment(experiment, preset),
        seed=seed + 1000 * experiment.repetition,
        device=choose_device(preset),
        start=start or {},
        generated=generated,
        of_member=lambda member: context_of(member, preset, seed),
        **sizes,
        **data,
    )


def generator_size(experiment: Experiment, preset: Preset) -> GeneratorSize:
    "How large a generator's networks and the crops of its training are; of no use to other methods."
    if not experiment.method.generates:
        return GeneratorSize()
    blocks = preset.generator_blocks(experiment)
    return GeneratorSize(preset.gan_width, blocks, image_size(preset, experiment.image_scale))


def person_masks(
    name: str,  # of the data set
    images: ImageStore,
    preset: Preset,
) -> ImageStore:
    "Masks of the people on a data set's images (`DataError` where it has none)."
    return mask_store(images, str(image_folder(preset)), data_fingerprint(name, preset))


def prepare(context: Context) -> Prepared:
    "All that a training needs before its first step, by the method that the experiment names."
    return context.options.implemented().prepare(context)


# ---- images that another run generates


def generated_images_for(
    experiment: Experiment, preset: Preset, seed: int, *, archive: Archive
) -> GeneratedImages | None:
    "Images that the generator of an experiment makes for it, if it has one; trains it if it has not run."
    if experiment.generator is None:
        return None
    share = getattr(experiment.method, "share", 1.0)
    return images_of_generator(experiment.generator, experiment.data, preset, seed=seed, archive=archive, share=share)


def images_of_generator(
    generator: Experiment,
    domain: str,  # whose images are translated, or counted
    preset: Preset,
    *,
    seed: int,
    archive: Archive,
    share: float = 1.0,  # generated images for each real one
) -> GeneratedImages:
    "Images that a run generates: it is trained if it has not run, and they are made if they are not there yet."
    generator = preset.resolved(generator)
    record = run(generator, preset, seed, name=f"images for {domain}", archive=archive)

    def open_images(name):
        return open_data(name, preset, "train", scale=generator.image_scale)

    request = Generation(
        run=record["run"],
        data=generator.data,
        domain=domain,
        cameras=record["classes"],
        share=share,
        seed=seed,
        device=choose_device(preset),
        image=preset.image_size,
        folder=image_folder(preset),
        images=open_images,
        load=cache(lambda: _trained_generator(generator, preset, seed, archive=archive)),
    )
    return generator.method.implemented().generated(request)


def _trained_generator(generator, preset, seed, *, archive):
    "The network that makes images; trained again if its weights are not here."
    record = run(generator, preset, seed, archive=archive, weights=True)
    return load_trained(record, generator, preset, archive=archive)


# ---- a run


class Trained(NamedTuple):
    "A finished training and what it was prepared from."

    training: Training
    prepared: Prepared


def train(
    context: Context,
    preset: Preset,
    *,
    run_name: str = "",  # id of the run, for its checkpoints
    folder: Path | None = None,  # for checkpoints; None keeps none
    progress: Callable | None = None,  # called with the number of training images since the last call
) -> Trained:
    "Train to the end, from a checkpoint if there is one."
    make_deterministic(preset.threads)
    prepared = prepare(context)
    plan = training_plan(context, preset, prepared.batches.per_epoch)
    plan = dataclasses.replace(plan, folder=folder, run=run_name)
    report_images = (lambda steps: progress(steps * context.batch_images)) if progress else None
    batches = partial(loader, prepared.batches, workers=preset.workers)
    return Trained(fit(prepared.method, batches, plan, progress=report_images), prepared)


def training_plan(
    context: Context,
    preset: Preset,
    per_epoch: int,  # batches in a real epoch
) -> Plan:
    "How long and how fast an experiment is trained under a preset."
    experiment = context.experiment
    steps = total_steps(experiment, preset, per_epoch)
    snapshots = tuple(steps * (k + 1) // experiment.snapshots for k in range(experiment.snapshots))
    return Plan(
        steps=steps,
        snapshots=snapshots,
        base_rate=preset.rate_of(experiment),
        schedule=preset.schedule_of(experiment),
        optimiser=preset.optimiser_of(experiment),
        device=context.device,
        half=preset.half_of(experiment) and context.device == "cuda",
        every=preset.checkpoint_every,
    )


def starting_tensors(
    experiment: Experiment, preset: Preset, seed: int, *, name: str, archive: Archive
) -> dict:  # name → tensor, {} where a run starts from nothing
    "Trained tensors of the run that an experiment starts from, or of its members, each behind its number."
    before = start_run(experiment, preset)
    tensors: dict = {}
    if before is not None:
        record = run(before, preset, seed, name=f"start of {name}", archive=archive, weights=True)
        tensors |= trained_tensors(record, archive)
    for number, member in enumerate(experiment.members):
        record = run(member, preset, seed, name=f"member of {name}", archive=archive, weights=True)
        tensors |= prefixed(trained_tensors(record, archive), str(number))
    return tensors


def run(
    experiment: Experiment,
    preset: Preset,
    seed: int = 0,
    *,
    name: str = "",  # for people; not part of the id
    archive: Archive | None = None,  # where records are; default the preset's
    progress: Callable | None = None,  # called with the number of training images since the last call
    weights: bool = False,  # whether its weights are wanted, too: without them this machine's own record is not enough
) -> dict:  # the record
    "Train an experiment, or return its record if it was trained before."
    archive = archive or Archive(preset)
    experiment = preset.resolved(experiment)
    run_name = run_id(experiment, preset, seed)
    if record := archive.read(run_name):
        if not weights or archive.is_published_only(run_name) or has_whole_weights(run_name, archive):
            return record
        archive.drop_scores(run_name)  # all scores of a run come from one training
    start = starting_tensors(experiment, preset, seed, name=name, archive=archive)
    generated = generated_images_for(experiment, preset, seed, archive=archive)
    context = context_of(experiment, preset, seed, start=start, generated=generated)
    folder, began = archive.run_folder(run_name), time.perf_counter()
    trained = train(context, preset, run_name=run_name, folder=folder, progress=progress)
    state = trained.training.trained().inference_state()
    save_tensors(folder / WEIGHTS, state, run=run_name, classes=trained.prepared.batches.classes)
    write_json(folder / "history.json", dict(run=run_name, history=trained.training.history))
    record = dict(run=run_name, name=name, seed=seed, preset=preset.name)
    record["train_seconds"] = round(time.perf_counter() - began, 1)
    record |= about_run(experiment, preset, trained)
    archive.write(run_name, record)
    for leftover in ("checkpoint.safetensors", "failed.json"):
        (folder / leftover).unlink(missing_ok=True)
    return record


def has_whole_weights(
    run_name: str,  # a run's id
    archive: Archive,
) -> bool:
    "Whether a run's weights are here and undamaged; if not, a line says that it is trained again."
    path = archive.run_folder(run_name) / WEIGHTS
    if not path.exists():
        notice(f"{path}: not here although the run has a record; it is trained again")
        return False
    return is_sound(path, lambda: _can_be_loaded(path, run_name))


def _can_be_loaded(path, run_name):
    try:
        load_tensors(path, run=run_name)
    except DamagedCheckpoint as error:
        notice(f"{error}; the run is trained again")
        return False
    return True


def trained_tensors(record: dict, archive: Archive) -> dict:
    "The trained tensors of a run (`CheckpointError` if they are not here)."
    path = archive.run_folder(record["run"]) / WEIGHTS
    return load_tensors(path, run=record["run"])[0]


def about_run(experiment: Experiment, preset: Preset, trained: Trained) -> dict:
    "What a record says besides its id: configuration, data, outcome, cost, provenance."
    training, prepared = trained
    data = about_data(experiment, preset)
    if preset.data == "drawn":
        data |= dict(drawn=drawn_edition(experiment), content=drawn_content(experiment, preset))
    about: dict = dict(
        experiment=describe(preset.resolved(experiment)), size=preset.training_values(experiment), data=data
    )
    about |= dict(steps=training.plan.steps, batch=batch_images(experiment, preset), classes=prepared.batches.classes)
    if attributes := list(prepared.batches.attribute_sizes.items()):
        about["attributes"] = attributes  # in the order of their classifiers
    if prepared.measures:
        about["pseudo"] = rounded(prepared.measures, 4)
    if starts_from_weights(experiment, preset):
        about["weights"] = loaded_weights(experiment.model, preset.weights)
    about["tested"] = "last step"
    return about | about_machine(training, preset) | provenance()


def starts_from_weights(experiment: Experiment, preset: Preset) -> bool:
    "Whether a training starts from published weights or a file, and not from another run or from nothing."
    own = experiment.method.learns and not experiment.method.generates and experiment.start is None
    return own and preset.weights != "none"


def about_machine(training: Training, preset: Preset) -> dict:
    "Device, cost and last losses of a training."
    last = training.history[-1] if training.history else {}
    device = torch.cuda.get_device_name() if training.plan.device == "cuda" else "cpu"
    finished = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return dict(
        device=device,
        threads=preset.threads,
        half=training.plan.half,
        resumed_at=training.resumed_at,
        peak_memory_mb=round(peak_memory()),
        final=rounded(last, 5),
        finished=finished,
    )


def drawn_edition(experiment: Experiment) -> str:
    "Editions of the drawings that a training uses."
    return "+".join(sorted({drawing_of(name).edition for name in training_datasets(experiment)}))


def drawn_content(experiment: Experiment, preset: Preset) -> str:
    "Hashes of the drawn images that a training uses."
    roots = [dataset_root(name, preset) for name in training_datasets(experiment)]
    return "+".join(json.loads((root / "drawn.json").read_text())["content"] for root in roots)


def rounded(values: dict, digits: int) -> dict:
    "Numbers of a dict, rounded."
    return {name: round(value, digits) for name, value in values.items()}


# ---- scores


def load_trained(
    record: dict,  # of a finished run
    experiment: Experiment,
    preset: Preset,
    *,
    archive: Archive | None = None,
    file: str = WEIGHTS,  # or one of its snapshots
) -> Any:  # the method, which embeds images
    "The trained method of a run whose weights are on this machine (`CheckpointError` if they are not)."
    archive = archive or Archive(preset)
    path = archive.run_folder(record["run"]) / file
    tensors, _ = load_tensors(path, run=record["run"])
    untrained = preset.model_copy(update=dict(weights="none"))  # the run's own tensors follow
    context = context_of(experiment, untrained, record["seed"])
    attributes = dict(record.get("attributes", ()))
    method: Method = context.options.implemented().create(context, record["classes"], attributes)
    try:
        method.load_inference_state(tensors)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise CheckpointError(
            f"{path}: its tensors are not those of this network, as another version of the code named or shaped them "
            f"({reason}); delete its folder and train the run again"
        ) from None
    return method.to(context.device).to(memory_format=torch.channels_last)


def weight_files(record: dict, protocol: Protocol, archive: Archive) -> list:  # of file names
    "The weights that a protocol tests: the last, or all snapshots (`ConfigurationError` where there are none)."
    if not protocol.best:
        return [WEIGHTS]
    files = sorted(path.name for path in archive.run_folder(record["run"]).glob("snapshot-*.safetensors"))
    if not files:
        raise ConfigurationError(
            f"run {record['run']}: the protocol asks for the best snapshot, and there is none on this machine; "
            "expected snapshots = 2 or more in its description"
        )
    return files


def evaluate_run(
    record: dict, experiment: Experiment, protocol: Protocol, *, preset: Preset, archive: Archive
) -> Any:  # Scores or Measured
    "Evaluate a run under a protocol; of several snapshots the best mAP counts."
    part = "train" if protocol.task in ("autoencoder", "change") else "test"
    images = open_data(protocol.data, preset, part, scale=testing_scale(experiment, protocol), view=protocol.view)
    options: dict = dict(device=choose_device(preset))
    if protocol.task == "attributes":
        options["attributes"] = identity_attributes(protocol.data, preset)
    if protocol.change == "style":
        options["styles"] = generated_images_for(experiment, preset, record["seed"], archive=archive)
    results = []
    for file in weight_files(record, protocol, archive):
        method = load_trained(record, experiment, preset, archive=archive, file=file)
        results.append(evaluate(method, images, protocol, **options))
    return max(results, key=lambda scores: scores.summary().get("mAP", 0.0))


def score(
    record: dict,  # of a finished run
    experiment: Experiment,
    protocol: Protocol,
    *,
    preset: Preset,
    archive: Archive | None = None,
) -> dict:  # the scores
    "Test a run under a protocol, or return its scores if it was tested before (`CheckpointError` if its weights are not here)."
    archive = archive or Archive(preset)
    source = data_fingerprint(protocol.data, preset)
    name = scores_identity(record["run"], protocol, source)
    if scores := archive.read(name):
        return scores
    record = run(experiment, preset, record["seed"], name=record.get("name", ""), archive=archive, weights=True)
    make_deterministic(preset.threads)
    began = time.perf_counter()
    result = evaluate_run(record, experiment, protocol, preset=preset, archive=archive)
    summary = result.summary() | forgetting(result, experiment, protocol, record=record, preset=preset, archive=archive)
    content = dict(run=record["run"], seed=record["seed"], preset=preset.name)
    content |= dict(protocol=protocol.model_dump(mode="json"), fingerprint=source, summary=rounded(summary, 7))
    content |= about_queries(result)
    content |= dict(seconds=round(time.perf_counter() - began, 2), peak_memory_mb=round(peak_memory()))
    content |= pack_scores(result)
    archive.write(name, content)
    return content


def about_queries(result: Any) -> dict:  # of Scores or Measured
    "Intervals over queries, and how many there are."
    values = result.per_query()
    intervals = {}
    for metric, per_query in values.items():
        intervals[metric] = [round(bound, 7) for bound in bootstrap_interval(per_query)]
    about: dict = dict(interval=intervals, queries=len(next(iter(values.values()))))
    if isinstance(result, Scores):
        about |= dict(unmatched=result.unmatched, gallery=result.gallery)
        if not math.isnan(result.alike):
            about["alike"] = round(result.alike, 4)
    return about


def forgetting(
    result: Any,  # Scores of this run
    experiment: Experiment,
    protocol: Protocol,
    *,
    record: dict,
    preset: Preset,
    archive: Archive,
) -> dict:
    "Change of the mAP since the run that this one started from, which is tested for it (001, line 141)."
    before = start_run(experiment, preset)
    if not protocol.forgetting or before is None:
        return {}
    first = run(before, preset, record["seed"], name="first task", archive=archive)
    plain = protocol.model_copy(update=dict(forgetting=False))
    scores = score(first, before, plain, preset=preset, archive=archive)
    return dict(forgetting=result.summary()["mAP"] - scores["summary"]["mAP"])


def run_and_score(
    experiment: Experiment,
    preset: Preset,
    seed: int,
    *,
    protocols: list,  # of Protocol
    name: str = "",
    archive: Archive | None = None,
    progress: Callable | None = None,
) -> list:  # scores per protocol
    "Whatever of a run and its scores is missing; a failure leaves its reason beside the checkpoint."
    archive = archive or Archive(preset)
    try:
        record = run(experiment, preset, seed, name=name, archive=archive, progress=progress, weights=True)
        return [score(record, experiment, protocol, preset=preset, archive=archive) for protocol in protocols]
    except Exception as error:
        folder = archive.run_folder(run_id(experiment, preset, seed))
        with contextlib.suppress(OSError):  # a full disk has no room for reasons
            write_json(folder / "failed.json", dict(name=name, seed=seed, reason=f"{type(error).__name__}: {error}"))
        raise
