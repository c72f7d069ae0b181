"The plan: what would run, why, and how long it would take."

# A table's cells ask for runs and scores; the archive says which of them exist. What is left is the plan: jobs, each with its
# reason. Equal descriptions are one run, in one table or in several.

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from reidnb.catalogue.experiments import Experiment, Table, load_table
from reidnb.core.configuration import ConfigurationError, describe, nearest
from reidnb.data.samples import DataError
from reidnb.evaluation.configuration import Protocol
from reidnb.runs.datasets import (
    batch_images,
    data_fingerprint,
    prerequisites,
    run_id,
    total_steps,
    training_fingerprint,
)
from reidnb.runs.presets import Preset
from reidnb.runs.records import Archive, scores_identity, training_version

START_SECONDS = 5  # of a process, before its first step
UNKNOWN_EPOCH = 200  # steps of an epoch that only the data knows; any number serves for proportions
WEIGHTS_REASON = "its weights are not here, and others start from it"


@dataclass(frozen=True)
class Job:
    "One run with the protocols that a table asks of it."

    name: str  # for people
    experiment: Experiment
    seed: int
    run: str  # run id
    protocols: tuple[tuple[Protocol, str], ...]  # with the id of its scores
    needs: tuple[str, ...] = ()  # ids of the runs that it builds on

    @property
    def title(self) -> str:
        return f"{self.name}, seed {self.seed} (run {self.run})"

    def missing_scores(self, archive: Archive) -> list:  # of (Protocol, id of its scores)
        "The protocols without scores."
        return [(protocol, scores) for protocol, scores in self.protocols if archive.read(scores) is None]


def parse_seeds(
    text: str | int,  # "0,1,2", or one number
) -> tuple:
    "Seeds as they are written on the command line and in papermill (`ConfigurationError`)."
    try:
        numbers = [int(part) for part in str(text).split(",")]
    except ValueError:
        expected = "whole numbers with commas between them, e.g. 0,1,2"
        raise ConfigurationError(f"seeds = {text!r}: expected {expected}") from None
    if min(numbers) < 0:
        raise ConfigurationError(f"seeds = {text!r}: a seed is 0 or more")
    return tuple(dict.fromkeys(numbers))


def chosen_rows(
    table: Table,
    text: str = "",  # names of runs with commas between them; "" for all
) -> list:  # names of runs
    "The runs of a table that a text names (`ConfigurationError` suggests the nearest one)."
    run_names = list(dict.fromkeys(cell.run for cell in table.cells))
    parts = [part.strip() for part in text.split(",")]
    rows = [part for part in parts if part]
    for row in rows:
        if row not in run_names:
            hint, valid = nearest(row, run_names), ", ".join(run_names)
            raise ConfigurationError(f"rows = {row!r}{hint}: {table.notes.slug} has {valid}")
    return rows or run_names


# Jobs


def _prerequisite_name(prerequisite, experiment, name):
    if prerequisite.method.generates:
        return f"images for {name}"
    if experiment.members:
        return f"member of {name}"
    return f"start of {name}"


class _Jobs:
    "The jobs of a table while it is planned: run id → Job, those that others build on before these."

    def __init__(self, preset: Preset):
        self.preset = preset
        self.by_run: dict[str, Job] = {}

    def add(self, experiment, seed, *, name, protocols):
        "A run that a cell asks for, after the runs that it builds on."
        experiment = self.preset.resolved(experiment)
        needs = self._add_prerequisites(experiment, seed, name)
        run = run_id(experiment, self.preset, seed)
        pairs = tuple((protocol, self._scores_id(run, protocol)) for protocol in protocols)
        job = Job(name, experiment, seed, run, pairs, needs)
        self.by_run[run] = _merged(self.by_run.get(run), job)

    def _add_prerequisites(self, experiment, seed, name):
        "Ids of the runs that an experiment builds on, which are planned before it."
        runs = []
        for prerequisite in prerequisites(experiment, self.preset):
            own_name = _prerequisite_name(prerequisite, experiment, name)
            needs = self._add_prerequisites(prerequisite, seed, name)
            run = run_id(prerequisite, self.preset, seed)
            self.by_run.setdefault(run, Job(own_name, prerequisite, seed, run, (), needs))
            runs.append(run)
        return tuple(runs)

    def _scores_id(self, run, protocol):
        return scores_identity(run, protocol, data_fingerprint(protocol.data, self.preset))


