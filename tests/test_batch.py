"Many tables: their workflow, killed twice and finished, one run that fails, a plan that says why."

import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest
from conftest import record_of, scores_of
from test_journey import results

from reidnb.runs.batch import workflow_plan, write_workflow
from reidnb.runs.plan import plan_tables
from reidnb.runs.presets import load_preset
from reidnb.runs.records import Archive

TABLES = ("duke-backbones", "msmt-backbones")  # five runs
WORDS = ("--preset", "smoke", "--seeds", "0")
posix = pytest.mark.skipif(sys.platform == "win32", reason="Snakemake and signals want a Unix")


@pytest.fixture(autouse=True)
def data(home, drawn):
    "The data of the smoke preset, drawn once for all tests."
    shutil.copytree(drawn, home.store / "drawn")


def workflow_of(slugs, preset):
    "What a batch of tables has to do on this machine's own records."
    planned = plan_tables(slugs, preset, (0,), published=False)
    return planned, workflow_plan(planned, preset, (0,), published=False)


@pytest.fixture
def smoke(tmp_path):
    return load_preset("smoke").model_copy(update=dict(store=str(tmp_path / "store")))


def test_tables_share_the_runs_of_a_workflow(smoke):
    _, workflow = workflow_of(["market-backbones", "market-reranked"], smoke)
    assert len(workflow.runs) == 26 and len(workflow.pages) == 2
    assert all(run.train for run in workflow.runs)
    tested_twice = [run for run in workflow.runs if len(run.scores) == 2]  # plainly and re-ranked, trained once
    assert len(tested_twice) == 4
    assert len(set(workflow.targets)) == 26 + 26 + 4 + 2


def test_a_start_without_weights_is_trained_again_and_comes_first(smoke):
    planned, _ = workflow_of(["lwf"], smoke)
    archive = Archive(smoke, published=False)
    for job in planned[0].jobs:
        archive.write(job.run, record_of(job.run))
        for _, scores in job.protocols:
            archive.write(scores, scores_of(scores))
    second = next(job for job in planned[0].jobs if job.needs)
    (archive.local_folder / f"{second.run}.json").unlink()
    workflow = workflow_plan(planned, smoke, (0,), published=False)
    runs = {run.run: run for run in workflow.runs}
    start = runs[second.needs[0]]
    assert len(runs) == 2
    assert start.train and not start.scores
    assert runs[second.run].after == [start.record]


def test_a_workflow_is_files(smoke):
    _, workflow = workflow_of(["duke-backbones"], smoke)
    write_workflow(workflow)
    plan = json.loads((workflow.folder / "plan.json").read_text())
    assert plan["targets"] == workflow.targets and plan["options"] == "--preset smoke --seeds 0 --local"
    assert {Path(run["description"]).exists() for run in plan["runs"]} == {True}
    assert "rule all" in (workflow.folder / "Snakefile").read_text()


def finished(home):
    "Records that a store holds."
    return [p for p in (home.store / "records" / "smoke").glob("*.json") if "." not in p.stem]


def start_and_kill(home, kill, after):
    "A batch that is killed when it has finished some more runs."
    process, had, deadline = home.start("batch", *TABLES, *WORDS), len(finished(home)), time.monotonic() + 240
    while len(finished(home)) < had + after and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert process.poll() is None, process.communicate()[1]
    kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close(), process.stderr.close()


@posix
def test_batch_killed_twice_is_an_uninterrupted_one(home):
    start_and_kill(home, os.kill, 1)  # the batch alone: its workers notice and end
    start_and_kill(home, os.killpg, 1)  # everything at once
    assert 2 <= len(finished(home)) < 5
    code, out, err = home.reidnb("batch", *TABLES, *WORDS)
    assert code == 0 and "0 left" in out, err
    assert len(finished(home)) == 5
    for table in TABLES:
        assert "Provenance" in (home.store / "tables" / "smoke" / f"{table}.html").read_text()
    for path in finished(home):  # a text log beside each run
        assert "done" in (home.store / "runs" / path.stem / "score.log").read_text()
    killed = results(home)
    home.environment["REIDNB_STORE"], home.store = str(home.folder / "other"), home.folder / "other"
    for table in TABLES:  # without Snakemake, without a kill
        assert home.reidnb("table", table, *WORDS)[0] == 0
    assert results(home) == killed
    code, out, _ = home.reidnb("plan", *TABLES, *WORDS, "--json")
    assert code == 0 and json.loads(out)["total"] == {"runs": 0, "seconds": 0}


