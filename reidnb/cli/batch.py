"`reidnb batch`: run everything that is missing, then render the tables; a failing run does not stop the others."

import sys
from pathlib import Path

from reidnb.cli.arguments import add_command, add_jobs, add_local, add_preset, add_seeds, add_tables
from reidnb.cli.output import print_failures
from reidnb.cli.planned import plan_named_tables


def add_to(commands):
    text = "Run everything that is missing of many tables; can be killed and started again at any time."
    command = add_command(commands, "batch", run, text=text)
    add_preset(command)
    add_tables(command)
    add_seeds(command)
    add_local(command)
    add_jobs(command)
    gpus = "GPU slots, one per run (default: those of this machine)"
    command.add_argument("--gpus", type=int, default=None, help=gpus)
    executor = "where jobs run (default local)"
    command.add_argument("--executor", choices=("local", "slurm"), default="local", help=executor)


def run(args):
    from reidnb.book.pool import default_processes
    from reidnb.book.tables import prepare_data
    from reidnb.runs.batch import check_paths, run_workflow, unfinished_jobs, workflow_plan

    plan = plan_named_tables(args)
    preset = plan.preset
    missing = plan.missing
    processes = default_processes(preset)
    parallel = args.jobs or processes
    check_paths(preset)
    _print_start(plan, len(missing), parallel)
    if missing:
        prepare_data(missing, preset, processes)
    gpus = _gpu_slots(preset, args.gpus)
    workflow = workflow_plan(plan.tables, preset, plan.seeds, gpus=gpus, published=plan.published)
    code = run_workflow(workflow, parallel, args.executor)
    remaining_jobs = unfinished_jobs(plan.tables, preset, plan.published)
    print_failures(remaining_jobs)
    unrendered = _unrendered(workflow)
    folder = Path(preset.store) / "tables" / preset.name
    for slug in unrendered:
        print(f"not rendered: {slug}, see {folder / slug}.log", file=sys.stderr)
    print(f"{len(missing) - len(remaining_jobs)} runs done, {len(remaining_jobs)} left; pages in {folder}")
    return 1 if code or remaining_jobs or unrendered else 0


def _print_start(plan, missing, parallel):
    from reidnb.runs.plan import human_time

    text = "nothing missing"
    if missing:
        text = f"{missing} runs missing, {human_time(plan.seconds / parallel)} with {parallel} at once"
    print(f"{len(plan.tables)} tables, {text}", flush=True)


def _gpu_slots(preset, slots):
    from reidnb.runs.batch import visible_gpus

    if preset.device == "cpu":
        return 0
    return visible_gpus() if slots is None else slots


def _unrendered(workflow):
    "Tables without a page."
    return [page.slug for page in workflow.pages if not Path(page.page).exists()]