def plan_table(
    table: Table,
    preset: Preset,
    seeds: tuple,
    *,
    rows: list | None = None,  # names of runs, from `chosen_rows`; default all
) -> list:  # of Job, equal runs once, the runs that others build on before these
    "All runs of some rows with the protocols that their cells ask for (`DataError` where real data is not there)."
    jobs = _Jobs(preset)
    for row in chosen_rows(table) if rows is None else rows:
        names = {cell.protocol for cell in table.cells if cell.run == row}
        protocols = sorted({table.protocols[name] for name in names}, key=str)
        for seed in seeds:
            jobs.add(table.experiments[row], seed, name=table.names[row], protocols=protocols)
    return list(jobs.by_run.values())


def _merged(first: Job | None, second: Job) -> Job:
    "Two equal runs as one job with the protocols of both; the name is that of the one that is tested."
    if first is None:
        return second
    named = first if first.protocols else second
    protocols = dict.fromkeys((*first.protocols, *second.protocols))
    return replace(named, protocols=tuple(protocols))


def merged_jobs(
    jobs: Iterable[Job],  # perhaps of several tables
) -> list:  # of Job
    "Equal runs as one job with all their protocols."
    by_run: dict[str, Job] = {}
    for job in jobs:
        by_run[job.run] = _merged(by_run.get(job.run), job)
    return list(by_run.values())


def is_missing(job: Job, archive: Archive) -> bool:
    "Whether a run or one of its scores has yet to be made."
    return archive.read(job.run) is None or bool(job.missing_scores(archive))


def without_weights(
    jobs: list,  # of Job
    missing: set,  # ids of runs that are to be made
    archive: Archive,
) -> set:  # of run ids
    "Runs with a record whose weights are not on this machine, although runs that are to be made start from them."
    by_run = {job.run: job for job in jobs}
    lacking: set[str] = set()
    unchecked = [run for job in jobs if job.run in missing for run in job.needs]
    while unchecked:
        job = by_run[unchecked.pop()]
        if job.run in missing or job.run in lacking or archive.has_weights(job.run):
            continue
        if job.experiment.method.generates:  # the images that it generated may be here
            continue
        lacking.add(job.run)
        unchecked += job.needs
    return lacking


# Reasons: a run is missing because it never ran, or because something that it depends on is no longer what it was: a record
# of the same name and seed with another run id says what changed. Scores are missing when a protocol is new.


def _differences(old: dict, new: dict, prefix: str = "") -> Iterator[str]:
    "Dotted names of the entries in which two nested dicts differ."
    for key in sorted({*old, *new}):
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            yield from _differences(before, after, f"{prefix}{key}.")
        elif before != after:
            yield prefix + key


def _through_json(value):
    "Tuples become lists, as in a record."
    return json.loads(json.dumps(value))


def changed_inputs(
    job: Job,
    records: list,  # all records of the preset
    preset: Preset,
) -> list:  # dotted names
    "In what the latest record of the same name and seed differs from a job; empty when there is none."
    same = [record for record in records if record["name"] == job.name and record["seed"] == job.seed]
    if not same:
        return []
    latest = max(same, key=lambda record: record["finished"])
    size = preset.training_values(job.experiment)
    inputs = _through_json(dict(experiment=describe(preset.resolved(job.experiment)), size=size))
    recorded = {key: latest[key] for key in inputs}
    differences = list(_differences(recorded, inputs))
    if latest["data"]["fingerprint"] != training_fingerprint(job.experiment, preset):
        differences.append("data")
    return differences


def reason(
    job: Job,
    archive: Archive,
    records: list,  # all records of the preset
) -> str:  # "" when nothing is missing
    "Why a job would run, in words."
    if archive.read(job.run) is None:
        return _training_reason(job, archive, records)
    untested = [protocol for protocol, _ in job.missing_scores(archive)]
    if not untested:
        return ""
    first = _protocol_words(untested[0])
    if len(untested) > 2:
        where = f"{first} and {len(untested) - 1} other protocols"
    else:
        where = ", ".join(_protocol_words(protocol) for protocol in untested)
    retrained = "" if archive.has_weights(job.run) else "; its weights are not here, so it is trained again"
    return f"not tested yet on {where}{retrained}"


