"Batches: all tables overnight, on one machine or on a cluster, killed and continued."

# `reidnb table` is enough for one table on one machine. A batch of many tables is a graph: a run starts from another run,
# scores follow their run, a table's page follows its scores. Snakemake walks such graphs: it runs what is missing, goes on
# when one job fails, and hands jobs to Slurm. The plan (`reidnb plan`) becomes its workflow, `templates/Snakefile`; a job is
# the same `reidnb.runs.worker` that the process pool uses. BATCH.md says how to use it, and how to try Slurm.

import contextlib
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from reidnb.core.configuration import ConfigurationError
from reidnb.core.files import write_json, write_text
from reidnb.core.project import project_root
from reidnb.runs.plan import Job, PlannedTable, is_missing, merged_jobs, without_weights
from reidnb.runs.presets import Preset
from reidnb.runs.records import Archive
from reidnb.runs.worker import END_WITH_PARENT, JobDescription, describe_job, is_trained_again


@dataclass
class BatchRun:
    "A run with something missing: what the workflow has to know of it."

    run: str  # run id
    name: str  # for people
    description: str  # path of what its worker reads
    train: bool
    record: str  # path
    scores: list  # paths of those that are missing
    folder: str  # for logs
    needs: list  # ids of the runs that it builds on
    after: list = field(default_factory=list)  # paths of records that it waits for

    @property
    def outputs(self) -> list:  # paths
        return [*self.scores, self.record] if self.train else self.scores


@dataclass
class BatchPage:
    "A table's page: what the workflow has to know of it."

    slug: str
    after: list  # paths of scores that it waits for
    page: str
    log: str


class Limits(NamedTuple):
    "What runs may use."

    gpus: int  # runs that train at once on GPUs; 0 without one
    minutes: int  # a cluster's limit for one run
    memory: int  # MB of one run, for a cluster


@dataclass
class Workflow:
    "What Snakemake has to do."

    preset: Preset
    seeds: tuple
    published: bool  # False: only what this machine trained counts
    runs: list[BatchRun]
    pages: list[BatchPage]
    descriptions: dict[str, JobDescription]  # run id → what its worker reads
    limits: Limits

    @property
    def folder(self) -> Path:
        "Where plan, Snakefile and descriptions are written."
        return _batch_folder(self.preset)

    @property
    def targets(self) -> list:  # paths
        outputs = {path for run in self.runs for path in run.outputs}
        return [*sorted(outputs), *(page.page for page in self.pages)]


def _batch_folder(preset):
    return Path(preset.store) / "batch" / preset.name


def _batch_run(job: Job, archive: Archive, retrained: set) -> BatchRun:
    missing = job.missing_scores(archive)
    has_work = bool(missing) or job.run in retrained
    # a run whose record came with the clone but whose weights did not is trained here when a new protocol asks for them, or a
    # new run starts from them
    train = archive.read(job.run) is None or (has_work and is_trained_again(job, archive))
    record = _local_path(job.run, archive)
    scores = [_local_path(name, archive) for _, name in missing]
    description = _batch_folder(archive.preset) / "jobs" / f"{job.run}.json"
    folder = archive.run_folder(job.run)
    return BatchRun(job.run, job.name, str(description), train, record, scores, str(folder), list(job.needs))


def _local_path(name, archive):
    return str(archive.local_folder / f"{name}.json")


def _add_edges(runs: list[BatchRun]):
    "A run comes after the runs that it builds on."
    trained = {run.run: run.record for run in runs if run.train}
    for run in runs:
        run.after = [trained[needed] for needed in run.needs if needed in trained]


def _batch_page(planned: PlannedTable, archive: Archive, outputs: set) -> BatchPage:
    paths = [_local_path(scores, archive) for job in planned.jobs for _, scores in job.protocols]
    page = Path(archive.preset.store) / "tables" / archive.preset.name / f"{planned.slug}.html"
    after = [path for path in paths if path in outputs]
    return BatchPage(planned.slug, after, str(page), log=str(page.with_suffix(".log")))


def _all_jobs(planned: Iterable[PlannedTable]) -> list:
    return merged_jobs([job for table in planned for job in table.jobs])


def workflow_plan(
    planned: list,  # of PlannedTable
    preset: Preset,
    seeds: tuple,
    *,
    gpus: int = 0,  # runs that train at once on GPUs; 0 without one
    published: bool = True,  # False: only what this machine trained counts
    minutes: int = 1440,  # a cluster's limit for one run
    memory: int = 4000,  # MB of one run, for a cluster
) -> Workflow:
    "Runs and pages of some tables with what each of them waits for."
    archive = Archive(preset, published=published)
    jobs = _all_jobs(planned)
    missing = {job.run for job in jobs if is_missing(job, archive)}
    retrained = without_weights(jobs, missing, archive)
    batched = [job for job in jobs if job.run in missing or job.run in retrained]
    runs = [_batch_run(job, archive, retrained) for job in batched]
    _add_edges(runs)
    outputs = {path for run in runs for path in run.outputs}
    pages = [_batch_page(table, archive, outputs) for table in planned if table.jobs]
    descriptions = {job.run: describe_job(job, preset, archive) for job in batched}
    limits = Limits(gpus, minutes, memory)
    return Workflow(preset, seeds, published, runs, pages, descriptions, limits)


