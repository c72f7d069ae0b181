"The one worker: it trains and scores one job, whoever starts it."

# The process pool of `reidnb table` calls `pool_worker`; a batch starts `python -m reidnb.runs.worker run JOB.json`. Both hand
# over a `JobDescription` and end in `execute_job`. Torch is for workers only, so it is imported there.

import argparse
import contextlib
import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from reidnb.core.configuration import Configuration
from reidnb.runs.plan import Job, job_images
from reidnb.runs.presets import Preset
from reidnb.runs.records import Archive

END_WITH_PARENT = "REIDNB_END_WITH_PARENT"  # set for processes that shall not outlive the one that started them


class JobDescription(Configuration):
    "All that a worker has to know of a job; it goes through JSON."

    job: Job
    preset: Preset
    published: bool  # whether published records count as done

    def without_protocols(self) -> "JobDescription":
        "The same run, trained and not tested."
        job = replace(self.job, protocols=())
        return self.model_copy(update=dict(job=job))


def is_trained_again(job: Job, archive: Archive) -> bool:
    "Whether a run has a record, but its weights stayed on the machine that published it."
    return archive.read(job.run) is not None and not archive.has_weights(job.run)


def describe_job(
    job: Job,
    preset: Preset,
    archive: Archive,  # whose records count as done
) -> JobDescription:
    "A job for a worker. A run that is trained again counts this machine's records only: its scores come from one training."
    published = archive.published and not is_trained_again(job, archive)
    return JobDescription(job=job, preset=preset, published=published)


def execute_job(
    description: JobDescription,
    progress=None,  # called with the number of training images seen since the last call
):
    "Whatever of a run and its scores is missing; raises what goes wrong."
    from reidnb.training.checkpoints import CheckpointError

    try:
        _run_and_score(description, progress)
    except CheckpointError:
        if not description.published:
            raise
        # weights of a published run that this one builds on are not here: train all of it on this machine
        _run_and_score(description.model_copy(update=dict(published=False)), progress)


def _run_and_score(description, progress):
    from reidnb.runs.execute import run_and_score

    job, preset = description.job, description.preset
    run_and_score(
        job.experiment,
        preset,
        job.seed,
        protocols=[protocol for protocol, _ in job.protocols],
        name=job.name,
        archive=Archive(preset, published=description.published),
        progress=progress,
    )


def failure_text(error: Exception) -> str:
    "Why a job failed, in one line: our errors say what happened, others need their type's name."
    if isinstance(error, (ValueError, RuntimeError, OSError)):
        return str(error)
    return f"{type(error).__name__}: {error}"


# A worker of the process pool


class Failure(NamedTuple):
    "Why a job has no scores."

    title: str  # of the job
    reason: str


def pool_worker(
    description_json: str,  # a `JobDescription` as JSON: its kinds may come from extensions, which a new process has yet to load
    reports,  # queue that takes the number of images since the last report, or a `Failure`
):
    "One job in a process of its own. Control-C is the parent's to answer."
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()  # a parent that is killed cannot say so
    description = JobDescription.model_validate_json(description_json)
    try:
        execute_job(description, progress=reports.put)
    except Exception as error:
        reports.put(Failure(description.job.title, failure_text(error)))


# A worker of a batch


def end_with_parent():
    "End this process within seconds of the one that started it; the next batch goes on from its checkpoint."
    parent = os.getppid()

    def watch():
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def held_gpu(
    gpus: int,  # that runs share
    folder: Path,  # for lock files
):
    "Hold the first GPU that no other run holds, and let torch see no other."
    with contextlib.ExitStack() as stack:
        for number in range(gpus):
            lock = stack.enter_context(open(folder / f"gpu-{number}.lock", "w"))
            if _locked(lock):
                os.environ["CUDA_VISIBLE_DEVICES"] = str(number)
                break
        yield


def _locked(file):
    "Whether this process now holds a file's lock; it ends with the process."
    import fcntl  # not on Windows

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


class ProgressLines:
    "A line in the log now and then: images so far, and how long the rest may take."

    def __init__(
        self,
        total: int,  # images of the whole run
        every: float = 15.0,  # seconds between lines
    ):
        self.total, self.every = total, every
        self.images = 0  # so far
        self.resumed = 0  # images that a checkpoint brought along
        self.began = self.printed = time.monotonic()

    def __call__(self, images: int):
        self.images += images
        self.resumed = self.resumed or images
        now = time.monotonic()
        if now - self.printed <= self.every:
            return
        self.printed = now
        speed = max(self.images - self.resumed, 1) / (now - self.began)
        seconds_left = (self.total - self.images) / speed
        print(f"{self.images} of {self.total} images, about {seconds_left:.0f} s left", flush=True)


def _arguments(words):
    parser = argparse.ArgumentParser("reidnb.runs.worker", description="One job of a batch.")
    parser.add_argument("task", choices=("run", "score"), help="train the run, or also test it")
    parser.add_argument("job", type=Path, help="JSON file of its description")
    parser.add_argument("--gpus", type=int, default=0, help="GPUs that runs share")
    return parser.parse_args(words)


def main(
    words: list | None = None,  # default: those of the command line
) -> int:  # exit code
    "One job of a batch, with a log that says how far it is."
    arguments = _arguments(words)
    end_with_parent()
    description = JobDescription.model_validate_json(arguments.job.read_text(encoding="utf8"))
    job, preset = description.job, description.preset
    if arguments.task == "run":
        description = description.without_protocols()
    print(f"{arguments.task} {job.name}, seed {job.seed}, preset {preset.name}", flush=True)
    shared_gpus = arguments.gpus if arguments.gpus > 1 else 0
    try:
        with held_gpu(shared_gpus, arguments.job.parent):
            execute_job(description, ProgressLines(job_images(job, preset)))
    except Exception as error:
        print(failure_text(error), flush=True)
        return 1
    print("done", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
