"Settings and presets: one file says how large, how long, and where data lies."

# `settings.ini` stands at the top of the project. Each section is a preset: `smoke` for tests, `mini` for a laptop without
# data, `mini-real` for a laptop with Market-1501, `full` for the documents' own settings. What a section does not say it
# inherits from `[DEFAULT]`. The file is read once and checked as a whole: a misspelt key is an error that names file,
# section, key and what is allowed, before anything runs.

import os
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from reidnb.core.configuration import PLAIN_NAME, Configuration, ConfigurationError, is_plain_name, nearest, validate
from reidnb.core.project import parse_settings, project_root
from reidnb.models.configuration import Size
from reidnb.training.configuration import Optimiser, Schedule

Count = Field(ge=1, le=1_000_000)
Stages = tuple[int, int, int, int]
Factor = Annotated[float, Field(gt=0, le=4)]
Pair = tuple[Factor, Factor]
BLOCKS = ("blocks_resnet18", "blocks_resnet50", "blocks_resnet101", "blocks_resnext101_32x8d", "blocks_hrnet")
FOLDERS = ("data_root", "store")  # relative ones start at the settings file; REIDNB_<KEY> in the environment wins


class _Machine(Configuration):
    "Where files are, and what computes."

    name: str
    data_root: str  # folder of the real data sets
    store: str  # folder for everything that can be made again
    data: Literal["drawn", "real"]
    device: Literal["auto", "cpu", "cuda"]
    half: bool  # bfloat16 on a GPU
    workers: int = Field(ge=0, le=64)  # loader processes
    threads: int = Field(ge=1, le=256)  # of one run
    checkpoint_every: int = Count  # steps


class _TrainingScale(Configuration):
    "How long runs train."

    image_height: int = Field(ge=16, le=1024)  # pixels
    image_width: int = Field(ge=8, le=1024)
    steps: int = Field(ge=0, le=1_000_000)  # of 64 images that stand for 120 epochs; 0 means real epochs
    vpm_steps: int = Field(ge=0, le=1_000_000)  # the same for VPM, which the documents train for 200 and 400 epochs
    batch_divisor: int = Field(ge=1, le=16)  # of the documents' batch
    learning_rate: float = Field(gt=0, le=1)
    reduced_rate: float = Field(gt=0, le=1)  # relative; what an experiment's rate = "reduced" is
    ssg_rate: float = Field(gt=0, le=1)  # of SSG
    clusters: int = Field(ge=2, le=1_000_000)  # of k-means, for pseudo-labels
    rho: float = Field(gt=0, le=1)  # ρ of DBSCAN's radius, for pseudo-labels
    replace_sgd: bool  # Adam, at this preset's rate, in the place of the documents' SGD


class _GeneratorScale(Configuration):
    "Image generators: networks, length, and what the small presets change of the documents' recipe."

    gan_structure: Literal["stand-in", "documented"]
    gan_steps: int = Field(ge=0, le=1_000_000)  # as `steps`
    gan_rate: float = Field(gt=0, le=1)  # learning rate
    gan_width: int = Field(ge=4, le=256)  # channels of a generator's first convolution
    gan_blocks: int = Field(ge=1, le=32)  # a generator's residual blocks
    gan_enlarge: float = Field(ge=1, le=2)  # of decoded images against the random crops that are trained with
    cyclegan_blocks: int = Field(ge=1, le=32)
    cyclegan_scale: Pair  # height and width against the preset's images
    cyclegan_identity: float = Field(ge=0)  # λ2
    cyclegan_batch: int = Count
    cyclegan_epochs: float = Field(gt=0)
    cyclegan_joins: float = Field(ge=0, lt=1)  # share of the epochs after which SPGAN and PTGAN join CycleGAN
    cyclegan_falls: float = Field(ge=0, le=1)  # share of the epochs, at the end, in which the rate falls
    stargan_rate: float = Field(gt=0, le=1)
    stargan_scale: Pair
    stargan_batch: int = Count
    stargan_epochs: float = Field(gt=0)
    stargan_discriminator_steps: int = Field(ge=1, le=10)  # for one of the translator

    @field_validator("cyclegan_scale", "stargan_scale", mode="before")
    @classmethod
    def _two(cls, value):
        factors = value.split() if isinstance(value, str) else value
        if len(factors) != 2:
            raise ValueError("should be two numbers, the factors of height and width")
        return tuple(factors)


class _NetworkScale(Configuration):
    "How large networks are."

    network_width: int = Field(ge=4, le=256)  # channels of the first stage
    blocks_resnet18: Stages
    blocks_resnet50: Stages
    blocks_resnet101: Stages
    blocks_resnext101_32x8d: Stages
    blocks_hrnet: Stages  # of each branch, in one module a stage, where the width is below 64
    stem: Literal["7x7", "3x3"]
    residual_gamma: float = Field(ge=0, le=1)
    weights: str  # none, imagenet, imagenet-v2, a folder or a safetensors file

    @field_validator(*BLOCKS, mode="before")
    @classmethod
    def _four(cls, value):
        counts = value.split() if isinstance(value, str) else value
        positive = [str(count).isdigit() and int(count) > 0 for count in counts]
        if len(counts) != 4 or not all(positive):
            raise ValueError("should be four whole numbers above 0, the residual blocks of each stage")
        return tuple(int(count) for count in counts)


class _DrawnScale(Configuration):
    "How much data is drawn."

    identities: int = Count  # training identities per domain
    images: int = Field(ge=2, le=1000)  # per training identity
    test_identities: int = Count
    distractors: int = Field(ge=0, le=1_000_000)
    junk: int = Field(ge=0, le=1_000_000)
    partial_identities: int = Count
    ilids_identities: int = Count
    data_seed: int = Field(ge=0)  # seed of the drawing