# The batch


def visible_gpus() -> int:
    "GPUs that the driver lists; 0 where there is no driver."
    if not shutil.which("nvidia-smi"):
        return 0
    listed = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True)
    return sum(line.startswith("GPU ") for line in listed.stdout.splitlines())


def _commands(workflow: Workflow) -> dict:
    "What Snakemake starts, for a shell; python and not `reidnb`, which need not be on a node's path."
    environment = ["env", f"REIDNB_HOME={project_root()}", f"{END_WITH_PARENT}=1"]
    python = [*environment, sys.executable, "-m"]
    worker = [*python, "reidnb.runs.worker", "--gpus", str(workflow.limits.gpus)]
    seeds = ",".join(str(seed) for seed in workflow.seeds)
    options = ["--preset", workflow.preset.name, "--seeds", seeds]
    if not workflow.published:
        options.append("--local")
    render = [*python, "reidnb", "table"]
    return dict(worker=shlex.join(worker), render=shlex.join(render), options=shlex.join(options))


def _plan_content(workflow: Workflow) -> dict:
    "plan.json, from which the Snakefile makes its rules."
    content = _commands(workflow)
    content |= workflow.limits._asdict()
    content |= dict(threads=workflow.preset.threads, targets=workflow.targets)
    content["runs"] = [asdict(run) for run in workflow.runs]
    content["pages"] = [asdict(page) for page in workflow.pages]
    return content


def check_paths(preset: Preset):
    "Refuse paths that a workflow cannot hold (`ConfigurationError`): Snakemake reads braces as wildcards."
    for what, path in (("store", preset.store), ("project", project_root()), ("Python", sys.executable)):
        if set(str(path)) & set("{}"):
            raise ConfigurationError(
                f"{path}: the {what}'s path has braces, which Snakemake reads as wildcards; move it"
            )


def write_workflow(workflow: Workflow):
    "Plan, Snakefile and each job's description (`ConfigurationError`)."
    check_paths(workflow.preset)
    template = files("reidnb.runs") / "templates" / "Snakefile"
    write_json(workflow.folder / "plan.json", _plan_content(workflow))
    write_text(workflow.folder / "Snakefile", template.read_text(encoding="utf8"))
    for run in workflow.runs:
        write_text(run.description, workflow.descriptions[run.run].model_dump_json(indent=1))


def _snakemake_words(workflow, jobs, executor):
    folder = workflow.folder
    words = ["--snakefile", str(folder / "Snakefile"), "--directory", str(folder), "--executor", executor]
    if again := [f"run_{run.run}" for run in workflow.runs if run.train and Path(run.record).exists()]:
        words += ["--forcerun", *again]  # their weights are gone
    words += ["--keep-going", "--rerun-incomplete", "--nolock", "--rerun-triggers", "mtime"]
    words += ["--quiet", "host", "rules", "reason"]
    if workflow.limits.gpus:
        words += ["--resources", f"gpu={workflow.limits.gpus}"]
    if executor == "slurm":  # no accounting is needed; jobs are short, so they are looked at early
        words += ["--jobs", str(jobs), "--latency-wait", "60", "--slurm-status-command", "squeue"]
        words += ["--slurm-no-account", "--slurm-init-seconds-before-status-checks", "10"]
    else:
        words += ["--cores", str(jobs * workflow.preset.threads)]
    return words


def run_workflow(
    workflow: Workflow,
    jobs: int,  # at once
    executor: str = "local",  # or "slurm"
) -> int:  # Snakemake's exit code
    "Hand a workflow to Snakemake, in this process: who kills it kills the batch (`KeyboardInterrupt` for control-C)."
    try:
        from snakemake.cli import main as snakemake
    except ImportError:
        hint = "pip install '.[batch]' in the clone (or reidnb table, one table at a time)"
        raise ConfigurationError(f"a batch needs Snakemake: {hint}") from None
    write_workflow(workflow)
    for page in workflow.pages:
        Path(page.page).unlink(missing_ok=True)  # a page is rendered anew from what there is
    with _control_c() as pressed:
        try:
            code = snakemake(_snakemake_words(workflow, jobs, executor)) or 0
        except SystemExit as end:
            code = int(end.code or 0)
    if pressed:
        raise KeyboardInterrupt
    return code


@contextlib.contextmanager
def _control_c() -> Iterator[list]:  # filled when control-C is pressed: Snakemake ends its jobs and says nothing of it
    pressed: list = []
    if threading.current_thread() is not threading.main_thread():
        yield pressed  # only the main thread hears signals
        return

    def hear(number, frame):
        pressed.append(number)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, hear)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, before)


def unfinished_jobs(
    planned: list,  # of PlannedTable
    preset: Preset,
    published: bool = True,  # False: only what this machine trained counts
) -> dict:  # a job's title → reason
    "What a batch could not do, and why."
    archive = Archive(preset, published=published)
    unfinished = [job for job in _all_jobs(planned) if is_missing(job, archive)]
    return {job.title: archive.failure(job.run) or "not reached" for job in unfinished}
