"`reidnb cells`: the notes' cells, or our numbers for the planned ones."

import csv
import sys

from reidnb.cli.arguments import add_command, add_preset, add_seeds


def add_to(commands):
    text = "Our numbers for the planned cells, or what the notes say (--documented)."
    command = add_command(commands, "cells", run, text=text)
    add_preset(command)
    flags = {
        "--documented": "what the notes say: document,line,row,column,text",
        "--own": "our own tables instead, where the notes have a picture or a to-do",
        "--csv": "as CSV, with the address of each cell in the documents",
    }
    for flag, meaning in flags.items():
        command.add_argument(flag, action="store_true", help=meaning)
    add_seeds(command)


def run(args):
    if args.documented:
        _print_documented(args.csv)
    else:
        _print_ours(args)


def _print_documented(as_csv):
    from reidnb.catalogue.documents import documented_cells

    cells = list(documented_cells())
    if as_csv:
        header = ("document", "line", "row", "column", "text")
        csv.writer(sys.stdout, lineterminator="\n").writerows([header, *cells])
        return
    tables = {cell[:2] for cell in cells}
    rows = {cell[:3] for cell in cells}
    empty = sum(not cell[4] for cell in cells)
    print(f"{len(tables)} tables, {len(rows)} rows, {len(cells)} cells, {empty} of them empty")


def _print_ours(args):
    "The column `run` holds what `reidnb table --rows` takes."
    from reidnb.book.committed import all_cells
    from reidnb.runs.plan import parse_seeds
    from reidnb.runs.presets import load_preset

    frame = all_cells(load_preset(args.preset), parse_seeds(args.seeds), own=args.own)
    text = frame.to_csv(index=False, lineterminator="\n") if args.csv else frame.to_string(index=False, max_colwidth=60)
    print(text, end="")