def _training_reason(job, archive, records):
    if (archive.run_folder(job.run) / "checkpoint.safetensors").exists():
        return "interrupted; goes on from its checkpoint"
    failure = archive.failure(job.run)
    if failure:
        return f"failed before: {failure}"
    differences = changed_inputs(job, records, archive.preset)
    return f"stale since {', '.join(differences)} changed" if differences else "never ran"


def _protocol_words(protocol):
    options = {key: value for key, value in describe(protocol).items() if key != "data"}
    words = [f"{key}={value}" for key, value in options.items()]
    return " ".join([str(protocol.data), *words])


# How long: the median speed of earlier runs with the same network, else of any run of the preset.


def job_images(job: Job, preset: Preset) -> int:
    "Training images that a run sees, for progress and estimates."
    per_epoch = 0 if preset.steps else UNKNOWN_EPOCH
    return total_steps(job.experiment, preset, per_epoch) * batch_images(job.experiment, preset)


def _typical_speeds(records) -> dict[str, float]:
    "Seconds an image by a network's description, and of any network."
    speeds = defaultdict(list)
    for record in records:
        if record.get("train_seconds") and record["steps"] and not record.get("resumed_at"):
            speed = record["train_seconds"] / (record["steps"] * record["batch"])
            network = record["experiment"].get("model", {})
            speeds[str(network)].append(speed)
            speeds["any"].append(speed)
    return {network: float(np.median(values)) for network, values in speeds.items()}


def estimate_seconds(
    jobs: list,  # to be run
    preset: Preset,
    records: list,  # of the preset
) -> float:  # in one process; nan when nothing ran before
    "How long some jobs may take, from the records of earlier runs."
    if not jobs:
        return 0.0
    typical = _typical_speeds(records)
    if not typical:
        return math.nan
    seconds = 0.0
    for job in jobs:
        network = _through_json(describe(job.experiment)).get("model", {})
        speed = typical.get(str(network), typical["any"])
        seconds += START_SECONDS + speed * job_images(job, preset)
    return seconds


def human_time(seconds: float) -> str:
    "A duration as people say it."
    if math.isnan(seconds):
        return "no estimate: nothing ran before"
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


# Many tables


@dataclass(frozen=True)
class PlannedTable:
    "What a table would run."

    slug: str
    described: int  # runs that the table's file describes, times seeds
    jobs: list  # of Job; empty where the data is not here
    missing: dict  # run id → reason, for the jobs that would run
    missing_data: str  # what data has to be found before the rest can run


class OtherTraining(NamedTuple):
    "Records that were made before some kind of experiment was changed; what a change concerns has another run id."

    different: int  # made before the last change
    unknown: int  # that do not say what their code computed


def other_training(records: list) -> OtherTraining:
    "How many records are older than the last change of what some kind of experiment computes."
    versions = [record.get("computes") for record in records]
    current = training_version()
    stated = [version for version in versions if version]
    different = [version for version in stated if version != current]
    return OtherTraining(len(different), len(versions) - len(stated))


def plan_tables(
    slugs: list,
    preset: Preset,
    seeds: tuple,
    *,
    published: bool = True,  # False: only what this machine trained counts
) -> list:  # of PlannedTable
    "What some tables would run, or which data they lack."
    archive = Archive(preset, published=published)
    records = archive.records()
    return [_planned_table(load_table(slug), seeds, archive, records=records) for slug in slugs]


def _planned_table(table, seeds, archive, *, records):
    jobs, missing_data = [], ""
    try:
        jobs = plan_table(table, archive.preset, seeds)
    except DataError as error:
        missing_data = str(error)
    reasons = {job.run: reason(job, archive, records) for job in jobs}
    missing = {run: text for run, text in reasons.items() if text}
    for run in without_weights(jobs, set(missing), archive):
        missing[run] = WEIGHTS_REASON
    run_count = len({cell.run for cell in table.cells}) * len(seeds)
    return PlannedTable(table.notes.slug, run_count, jobs, missing, missing_data)