@posix
def test_a_failing_run_does_not_stop_the_others(home):
    code, out, _ = home.reidnb("plan", "duke-backbones", "--preset", "smoke", "--seeds", "0", "--json")
    plan = json.loads(out)["tables"][0]
    assert code == 0 and plan["runs"] == 3 and {job["why"] for job in plan["missing"]} == {"never ran"}
    victim = plan["missing"][1]["run"]
    checkpoint = home.store / "runs" / victim / "checkpoint.safetensors"
    from reidnb.training.checkpoints import save_tensors

    save_tensors(checkpoint, {}, run="another", step=1, history=[])
    code, out, err = home.reidnb("batch", "duke-backbones", "--preset", "smoke", "--seeds", "0")
    assert code == 1 and "2 runs done, 1 left" in out
    reasons = [line for line in err.splitlines() if line.startswith("failed:")]
    assert len(reasons) == 1 and victim in reasons[0] and "belongs to run 'another'" in reasons[0]
    assert "not rendered: duke-backbones" in err and "Traceback" not in err.split("failed:")[1]
    assert {p.stem for p in finished(home)} == {job["run"] for job in plan["missing"]} - {victim}
    checkpoint.unlink()  # what the message says
    code, out, err = home.reidnb("batch", "duke-backbones", "--preset", "smoke", "--seeds", "0")
    assert code == 0 and "1 runs done, 0 left" in out, err


def test_plan_says_which_input_changed(home):
    assert home.reidnb("table", "msmt-backbones", "--preset", "smoke", "--rows", "r50-01")[0] == 0
    home.change("[smoke]\n", "[smoke]\nlearning_rate = 0.02\n")
    out = home.reidnb("plan", "msmt-backbones", "--preset", "smoke", "--seeds", "0")[1]
    assert "ResNet-50, learned weights, seed 0" in out and "stale since size.learning_rate changed" in out
    assert "never ran" in out  # the other row


def test_a_second_step_starts_from_the_first(home):
    path = home.folder / "data" / "experiments" / "duke-backbones.toml"
    tuned = '[runs.r50-01]\nname  = "fine-tuned"\ndata  = "duke"\nstart = "market-backbones/r50-01"\nschedule = { rate = 0.1 }\n'
    path.write_text(path.read_text().replace('[runs.r50-01]\nname = "ResNet-50, baseline"\ndata = "duke"\n', tuned))
    assert tuned in path.read_text()
    code, out, err = home.reidnb("table", "duke-backbones", "--preset", "smoke", "--rows", "r50-01")
    assert code == 0 and "2 runs" in out, err
    records = [json.loads(p.read_text()) for p in finished(home)]
    first = next(r for r in records if r["data"]["name"] == "market")
    second = next(r for r in records if r["data"]["name"] == "duke")
    assert first["name"] == "start of fine-tuned" and second["experiment"]["start"] == first["experiment"]
    from safetensors.numpy import load_file

    weights = [load_file(home.store / "runs" / r["run"] / "weights.safetensors") for r in (first, second)]
    stem = [w["net.backbone.conv1.weight"] for w in weights]
    moved = abs(stem[0] - stem[1]).max()
    assert 0 < moved < 0.2 * abs(stem[0]).max()  # near its first step, as a run from nothing would not be


def test_book_renders_what_exists(home):
    assert home.reidnb("table", "msmt-backbones", "--preset", "smoke", "--rows", "r50-01")[0] == 0
    code, out, err = home.reidnb("book", "--preset", "smoke", "--seeds", "0")
    assert code == 0, err
    index, table = (
        (home.store / "book" / "smoke" / f"{name}.html").read_text() for name in ("index", "msmt-backbones")
    )
    assert "Scoreboard" in index and index.count("not run yet") > 20 and "<footer>1 tables;" in index
    assert "not run" in table and 'href="notebooks/msmt-backbones.html"' in table and "seeds 0; 1 runs" in table
    assert (home.store / "book" / "smoke" / "notebooks" / "msmt-backbones.html").exists()
    assert len(finished(home)) == 1  # nothing was trained for it
