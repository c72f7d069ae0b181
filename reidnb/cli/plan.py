"`reidnb plan`: what would run, why, and about how long it would take."

import math
from collections import Counter

from reidnb.cli.arguments import add_command, add_json, add_local, add_preset, add_seeds, add_tables
from reidnb.cli.output import print_json
from reidnb.cli.planned import missing_jobs, plan_named_tables


def add_to(commands):
    command = add_command(commands, "plan", run, text="What would run, why, and about how long it would take.")
    add_preset(command)
    add_tables(command)
    add_seeds(command)
    add_local(command)
    add_json(command)


def run(args):
    plan = plan_named_tables(args)
    if args.json:
        print_json(_as_json(plan))
        return
    for table in plan.tables:
        if args.tables:
            _print_runs(table)
        else:
            _print_line(table)
    _print_total(plan, args.seeds)
    _print_other_training(plan.records)


def _as_json(plan):
    seconds = plan.seconds
    total = {"runs": len(plan.missing), "seconds": None if math.isnan(seconds) else round(seconds)}
    tables = [_table_as_json(table) for table in plan.tables]
    return {"preset": plan.preset.name, "seeds": plan.seeds, "tables": tables, "total": total}


def _table_as_json(table):
    missing = []
    for job in missing_jobs(table):
        missing.append({"run": job.run, "name": job.name, "seed": job.seed, "why": table.missing[job.run]})
    return {"table": table.slug, "runs": len(table.jobs), "lacks": table.missing_data, "missing": missing}


def _print_runs(table):
    "A table that was named, with its runs."
    print(f"{table.slug}: {table.described} runs, {len(table.missing)} to run  {table.missing_data}")
    for job in missing_jobs(table):
        print(f"  {job.title}: {table.missing[job.run]}")


def _print_line(table):
    "A table's line, with the most frequent reasons."
    reasons = []
    for text, count in Counter(table.missing.values()).most_common(3):
        reasons.append(f"{count} × {text}" if count > 1 else text)
    if table.missing_data:
        reasons.append(table.missing_data)
    state = f"{table.described:4} runs {len(table.missing):4} to run" if table.described else ""
    print(f"{table.slug:24}{state:24}   {'; '.join(reasons)}")


def _print_total(plan, seeds):
    from reidnb.runs.plan import human_time

    missing = plan.missing
    run_count = sum(table.described for table in plan.tables)
    blocked = sum(table.described for table in plan.tables if not table.jobs)
    different = f"{len(plan.jobs)} different ones can run, {len(missing)} to run"
    time = f", about {human_time(plan.seconds)} of one process" if missing else ""
    waiting = f"; {blocked} wait for data" if blocked else ""
    print(f"{plan.preset.name}, seeds {seeds}: {run_count} runs described, {different}{time}{waiting}")


def _print_other_training(records):
    "How many records were made before the last change of what some kind of experiment computes, or do not say."
    from reidnb.runs.plan import other_training

    other = other_training(records)
    if other.different:
        print(
            f"{other.different} records are older than data/training_net.json; what changed since then has other ids, "
            "and is among the runs above"
        )
    if other.unknown:
        print(f"{other.unknown} records do not say what their code computed")
