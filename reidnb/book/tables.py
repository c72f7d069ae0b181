"Run what a table lacks: `plan_table` lists its jobs, `regenerate` runs those that are missing."

import math
from pathlib import Path
from typing import NamedTuple

from tqdm.auto import tqdm

from reidnb.book.pool import default_processes, run_jobs
from reidnb.catalogue.experiments import Table
from reidnb.core.files import clear_leftovers
from reidnb.data.views import STRETCHED, View
from reidnb.runs.datasets import draw_all, drawn_scale, members, open_data, testing_scale, training_scale
from reidnb.runs.plan import estimate_seconds, human_time, is_missing, plan_table, without_weights
from reidnb.runs.presets import Preset
from reidnb.runs.records import Archive
from reidnb.synthetic.drawn import drawn_root, is_drawn


class DecodedImages(NamedTuple):
    "A half of a data set as some run sees it."

    part: str  # train or test
    data: str  # data set, or several as one
    scale: tuple  # of height and width against the preset's
    view: View  # how images are cut and fitted


def prepare_data(
    jobs: list,  # of Job
    preset: Preset,
    parallel: int,  # processes that draw
):
    "Draw and decode what the jobs need, before they start, once."
    clear_leftovers(preset.store)
    image_sets = {*_training_images(jobs), *_test_images(jobs)}
    if preset.data == "drawn":
        names = {name for images in image_sets for name in members(images.data)}
        _draw(sorted(names), preset, parallel)
    with tqdm(desc="decoding", unit=" images", leave=False) as bar:
        for images in sorted(image_sets, key=_training_first):
            open_data(images.data, preset, images.part, progress=bar.update, scale=images.scale, view=images.view)


def _training_images(jobs):
    for job in jobs:
        scale = training_scale(job.experiment)
        for name in job.experiment.domains():
            yield DecodedImages("train", name, scale, STRETCHED)


def _test_images(jobs):
    for job in jobs:
        for protocol, _ in job.protocols:
            scale = testing_scale(job.experiment, protocol)
            yield DecodedImages("test", protocol.data, scale, protocol.view)


def _training_first(images):
    return images.part != "train", str(images)


def _draw(names, preset, parallel):
    "Draw the data sets that are not on this machine."
    folder = Path(preset.store) / "drawn"
    scale = drawn_scale(preset)
    missing = [name for name in names if not is_drawn(drawn_root(name, folder, scale))]
    if not missing:
        return
    with tqdm(desc=f"drawing {', '.join(missing)}", unit=" images") as bar:
        draw_all(preset, tuple(missing), jobs=parallel, progress=bar.update)


def regenerate(
    table: Table,
    preset: Preset,
    seeds: tuple = (0,),
    *,
    rows: list | None = None,  # names of runs; default all that are planned
    parallel: int | None = None,  # processes; default one per core
    published: bool = True,  # False: only what this machine trained counts
    say=print,  # called with each sentence about what happens
) -> dict:  # a job's title → reason of failure
    "Run whatever a table lacks, first steps before the runs that start from them."
    archive = Archive(preset, published=published)
    jobs = plan_table(table, preset, seeds, rows=rows)
    missing = {job.run for job in jobs if is_missing(job, archive)}
    again = without_weights(jobs, missing, archive)
    jobs_to_run = [job for job in jobs if job.run in missing | again]
    summary = f"{len(jobs)} runs, {len(jobs) - len(missing)} with records, {len(missing)} to run"
    repeated = f", and {len(again)} again that these start from, whose weights are not here" if again else ""
    say(f"{table.notes.slug} at {preset.name}: {summary}{repeated}")
    if not jobs_to_run:
        return {}
    parallel = min(parallel or default_processes(preset), len(jobs_to_run))
    prepare_data(jobs_to_run, preset, parallel)
    seconds = estimate_seconds(jobs_to_run, preset, archive.records())
    if not math.isnan(seconds):
        plural = "es" if parallel > 1 else ""
        say(f"about {human_time(seconds / parallel)} on {parallel} process{plural}, judging by earlier runs")
    return run_jobs(jobs_to_run, preset, parallel, published=published)
