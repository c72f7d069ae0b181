"Run jobs side by side, each in a process of its own."

# Its peak memory is then its own, a crash takes nothing with it, and one thread per run keeps the numbers independent of
# how many run at once.

import contextlib
import multiprocessing
import os
import queue
import threading
from concurrent.futures import ThreadPoolExecutor

from tqdm.auto import tqdm

from reidnb.runs.plan import job_images
from reidnb.runs.presets import Preset
from reidnb.runs.records import Archive
from reidnb.runs.worker import Failure, describe_job, pool_worker


def default_processes(preset: Preset) -> int:
    "As many runs side by side as there are cores for."
    cores = os.cpu_count() or 1
    return max(1, cores // preset.threads)


def waves(
    jobs: list,  # of Job
) -> list:  # lists of Job
    "Jobs that can run side by side: those that need no other of them, then those that start from these, and so on."
    groups = []
    remaining = list(jobs)
    while remaining:
        pending = {job.run for job in remaining}
        groups.append([job for job in remaining if pending.isdisjoint(job.needs)])
        remaining = [job for job in remaining if not pending.isdisjoint(job.needs)]
    return groups


def run_jobs(
    jobs: list,  # of Job
    preset: Preset,
    parallel: int | None = None,  # processes; default one per core
    *,
    published: bool = True,  # whether published records count as done
) -> dict:  # a job's title → reason, for those that failed
    "Run jobs side by side with one progress bar; one that fails does not stop the others."
    workers = _Workers(preset, published)
    images = sum(job_images(job, preset) for job in jobs)
    title = f"{len(jobs)} runs"
    with tqdm(total=images, unit=" images", unit_scale=True, desc=title, smoothing=0.05) as bar:
        with _listening(workers.reports, bar) as failures:
            _run_waves(jobs, workers, parallel or default_processes(preset))
    return failures


def _run_waves(jobs, workers, parallel):
    with ThreadPoolExecutor(parallel) as pool:
        try:
            for wave in waves(jobs):
                list(pool.map(workers.run, wave))
        except KeyboardInterrupt:
            workers.stop()
            raise


class _Workers:
    "One process a job; all of them end together."

    def __init__(self, preset, published):
        self.preset = preset
        self.archive = Archive(preset, published=published)
        self.context = multiprocessing.get_context("spawn")
        self.reports = self.context.Queue()
        self.running = set()
        self.stopped = threading.Event()

    def run(self, job):
        "Train and test one job; called in a thread, returns when its process has ended."
        if self.stopped.is_set():
            return
        description = describe_job(job, self.preset, self.archive).model_dump_json()
        daemon = self.preset.workers == 0  # a daemon may have no loader processes
        process = self.context.Process(target=pool_worker, args=(description, self.reports), daemon=daemon)
        self.running.add(process)
        process.start()
        process.join()
        self.running.discard(process)
        if process.exitcode and not self.stopped.is_set():
            hint = "(killed, or out of memory); give the same command again to go on from its checkpoint"
            reason = f"its process ended with code {process.exitcode} {hint}"
            self.reports.put(Failure(job.title, reason))

    def stop(self):
        self.stopped.set()
        for process in list(self.running):
            process.terminate()


@contextlib.contextmanager
def _listening(reports, bar):
    "Collect failures and show progress in a thread while the jobs run."
    failures: dict[str, str] = {}
    finished = threading.Event()
    listener = threading.Thread(target=_listen, args=(reports, bar), kwargs=dict(failures=failures, finished=finished))
    listener.start()
    try:
        yield failures
    finally:
        finished.set()
        listener.join()


def _listen(reports, bar, *, failures, finished):
    "Turn workers' reports into progress and failures until all have finished."
    while not (finished.is_set() and reports.empty()):
        try:
            report = reports.get(timeout=0.2)
        except queue.Empty:
            continue
        if isinstance(report, Failure):
            failures[report.title] = report.reason
        else:
            bar.update(min(report, bar.total - bar.n))
