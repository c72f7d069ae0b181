"What a run works on, and for how long: data, batch and steps of an experiment under a preset. Without torch."

# Everything that is needed to *plan* a run: which data, with which fingerprint, how many steps of how many images. Drawn data has its
# fingerprint before it is drawn, so asking whether a run exists costs nothing. Real data is found below `data_root`, read and counted.

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from ..catalogue.experiment import Experiment
from ..core.configuration import short_hash
from ..core.files import notice
from ..data.datasets import dataset, drawn_names, find_data, members, read_data
from ..data.images import ImageStore
from ..data.samples import fingerprint
from ..data.views import STRETCHED, View
from ..evaluation.configuration import Protocol
from ..synthetic.drawn import Scale, draw_data, drawn_fingerprint, drawn_root, remove_damaged_drawing
from .presets import Preset
from .records import run_identity

# ---- data of a preset


def drawn_scale(preset: Preset) -> Scale:
    "How much a preset draws."
    names = ("identities", "images", "test_identities", "distractors", "junk", "partial_identities", "ilids_identities")
    return Scale(**{name: getattr(preset, name) for name in names}, seed=preset.data_seed)


def drawn_folder(preset: Preset) -> Path:
    "Where a preset's drawn data lies."
    return Path(preset.store) / "drawn"


def image_folder(preset: Preset) -> Path:
    "Where decoded and generated images are kept."
    return Path(preset.store) / "images"


_fingerprints: dict = {}  # of the real data sets that this process has read, by root
_samples: dict = {}  # that this process has read, by name and root


def dataset_root(
    name: str,  # a single data set
    preset: Preset,
) -> Path:
    "The folder of a preset's data set; drawn if it is not there (`DataError` for real data that is not)."
    if preset.data == "drawn":
        return draw_data(name, drawn_folder(preset), drawn_scale(preset))
    return find_data(name, preset.data_root)


def samples_of(
    name: str,  # a data set, or several as one
    preset: Preset,
) -> pd.DataFrame:
    "A preset's samples, read once a process (`DataError`)."
    if dataset(name).members:
        return pd.concat([samples_of(member, preset) for member in members(name)], ignore_index=True)
    root = dataset_root(name, preset)
    if (name, root) not in _samples:
        _samples[name, root] = _read_intact(name, preset, lambda: read_data(name, root))
    return _samples[name, root]


UNREADABLE = (OSError, ValueError, KeyError, TypeError)  # what readers raise for damaged files


def _read_intact(name: str, preset: Preset, read: Callable) -> Any:
    "Read something of a data set; a drawn set that turns out to be damaged is drawn again."
    try:
        return read()
    except UNREADABLE:
        if not draw_damaged_again(name, preset):
            raise
        return read()


def draw_damaged_again(
    name: str,  # a data set, or several as one
    preset: Preset,
) -> bool:  # whether any was damaged
    "Draw the sets again whose bytes are not those that were drawn; real data is left as it is."
    if preset.data != "drawn":
        return False
    damaged = [member for member in members(name) if remove_damaged_drawing(_drawn_root(member, preset))]
    for member in damaged:
        notice(f"{_drawn_root(member, preset)}: damaged; it is drawn again")
        dataset_root(member, preset)
    return bool(damaged)


def _drawn_root(name: str, preset: Preset) -> Path:
    return drawn_root(name, drawn_folder(preset), drawn_scale(preset))


def data_fingerprint(
    name: str,  # a data set, or several as one
    preset: Preset,
) -> str:
    "The fingerprint of a preset's data; drawn data need not be there yet (`DataError` for real data that is not)."
    if dataset(name).members:
        parts = [data_fingerprint(member, preset) for member in members(name)]
        return short_hash(name, *parts, digest_size=8)
    if preset.data == "drawn":
        return drawn_fingerprint(name, drawn_scale(preset))
    root = dataset_root(name, preset)
    if root not in _fingerprints:
        _fingerprints[root] = fingerprint(samples_of(name, preset), root)
    return _fingerprints[root]


def image_size(
    preset: Preset,
    scale: tuple = (1.0, 1.0),  # of height and width against the preset's
) -> tuple:  # (height, width) in pixels
    "How large images are."
    return tuple(max(1, round(side * factor)) for side, factor in zip(preset.image_size, scale))


def open_data(
    name: str,  # a data set, or several as one
    preset: Preset,
    part: str,  # "train" or "test"
    *,
    progress=None,  # called with the number of images decoded since the last call
    scale: tuple = (1.0, 1.0),  # of height and width against the preset's
    view: View = STRETCHED,  # how images are cut and fitted
) -> ImageStore:
    "Decoded images of one half of a data set at the preset's size."
    samples = samples_of(name, preset)
    is_training = samples["split"] == "train"
    part_samples = samples[is_training if part == "train" else ~is_training]
    size, content = image_size(preset, scale), data_fingerprint(name, preset)
    options: dict = dict(fingerprint=content, progress=progress, view=view)
    options["before"] = partial(draw_damaged_again, name, preset)
    return ImageStore(part_samples, size, image_folder(preset), **options)


