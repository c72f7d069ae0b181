"`reidnb audit`: where the documents contradict themselves or their sources, and what is run."

from reidnb.cli.arguments import add_command, add_json
from reidnb.cli.output import print_json


def add_to(commands):
    text = "Where the documents contradict themselves or their sources, and what is run."
    add_json(add_command(commands, "audit", run, text=text))


def run(args):
    from reidnb.results.audit import audit

    entries = audit()
    if args.json:
        print_json([entry.model_dump() for entry in entries])
        return
    for entry in entries:
        _print_entry(entry)
    print(f"{len(entries)} entries")


def _print_entry(entry):
    indent = " " * 9
    print(f"{entry.document}:{entry.line}  says  {entry.says}")
    print(f"{indent}but   {entry.truth}")
    print(f"{indent}runs  {entry.runs}\n")
