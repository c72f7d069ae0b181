"`reidnb findings`: the notes' claims, judged on their numbers and on ours."

from reidnb.cli.arguments import add_command, add_json, add_preset, add_seeds, add_tables
from reidnb.cli.output import number_or_none, print_json


def add_to(commands):
    text = "What the notes claim: does it follow from their numbers, does it hold on ours?"
    command = add_command(commands, "findings", run, text=text)
    add_preset(command)
    add_tables(command)
    add_seeds(command)
    command.add_argument("--all", action="store_true", help="also those that were not run")
    add_json(command)


def run(args):
    from reidnb.catalogue.experiments import load_table
    from reidnb.results.findings import count_states, judge_findings
    from reidnb.runs.plan import parse_seeds
    from reidnb.runs.presets import load_preset

    for slug in args.tables:
        load_table(slug)  # a wrong name is refused
    judged = judge_findings(load_preset(args.preset), parse_seeds(args.seeds), args.tables or None)
    counts = count_states(judged)
    if args.json:
        print_json({"findings": [_as_json(claim) for claim in judged], "counts": counts})
        return
    for claim in judged:
        if args.all or claim.reproduced != "not run" or claim.documented != "holds":
            _print_claim(claim)
    resting = sum(bool(claim.marks) for claim in judged)
    for side, states in counts.items():
        numbers = ", ".join(f"{count} {state}" for state, count in states.items())
        print(f"{side:10} {numbers}")
    if resting:
        print(f"{resting} of them rest on runs that did not converge (†)")


def _as_json(claim):
    return {
        **claim.finding.model_dump(),
        "documented": claim.documented,
        "reproduced": claim.reproduced,
        "differences": [number_or_none(mean) for mean, _ in claim.reproduced_differences],
        "unconverged": claim.marks,
    }


def _print_claim(claim):
    where = f"{claim.finding.document}:{claim.finding.line:<4}"
    states = f"notes: {claim.documented:6} ours: {claim.reproduced:10}"
    ours = "" if claim.reproduced == "not run" else f"  (ours {', '.join(claim.differences())})"
    print(f"{where} {states} {claim.finding.claim}{ours}")
    if claim.marks:
        more = f" and {len(claim.marks) - 1} more (--json)" if len(claim.marks) > 1 else ""
        print(f"         † {claim.marks[0]}{more}")
