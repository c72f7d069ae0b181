"`reidnb publish`: seeds 0, 1 and 2 of everything that is planned, as far as it has been run here."

from reidnb.cli.arguments import add_command, add_preset


def add_to(commands):
    text = "Copy this machine's records of seeds 0, 1 and 2 to reports/records, to be committed."
    command = add_command(commands, "publish", run, text=text)
    add_preset(command)
    replace = "also those of runs that are published already"
    command.add_argument("--replace", action="store_true", help=replace)


def run(args):
    from reidnb.book.committed import publish
    from reidnb.runs.presets import load_preset

    published = publish(load_preset(args.preset), replace=args.replace)
    print(f"{published.copied} files copied to {published.records}")
    print(f"numbers, claims and tables written to {published.results}; commit both")
