"The plan: seeds and rows, equal runs, what starts from what, reasons, estimates."

import math

import pytest
from conftest import record_of, scores_of

from reidnb.catalogue.experiments import load_table, table_slugs
from reidnb.core.configuration import ConfigurationError
from reidnb.runs.datasets import data_fingerprint
from reidnb.runs.plan import (
    WEIGHTS_REASON,
    changed_inputs,
    chosen_rows,
    estimate_seconds,
    human_time,
    is_missing,
    merged_jobs,
    other_training,
    parse_seeds,
    plan_tables,
    without_weights,
)
from reidnb.runs.presets import load_preset
from reidnb.runs.records import Archive, training_version


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    "The smoke preset on a store of its own."
    store = tmp_path_factory.mktemp("store")
    return load_preset("smoke").model_copy(update=dict(store=str(store)))


@pytest.fixture(scope="module")
def plans(smoke):
    "Every table's plan where nothing has run: slug → PlannedTable."
    planned = plan_tables(table_slugs(), smoke, (0,), published=False)
    return {table.slug: table for table in planned}


def test_seeds_are_numbers_with_commas():
    assert parse_seeds("0,1,2") == (0, 1, 2)
    assert parse_seeds(3) == (3,)
    assert parse_seeds("1,1") == (1,)
    with pytest.raises(ConfigurationError, match="0,1,2"):
        parse_seeds("a,b")
    with pytest.raises(ConfigurationError, match="0 or more"):
        parse_seeds("-1")


def test_an_unknown_row_names_the_nearest():
    with pytest.raises(ConfigurationError, match="did you mean 'r50-"):
        chosen_rows(load_table("market-backbones"), "r50-o1")


def test_in_an_empty_store_everything_is_still_to_be_done(plans):
    missing = plans["market-backbones"].missing
    assert len(missing) == 26
    assert set(missing.values()) == {"never ran"}


def test_generated_images_come_before_the_runs_that_use_them(plans):
    jobs = plans["hhl-distances"].jobs
    generators = [job for job in jobs if job.name.startswith("images for")]
    tested = [job for job in jobs if job.protocols]
    assert len(generators) == len(tested) == 2
    for job in tested:
        assert any(generator.run in job.needs for generator in generators)
    order = [job.run for job in jobs]
    for job in jobs:
        assert all(order.index(run) < order.index(job.run) for run in job.needs)


def test_equal_runs_of_several_tables_are_planned_once(plans):
    jobs = [job for planned in plans.values() for job in planned.jobs]
    merged = {job.run: job for job in merged_jobs(jobs)}
    assert len(merged) == len(merged_jobs(jobs)) < len(jobs)
    shared = plans["market-reranked"].jobs[0]
    assert merged[shared.run].protocols != shared.protocols  # tested plainly and re-ranked


def test_a_published_run_is_trained_again_only_where_others_start_from_it(plans, smoke):
    "Records are published, weights are not: a new row that starts from a published run needs its weights."
    archive, jobs = Archive(smoke, published=False), plans["lwf"].jobs
    starting = [job for job in jobs if job.needs]
    starts = {run for job in starting for run in job.needs}
    for job in jobs:
        archive.write(job.run, record_of(job.run, name=job.name))
        for _, scores in job.protocols:
            archive.write(scores, scores_of(scores))
    new = starting[0]
    (archive.local_folder / f"{new.run}.json").unlink()
    assert is_missing(new, archive)
    assert without_weights(jobs, {new.run}, archive) == set(new.needs) <= starts
    planned = plan_tables(["lwf"], smoke, (0,), published=False)[0]
    assert planned.missing == {new.run: "never ran", new.needs[0]: WEIGHTS_REASON}
    weights = archive.run_folder(new.needs[0]) / "weights.safetensors"
    weights.parent.mkdir(parents=True)
    weights.touch()
    assert without_weights(jobs, {new.run}, archive) == set()
    assert without_weights(jobs, set(), archive) == set()


def test_a_changed_setting_is_named(plans, smoke):
    job = plans["market-backbones"].jobs[0]
    size = smoke.training_values(job.experiment)
    recorded = dict(size, image=list(size["image"]))  # as JSON gives it back
    record = dict(name=job.name, seed=0, finished="2026-01-01", experiment={}, size=recorded)
    record["data"] = dict(fingerprint=data_fingerprint("market", smoke))
    longer = smoke.model_copy(update=dict(steps=9, identities=13))
    assert changed_inputs(job, [record], smoke) == []
    assert changed_inputs(job, [record], longer) == ["size.steps", "data"]


def test_records_of_other_training_are_counted_apart_from_those_that_do_not_say():
    records = [dict(computes=training_version()), dict(computes="0123"), dict(commit="abc"), dict(computes="")]
    counted = other_training(records)
    assert counted.different == 1
    assert counted.unknown == 2


def test_estimates_come_from_earlier_runs_of_the_same_network(plans, smoke):
    job = plans["market-backbones"].jobs[0]
    assert math.isnan(estimate_seconds([job], smoke, []))
    assert estimate_seconds([], smoke, []) == 0
    record = dict(train_seconds=8.0, steps=8, batch=16, experiment={})
    other = dict(record, train_seconds=800.0, experiment=dict(model=dict(backbone="resnet18")))
    both, one = estimate_seconds([job], smoke, [record, other]), estimate_seconds([job], smoke, [record])
    assert both == one == pytest.approx(5 + 8)
    assert estimate_seconds([job], smoke, [dict(record, resumed_at=3), other]) > 100


def test_durations_as_people_say_them():
    assert human_time(12.3) == "12 s"
    assert human_time(600) == "10 min"
    assert human_time(7200) == "2.0 h"
    assert human_time(math.nan) == "no estimate: nothing ran before"