def input_scale(experiment: Experiment) -> tuple:  # of height and width
    "How large the images are that a network gets in training, at most."
    varied = experiment.augmentation.vary
    largest = varied[1] if varied else 1.0
    factor = largest * experiment.method.decoding_scale()
    return tuple(side * factor for side in experiment.image_scale)


def training_scale(experiment: Experiment) -> tuple:  # of height and width
    "How large training images are decoded: parts that are stretched to the input have its pixels."
    larger = experiment.method.decoding_scale()
    factors = experiment.augmentation.decoded_scale()
    return tuple(side * larger * factor for side, factor in zip(experiment.image_scale, factors))


def testing_scale(experiment: Experiment, protocol: Protocol) -> tuple:  # of height and width
    "How large test images are decoded: the run's size times the protocol's."
    return tuple(a * b for a, b in zip(experiment.image_scale, protocol.scale))


def identity_attributes(
    name: str,  # a data set
    preset: Preset,
) -> pd.DataFrame:  # indexed by pid, from `attribute_table`
    "Attributes of a data set's identities (`DataError` where there is no such file)."
    from ..data.attributes import attribute_table  # imports scipy, which no plan needs

    file = dataset(name).attributes or f"{name}_attribute.mat"
    return _read_intact(name, preset, lambda: attribute_table(dataset_root(name, preset) / file))


def draw_all(
    preset: Preset,
    names: tuple = (),  # which sets; default all that can be drawn
    *,
    jobs: int = 1,  # processes
    progress=None,  # called with the number of images drawn since the last call
):
    "Draw a preset's data sets that are not there yet."
    for name in names or drawn_names():
        draw_data(name, drawn_folder(preset), drawn_scale(preset), jobs=jobs, progress=progress)


# ---- runs that a run builds on


def start_run(experiment: Experiment, preset: Preset) -> Experiment | None:
    "The run whose weights an experiment starts from, if any."
    experiment = preset.resolved(experiment)
    return experiment.start or (experiment.pretrain if preset.weights == "none" else None)


def prerequisites(experiment: Experiment, preset: Preset) -> list:
    "The runs that an experiment needs: the one that it starts from, its generator, its members."
    experiment = preset.resolved(experiment)
    runs = [start_run(experiment, preset), experiment.generator, *experiment.members]
    return [run for run in runs if run]


def training_datasets(experiment: Experiment) -> list:
    "Each single data set that a training uses."
    return [member for name in experiment.domains() for member in members(name)]


def training_fingerprint(experiment: Experiment, preset: Preset) -> str:
    "The fingerprint of all data that a training uses."
    first, *others = [data_fingerprint(name, preset) for name in experiment.domains()]
    return short_hash(first, *others, digest_size=8) if others else first


def run_id(experiment: Experiment, preset: Preset, seed: int) -> str:
    "The id of a run on a preset's data: it depends on all runs that it builds on."
    experiment = preset.resolved(experiment)
    before = tuple(run_id(run, preset, seed) for run in prerequisites(experiment, preset))
    return run_identity(experiment, preset, training_fingerprint(experiment, preset), seed=seed, before=before)


# ---- how long


def batch_images(experiment: Experiment, preset: Preset) -> int:
    "Images in a batch under a preset; of at least two identities, or four where a generator's batch has so many."
    if experiment.method.generates:
        fewest = min(4, experiment.batch.images)
        return max(fewest, experiment.batch.images // preset.batch_divisor)
    instances = experiment.batch.instances
    identities = experiment.batch.images // instances // preset.batch_divisor
    return max(2, identities) * instances


def total_steps(
    experiment: Experiment,
    preset: Preset,
    per_epoch: int,  # batches in a real epoch
) -> int:
    "Steps of a training: the preset's share of the documents' epochs; an epoch is a pass over the data, whatever the batch."
    if not experiment.method.learns:
        return 0
    epochs, steps = experiment.schedule.epochs, preset.steps_of(experiment)
    if not steps:
        return round(epochs * per_epoch)
    per_image = steps * epochs / 120 * 64
    return max(1, round(per_image / experiment.batch.images))


def documents_steps(experiment: Experiment, preset: Preset) -> float:
    "How many steps of the documents one step of a training stands for; 1 in real epochs."
    if not preset.steps_of(experiment) or not experiment.method.learns:
        return 1.0
    images, _ = dataset("market").counts["train"]  # on which the documents train, for the most part
    steps = experiment.schedule.epochs * images / experiment.batch.images
    return steps / total_steps(experiment, preset, 0)


def scaled_experiment(experiment: Experiment, preset: Preset) -> Experiment:
    "A training under a preset: moving averages forget as much over all its steps as over the documents'."
    steps = documents_steps(experiment, preset)
    scaled = dict(objective=experiment.objective.scaled(steps), optimiser=experiment.optimiser.scaled(steps))
    return experiment.model_copy(update=scaled)


def about_data(experiment: Experiment, preset: Preset) -> dict[str, Any]:
    "What a record says of the data of a training."
    about = dict(name=experiment.data, fingerprint=training_fingerprint(experiment, preset))
    others = experiment.method.domains()
    return about | (dict(target=others[0]) if others else {})
