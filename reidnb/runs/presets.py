"Settings and presets: one file says how large, how long, and where data lies."

# `settings.ini` stands at the top of the project. Each section is a preset: `smoke` for tests, `mini` for a laptop without
# data, `mini-real` for a laptop with Market-1501, `full` for the documents' own settings. What a section does not say it
# inherits from `[DEFAULT]`. The file is read once and checked as a whole: a misspelt key is an error that names file,
# section, key and what is allowed, before anything runs.

import os
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from reidnb.core.configuration import PLAIN_NAME, Configuration, ConfigurationError, is_plain_name, nearest, validate
from reidnb.core.project import parse_settings, project_root
from reidnb.models.configuration import Size

Count = Field(ge=1, le=1_000_000)
Stages = tuple[int, int, int, int]
BLOCKS = ("blocks_resnet18", "blocks_resnet50", "blocks_resnet101", "blocks_resnext101_32x8d")
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
    gan_steps: int = Field(ge=0, le=1_000_000)  # the same for image generators
    batch_divisor: int = Field(ge=1, le=16)  # of the documents' batch
    learning_rate: float = Field(gt=0, le=1)
    gan_rate: float = Field(gt=0, le=1)  # learning rate of image generators


class _NetworkScale(Configuration):
    "How large networks are."

    gan_width: int = Field(ge=4, le=256)  # channels of a generator's first convolution
    gan_blocks: int = Field(ge=1, le=32)  # a generator's residual blocks
    network_width: int = Field(ge=4, le=256)  # channels of the first stage
    blocks_resnet18: Stages
    blocks_resnet50: Stages
    blocks_resnet101: Stages
    blocks_resnext101_32x8d: Stages
    stem: Literal["7x7", "3x3"]
    residual_gamma: float = Field(ge=0, le=1)
    weights: str  # none, imagenet or a safetensors file

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


class Preset(_DrawnScale, _NetworkScale, _TrainingScale, _Machine):
    "Scale and data of all runs: one section of settings.ini."

    @property
    def image_size(self) -> tuple:  # (height, width) in pixels
        return self.image_height, self.image_width

    def network_size(
        self,
        backbone: str,  # resnet18, resnet50, resnet101 or resnext101_32x8d
    ) -> Size:
        "How large a network is."
        return Size(
            width=self.network_width,
            blocks=getattr(self, f"blocks_{backbone}"),
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
        "The base learning rate."
        return getattr(self, experiment.method.rate_setting)

    def training_values(self, experiment: Any) -> dict:
        "What changes the outcome of a run of this experiment; data has a fingerprint of its own."
        network = dict(width=self.gan_width, blocks=self.gan_blocks)
        if not experiment.method.generates:
            network = self.network_size(experiment.model.backbone).model_dump(mode="json")
        return dict(
            image=self.image_size,
            steps=self.steps_of(experiment),
            batch_divisor=self.batch_divisor,
            learning_rate=self.rate_of(experiment),
            half=self.half,
            network=network,
        )


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
