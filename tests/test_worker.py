"The worker: what describes a job, whose records count, what a job leaves."

import dataclasses
import json
import pickle
import queue
import shutil
import signal

import pytest
from conftest import record_of

from reidnb.catalogue.experiments import Experiment, load_table
from reidnb.runs import worker
from reidnb.runs.datasets import run_id
from reidnb.runs.plan import is_missing, plan_table
from reidnb.runs.presets import load_preset
from reidnb.runs.records import Archive
from reidnb.runs.worker import Failure, JobDescription, ProgressLines, describe_job, failure_text, pool_worker


@pytest.fixture
def smoke(tmp_path):
    return load_preset("smoke").model_copy(update=dict(store=str(tmp_path / "store")))


@pytest.fixture
def archive(smoke, tmp_path):
    "Records in folders of this test, published ones included."
    return Archive(smoke, tmp_path)


@pytest.fixture
def job(smoke):
    return plan_table(load_table("market-backbones"), smoke, (0,), rows=["r50-01"])[0]


@pytest.fixture
def in_this_process(monkeypatch):
    "What a worker does to its own process is left undone here."
    monkeypatch.setattr(worker, "end_with_parent", lambda: None)
    handler = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, handler)


@pytest.mark.parametrize("slug", ["market-backbones", "lwf", "hhl-distances"])
def test_a_description_survives_json_and_pickle(slug, smoke, archive):
    for job in plan_table(load_table(slug), smoke, (0,)):
        description = describe_job(job, smoke, archive)
        text = description.model_dump_json()
        assert JobDescription.model_validate_json(text) == description
        assert pickle.loads(pickle.dumps(description)) == description
        read = JobDescription.model_validate_json(text).job
        assert run_id(read.experiment, smoke, read.seed) == job.run


def test_a_published_run_without_weights_counts_local_records_only(job, smoke, archive):
    assert describe_job(job, smoke, archive).published  # never ran: published runs serve as its start
    archive.write(job.run, record_of(job.run))
    archive.publish({job.run})
    shutil.rmtree(archive.local_folder)
    assert not describe_job(job, smoke, archive).published  # trained again, with all of its scores
    weights = archive.run_folder(job.run) / "weights.safetensors"
    weights.parent.mkdir(parents=True)
    weights.touch()
    assert describe_job(job, smoke, archive).published
    assert not describe_job(job, smoke, Archive(smoke, published=False)).published


def test_weights_that_stayed_elsewhere_are_trained_here(job, smoke, archive, monkeypatch):
    from reidnb.training.checkpoints import CheckpointError

    counted = []

    def missing_start(description, progress):
        counted.append(description.published)
        if description.published:
            raise CheckpointError("the start's weights are not here")

    monkeypatch.setattr(worker, "_run_and_score", missing_start)
    worker.execute_job(describe_job(job, smoke, archive))
    assert counted == [True, False]
    monkeypatch.setattr(worker, "_run_and_score", lambda description, progress: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        worker.execute_job(describe_job(job, smoke, archive))


def test_a_batch_worker_trains_then_scores(job, smoke, tmp_path, in_this_process, capsys):
    local = Archive(smoke, published=False)
    path = tmp_path / "job.json"
    path.write_text(describe_job(job, smoke, local).model_dump_json())
    assert worker.main(["run", str(path)]) == 0
    assert local.read(job.run)["seed"] == 0 and local.read(job.run)["computes"]
    assert is_missing(job, local)  # not tested
    assert worker.main(["score", str(path)]) == 0
    assert not is_missing(job, local)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"run {job.name}, seed 0, preset smoke"
    assert [line for line in lines if line == "done"] == ["done", "done"]


def test_both_workers_report_a_failure_in_one_line(job, smoke, tmp_path, in_this_process, capsys):
    too_large = Experiment.model_validate(dict(batch=dict(images=4 * 4 * 17)))
    broken = dataclasses.replace(job, experiment=too_large, run=run_id(too_large, smoke, 0))
    local = Archive(smoke, published=False)
    description = describe_job(broken, smoke, local)
    reports: queue.Queue = queue.Queue()
    pool_worker(description.model_dump_json(), reports)
    failure = reports.get_nowait()
    assert isinstance(failure, Failure)
    assert failure.title == broken.title and "a batch wants 17" in failure.reason
    assert "a batch wants 17" in local.failure(broken.run)
    path = tmp_path / "job.json"
    path.write_text(description.model_dump_json())
    assert worker.main(["run", str(path)]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == failure.reason


def test_errors_of_others_carry_their_name():
    assert failure_text(ValueError("seeds = 'a'")) == "seeds = 'a'"
    assert failure_text(KeyError("run")) == "KeyError: 'run'"


def test_progress_is_a_line_now_and_then(monkeypatch, capsys):
    clock = iter([0.0, 1.0, 16.0, 17.0])
    monkeypatch.setattr(worker.time, "monotonic", lambda: next(clock))
    progress = ProgressLines(total=1000)
    progress(200)  # a checkpoint's
    progress(160)  # 10 images a second
    progress(10)
    assert capsys.readouterr().out == "360 of 1000 images, about 64 s left\n"


def test_each_run_holds_a_gpu_of_its_own(tmp_path, monkeypatch):
    pytest.importorskip("fcntl")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    shown = []
    with worker.held_gpu(2, tmp_path):
        shown.append(worker.os.environ["CUDA_VISIBLE_DEVICES"])
        with worker.held_gpu(2, tmp_path):
            shown.append(worker.os.environ["CUDA_VISIBLE_DEVICES"])
    with worker.held_gpu(2, tmp_path):
        shown.append(worker.os.environ["CUDA_VISIBLE_DEVICES"])
    assert shown == ["0", "1", "0"]


def test_a_description_is_small(job, smoke, archive):
    text = describe_job(job, smoke, archive).model_dump_json()
    assert len(text) < 8000
    assert set(json.loads(text)) == {"job", "preset", "published"}
