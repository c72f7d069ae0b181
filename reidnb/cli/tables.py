"`reidnb tables`: one line a table."

from reidnb.cli.arguments import add_command, add_json
from reidnb.cli.output import print_json


def add_to(commands):
    text = "List the tables: where they stand in the notes, how much they run."
    add_json(add_command(commands, "tables", run, text=text))


def run(args):
    from reidnb.catalogue.experiments import load_table, table_slugs

    lines = [_line(load_table(slug)) for slug in table_slugs()]
    if args.json:
        print_json(lines)
        return
    for line in lines:
        _print_line(line)
    _print_total(lines)


def _line(table):
    notes = table.notes
    where = {"table": notes.slug, "document": notes.document, "line": notes.line}
    runs = {cell.run for cell in table.cells}
    counts = {"rows": len(notes.body), "cells": len(table.cells), "runs": len(runs)}
    return {**where, **counts, "title": notes.title}


def _print_line(line):
    where = f"{line['document']}:{line['line']:<4}"
    counts = f"{line['rows']:3} rows {line['cells']:4} cells {line['runs']:4} runs"
    print(f"{line['table']:24} {where} {counts}   {line['title']}")


def _print_total(lines):
    from reidnb.catalogue.documents import documented_tables

    notes = documented_tables()
    rows = sum(len(table.body) for table in notes.values())
    documented = [line for line in lines if line["table"] in notes]
    cells = sum(line["cells"] for line in documented)
    own = len(lines) - len(documented)
    print(f"{len(notes)} tables, {rows} rows, {cells} cells planned; {own} tables of our own")
