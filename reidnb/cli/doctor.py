"`reidnb doctor`: what is installed and what was found."

import sys

from reidnb.cli.arguments import add_command


def add_to(commands):
    text = "What is installed, what was found, and what each preset can run."
    command = add_command(commands, "doctor", run, text=text)
    verify = "read every file of the store and the published records, and name those that are damaged"
    command.add_argument("--verify", action="store_true", help=verify)
    clean = "list what killed processes left behind, and what removing it frees"
    command.add_argument("--clean", action="store_true", help=clean)


def run(args):
    if args.verify:
        return _verify()
    if args.clean:
        return _clean()
    from reidnb.runs.doctor import examine

    print("\n".join(examine()))
    return 0


def _clean():
    from pathlib import Path

    from reidnb.runs.doctor import describe_leftovers
    from reidnb.runs.presets import load_preset, preset_names

    store = Path(load_preset(preset_names()[0]).store)
    print("\n".join(describe_leftovers(store)))
    return 0


def _verify():
    from reidnb.runs.doctor import damaged_files
    from reidnb.runs.presets import load_preset, preset_names

    lines = {line for name in preset_names() for line in damaged_files(load_preset(name))}
    for line in sorted(lines):
        print(line, file=sys.stderr)
    print(f"{len(lines)} damaged files" if lines else "every file holds what was written")
    return 1 if lines else 0
