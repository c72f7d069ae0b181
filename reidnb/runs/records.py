"Records and scores: what remains of a run when the machine is switched off."

# A finished run leaves one small JSON file, its record: the resolved configuration, seed, data fingerprint, versions,
# commit, device, wall seconds, peak memory. Its existence means that the run is finished: it is written as the last act,
# under another name first. Each protocol adds a scores file with the values of every query, so confidence intervals and
# paired comparisons need no GPU.
#
# There are two folders. The local store takes what this machine makes. `reports/records/<preset>/` in git holds what the
# project published, so that a fresh clone shows every number with its provenance and has nothing to run. Local records are
# looked up first.

import importlib.metadata
import json
import platform
import shutil
import subprocess
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from reidnb.catalogue.experiments import Experiment
from reidnb.core.configuration import short_hash
from reidnb.core.files import DamagedFile, notice, read_json, write_atomically, write_json
from reidnb.core.project import project_root
from reidnb.evaluation.configuration import Protocol
from reidnb.evaluation.measures import Measured
from reidnb.evaluation.ranking import Scores
from reidnb.runs.presets import Preset

PACKAGES = ("reidnb", "torch", "torchvision", "numpy", "pillow", "pytorch-ignite")  # whose versions a record names


# Identity: names and tables are not part of it, so equal rows of two tables are one run. The code's version is recorded,
# not hashed.


def run_identity(
    experiment: Experiment,
    preset: Preset,
    fingerprint: str,  # of the training data
    *,
    seed: int,
    before: tuple = (),  # ids of the runs that it builds on
) -> str:  # 12 hexadecimal digits
    "The id of a run: its experiment, its preset's training values, its data's fingerprint and its seed."
    values = preset.training_values(experiment)
    return short_hash("run", preset.resolved(experiment), values, fingerprint, seed, *before)


def scores_identity(
    run: str,  # a run's id
    protocol: Protocol,
    fingerprint: str,  # of the protocol's data
) -> str:  # <run>.<protocol>
    "The id of one set of scores."
    suffix = short_hash("protocol", protocol, fingerprint, digest_size=3)
    return f"{run}.{suffix}"


# Provenance: the same numbers bit for bit are promised on the same machine only. Another kind of processor adds in another
# order; after three hundred steps that is what another seed would have been. So the record names the processor.


def _processor_name():
    try:
        with open("/proc/cpuinfo") as file:
            names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []  # not Linux
    return names[0] if names else platform.processor()


def _processor():
    "The processor's name, and the instructions for which torch has chosen its kernels."
    import torch  # plans do without

    instructions = torch.backends.cpu.get_cpu_capability()
    return f"{_processor_name()}, {instructions}".lstrip(", ")


def _git(*arguments):
    process = subprocess.run(["git", *arguments], capture_output=True, text=True, cwd=project_root())
    return process.stdout.strip()


def _commit():
    "The clone's commit, and whether code or settings differ from it."
    try:
        commit = _git("rev-parse", "--short=12", "HEAD")
        changes = _git("status", "--porcelain", "--", "reidnb", "settings.ini")
    except OSError:  # no git on this machine
        return "", False
    return commit, bool(changes)


@lru_cache(1)
def training_version() -> str:  # 12 hexadecimal digits; "" where the file is missing
    "What training computes: a hash of data/training_net.json, the weights and losses of every kind of experiment."
    path = project_root() / "data" / "training_net.json"
    if not path.exists():
        return ""
    content = json.loads(path.read_text(encoding="utf8"))
    return short_hash("training", content)


@lru_cache(1)
def provenance() -> dict:
    "Versions, commit and machine, for the record."
    commit, has_changes = _commit()
    return dict(
        commit=commit,
        changed=has_changes,
        computes=training_version(),
        python=platform.python_version(),
        packages={package: importlib.metadata.version(package) for package in PACKAGES},
        system=platform.system(),
        machine=platform.machine(),
        processor=_processor(),
    )


def _linux_peak():
    "MB from /proc, or None where there is no such file."
    try:
        with open("/proc/self/status") as file:
            kilobytes = [int(line.split()[1]) for line in file if line.startswith("VmHWM")]
    except OSError:
        return None
    return kilobytes[0] / 1024 if kilobytes else None


def peak_memory() -> float:  # MB
    "The most memory that this process has used."
    megabytes = _linux_peak()
    if megabytes is not None:
        return megabytes
    try:
        import resource
    except ImportError:
        return float("nan")  # Windows
    unit = 1 << 20 if platform.system() == "Darwin" else 1 << 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