class Preset(_DrawnScale, _NetworkScale, _GeneratorScale, _TrainingScale, _Machine):
    "Scale and data of all runs: one section of settings.ini."

    @property
    def image_size(self) -> tuple:  # (height, width) in pixels
        return self.image_height, self.image_width

    def network_size(
        self,
        backbone: str,  # resnet18, resnet50, resnet101, resnext101_32x8d or timm/NAME
    ) -> Size:
        "How large a network is."
        family = (
            "hrnet" if backbone.startswith("timm/") else backbone
        )  # no other of timm's networks can be made smaller
        return Size(
            width=self.network_width,
            blocks=getattr(self, f"blocks_{family}"),
            stem=self.stem,
            residual_gamma=self.residual_gamma,
            weights=self.weights,
        )

    def steps_of(
        self,
        experiment: Any,  # its method says which setting counts
    ) -> int:  # 0 means real epochs
        "Steps that stand for 120 epochs."
        return getattr(self, experiment.method.steps_setting)

    def rate_of(
        self,
        experiment: Any,  # its method says which setting counts
    ) -> float:
        "The base learning rate: SGD's own, where SGD runs."
        own_rate = self.optimiser_of(experiment).rate
        return own_rate or getattr(self, experiment.method.rate_setting)

    def optimiser_of(
        self,
        experiment: Any,  # whose optimiser is the documents'
    ) -> Optimiser:
        "The optimiser that runs; Adam in the place of SGD keeps momentum, decay and the backbone's relative rate."
        optimiser = experiment.optimiser
        if optimiser.algorithm == "adam" or not self.replace_sgd:
            return optimiser
        return optimiser.model_copy(update=dict(algorithm="adam", rate=None, nesterov=False))

    def resolved(self, experiment: Any) -> Any:
        """An experiment, and all runs that it builds on, as they run under this preset: what they leave open is filled in.

        This is what runs, and what a run id is the hash of: it holds what decides the outcome, and a run is the same whether a value
        was written in the experiment or filled in here. To resolve it twice changes nothing."""
        changes: dict[str, Any] = dict(optimiser=self.optimiser_of(experiment), schedule=self.schedule_of(experiment))
        changes |= experiment.method.filled(experiment, self)
        for name in ("start", "pretrain", "generator"):
            before = changes.get(name, getattr(experiment, name))
            if before is not None:
                changes[name] = self.resolved(before)
        if experiment.members:
            changes["members"] = tuple(self.resolved(member) for member in experiment.members)
        return experiment.model_copy(update=changes)

    def half_of(self, experiment: Any) -> bool:
        "Whether bfloat16 is used on a GPU. It has fewer digits than the pixels that generators make, so these train without."
        return self.half and not experiment.method.generates

    def generator_blocks(
        self,
        experiment: Any,  # of a generator; its method says which setting counts
    ) -> int:
        "Residual blocks of a generator."
        return getattr(self, experiment.method.blocks_setting)

    def schedule_of(
        self,
        experiment: Any,  # whose rate may be named
    ) -> Schedule:
        "The schedule that runs, with the preset's number in the place of a named rate."
        schedule = experiment.schedule
        return schedule.model_copy(update=dict(rate=self.reduced_rate)) if schedule.rate == "reduced" else schedule

    def training_values(self, experiment: Any) -> dict:
        "What changes the outcome of a run of this experiment, as `resolved`; data has a fingerprint of its own."
        if experiment.method.generates:
            network = dict(width=self.gan_width, blocks=self.generator_blocks(experiment))
        else:
            size = self.network_size(experiment.model.backbone)
            network = size.model_dump(mode="json")
            if size.edition > 1:
                network["edition"] = size.edition
        return dict(
            image=self.image_size,
            steps=self.steps_of(experiment),
            batch_divisor=self.batch_divisor,
            learning_rate=self.rate_of(experiment),
            half=self.half_of(experiment),
            network=network,
            **self.further_settings(experiment),
        )

    def further_settings(self, experiment: Any) -> dict:
        "The settings that only its method uses."
        return {name: getattr(self, name) for name in experiment.method.settings()}


def _folder(key, values, start):
    "A folder's absolute path, from the environment or the file."
    value = os.environ.get(f"REIDNB_{key.upper()}", values.get(key, key))
    if not value.isprintable():
        raise ConfigurationError(f"{key} = {value!r}: holds a line break or another character that cannot be printed")
    folder = start / Path(value).expanduser()
    return str(folder.resolve())


@lru_cache(8)
def _read_settings(path: Path) -> dict:
    parser = parse_settings(path)
    presets = {}
    for section in parser.sections():
        if not is_plain_name(section):
            raise ConfigurationError(f"{path.name} [{section}]: {PLAIN_NAME}")
        values = dict(parser[section], name=section)
        values.pop("extensions", None)  # of the whole project, see `core.project`
        for key in FOLDERS:
            values[key] = _folder(key, values, path.parent)
        presets[section] = validate(Preset, values, f"{path.name} [{section}]")
    return presets


def _settings_file(path):
    return Path(path) if path else project_root() / "settings.ini"


def preset_names(
    path: str | os.PathLike | None = None,  # another settings file
) -> list:
    "Names of all presets, in the file's order."
    return list(_read_settings(_settings_file(path)))


def load_preset(
    name: str,  # a section of settings.ini
    path: str | os.PathLike | None = None,  # another settings file
) -> Preset:
    "A preset by name (`ConfigurationError` names the nearest one)."
    file = _settings_file(path)
    presets = _read_settings(file)
    if name not in presets:
        hint, valid = nearest(name, presets), ", ".join(presets)
        raise ConfigurationError(f"preset {name!r}{hint}: {file.name} has {valid}")
    return presets[name]