class Archive:
    "Records and scores of one preset: local first, then published."

    def __init__(
        self,
        preset: Preset,
        root: Path | None = None,  # the project's folder
        published: bool = True,  # False looks at this machine's own records only
    ):
        self.preset, self.published = preset, published
        self.local_folder = Path(preset.store) / "records" / preset.name
        self.published_folder = (root or project_root()) / "reports" / "records" / preset.name
        self.folders = [self.local_folder]
        if published:
            self.folders.append(self.published_folder)

    def run_folder(self, run: str) -> Path:
        "Where checkpoint, weights, history and failure of a run lie."
        return Path(self.preset.store) / "runs" / run

    def has_weights(self, run: str) -> bool:
        "Whether a run's trained weights are on this machine."
        return (self.run_folder(run) / "weights.safetensors").exists()

    def is_published_only(self, run: str) -> bool:
        "Whether a run's record came with the clone, and this machine has none."
        return self.published and not (self.local_folder / f"{run}.json").exists()

    def failure(self, run: str) -> str:  # "" for a run that did not fail
        "Why a run failed when it was last tried."
        path = self.run_folder(run) / "failed.json"
        try:
            return str(read_json(path).get("reason", "for a reason that its failed.json does not hold"))
        except FileNotFoundError:
            return ""
        except DamagedFile as error:
            return str(error)

    def read(
        self,
        name: str,  # id of a record or of scores
    ) -> dict | None:
        "A record or scores, or None where there are none; a damaged file is named once and counts as missing."
        for folder in self.folders:
            path = folder / f"{name}.json"
            try:
                return read_result(path)
            except FileNotFoundError:
                continue
            except DamagedFile as error:
                remedy = "git checkout restores it" if folder == self.published_folder else "it is made again"
                notice(f"{error}; it counts as missing, {remedy}")
        return None

    def modified(self, name: str) -> float:
        "When a record or scores were written, in seconds since 1970; 0 where there are none."
        for folder in self.folders:
            path = folder / f"{name}.json"
            if path.exists():
                return path.stat().st_mtime
        return 0.0

    def runs(self) -> list:  # of run ids
        "All runs of the preset that have a record."
        paths = [path for folder in self.folders for path in folder.glob("*.json")]
        return sorted({path.stem for path in paths if not _is_scores(path)})

    def records(self) -> list:
        "All records of the preset, without scores."
        records = [self.read(run) for run in self.runs()]
        return [record for record in records if record]

    def write(self, name: str, content: dict):
        "Keep a record or scores on this machine."
        write_json(self.local_folder / f"{name}.json", content)

    def publish(
        self,
        names: set,  # ids of the records and scores that the project commits
        replace: bool = False,  # also what is published already
    ) -> int:  # files copied
        "Copy records and scores of this machine to the published ones; what is no longer among the names goes."
        # A run that is published whole stays as it is: who trained it again, to check it or to start another run
        # from it, does not change the project's numbers by that. A run that lacks a score is published anew with all of
        # its scores, which come from one training.
        incomplete = {_run_of(name) for name in names if replace or not self._is_published(name)}
        copied = 0
        for path in sorted(self.local_folder.glob("*.json")):
            if path.stem in names and _run_of(path.stem) in incomplete:
                write_atomically(self.published_folder / path.name, partial(shutil.copyfile, path))
                copied += 1
        for path in self.published_folder.glob("*.json"):
            if path.stem not in names:
                path.unlink()
        return copied

    def _is_published(self, name):
        return (self.published_folder / f"{name}.json").exists()

    def drop_scores(self, run: str):
        "Remove a run's scores from this machine: they belong to weights that are no more."
        for path in self.local_folder.glob(f"{run}.*.json"):
            path.unlink(missing_ok=True)


def _run_of(name):
    "The run that a record or scores belong to."
    return name.split(".")[0]


# Reading: a file of another shape, of another run, or whose means are not those of its own queries, is no result.

RECORD_KEYS = ("run", "name", "seed", "experiment", "size", "data", "steps", "batch", "finished")  # that plans read


def read_result(path: Path) -> dict:
    "A record or scores (`DamagedFile`)."
    content = read_json(path)
    run = _run_of(path.stem)
    if content.get("run") != run:
        raise DamagedFile(f"{path}: belongs to run {content.get('run')!r}")
    if _is_scores(path):
        _check_scores(path, content)
    else:
        missing = [key for key in RECORD_KEYS if key not in content]
        if missing:
            raise DamagedFile(f"{path}: no {', '.join(missing)} in it")
    return content


def _check_scores(path, content):
    "Refuse scores whose summary does not follow from their own queries."
    if not isinstance(content.get("summary"), dict) or not isinstance(content.get("interval", {}), dict):
        raise DamagedFile(f"{path}: no summary in it")
    try:
        expected = _means_of_queries(content)
    except (KeyError, TypeError, ZeroDivisionError):
        raise DamagedFile(f"{path}: its values of single queries are no numbers") from None
    for metric, value in expected.items():
        stated = content["summary"].get(metric, value)
        if not isinstance(stated, (int, float)) or abs(stated - value) > 1e-5:
            raise DamagedFile(f"{path}: says {metric} = {stated}, its own queries give {value:.7f}")


def _means_of_queries(content) -> dict:
    "The means of single queries' values, where there are any; queries without a match do not count."
    if "ap" not in content:
        return {}
    precisions = [value for value in content["ap"] if value is not None]
    penalties = [value for value in content["inp"] if value is not None]
    ranks = [rank for rank in content["first"] if rank > 0]
    if not ranks:
        return {}
    means = {f"R{k}": sum(rank <= k for rank in ranks) / len(ranks) for k in (1, 3, 5, 10)}
    means |= {"mAP": sum(precisions) / len(precisions), "mINP": sum(penalties) / len(penalties)}
    return means | {"mean": (means["mAP"] + means["R1"]) / 2}


def _is_scores(path):
    return "." in path.stem


def _packed(values):
    "Seven digits, None for NaN."
    return [None if np.isnan(value) else round(float(value), 7) for value in values]


def _unpacked(values):
    return np.array([np.nan if value is None else value for value in values], float)


def pack_scores(scores: Scores | Measured) -> dict:
    "Per-query values, short enough for git: AP, INP and the rank of the first match; other measures say what they keep."
    if isinstance(scores, Measured):
        return scores.packed()
    return dict(ap=_packed(scores.ap), inp=_packed(scores.inp), first=[int(rank) for rank in scores.first])


def unpack_scores(
    packed: dict,  # from `pack_scores`
    gallery: int,  # images ranked
) -> Scores:
    "Scores from their per-query values."
    ap, inp = _unpacked(packed["ap"]), _unpacked(packed["inp"])
    return Scores(ap, inp, np.array(packed["first"]), gallery)
