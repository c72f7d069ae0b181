"`reidnb table`: run what is missing, then execute the table's notebook and make a page of it."

import math

from reidnb.cli.arguments import add_command, add_jobs, add_preset, add_seeds
from reidnb.cli.output import print_failures


def add_to(commands):
    text = "Regenerate a table: run what is missing, lay our numbers beside the notes'."
    command = add_command(commands, "table", run, text=text)
    add_preset(command)
    command.add_argument("table", help="its name, see 'reidnb tables'")
    add_seeds(command, "0")
    rows = "names of runs with commas between them, as the first column of the output shows them (default: all)"
    command.add_argument("--rows", default="", help=rows)
    add_jobs(command)
    local = "train here even what was published with the project"
    command.add_argument("--local", action="store_true", help=local)


def run(args):
    from reidnb.catalogue.experiments import load_table
    from reidnb.runs.plan import chosen_rows, parse_seeds
    from reidnb.runs.presets import load_preset

    table = load_table(args.table)
    preset = load_preset(args.preset)
    seeds = parse_seeds(args.seeds)
    rows = chosen_rows(table, args.rows)
    failures = _regenerate(table, preset, seeds, rows=rows, args=args)
    print_failures(failures)
    if failures:
        return 1
    stem = _render(args, preset)
    print_table(table, preset, seeds, path=stem.with_suffix(".csv"))
    print(f"\npage   {stem.with_suffix('.html')}\ncells  {stem.with_suffix('.csv')}")
    return 0


def _regenerate(table, preset, seeds, *, rows, args):
    from reidnb.book.tables import regenerate

    parallel = args.jobs or None
    return regenerate(table, preset, seeds, rows=rows, parallel=parallel, published=not args.local)


def _render(args, preset):
    from reidnb.book.notebooks import render_table

    options = {"published": not args.local, "rows": args.rows, "jobs": args.jobs}
    return render_table(args.table, preset, args.seeds, **options)


def print_table(table, preset, seeds, *, path):
    "The table in the terminal, the notes' values beside ours, from the CSV that its notebook wrote."
    frame = _read_cells(path)
    documented = bool(frame["documented"].notna().any())
    _print_title(table, preset, seeds, documented=documented)
    columns = list(dict.fromkeys(zip(frame["group"], frame["metric"])))
    rows = [_row(part, columns, documented) for _, part in frame.groupby("row", sort=True)]
    heads = ["rows", "", *(" ".join(filter(None, column)) for column in columns)]
    widths = [max(len(row[0]) for row in rows) + 2, max(44, *(len(row[1]) + 2 for row in rows))]
    widths += [max(22, len(head) + 2) for head in heads[2:]]
    for row in (heads, *rows):
        _print_row(row, widths)
    _print_footnotes(frame)


def _print_footnotes(frame):
    "Seed and loss of each run that did not converge."
    from reidnb.results.cells import MARK, UNCONVERGED_NOTE, footnotes

    lines = footnotes(frame)
    if lines:
        print(f"\n{MARK} {UNCONVERGED_NOTE}:")
    for line in lines:
        print(f"  {line}")


def _read_cells(path):
    import pandas as pd

    numbers = {name: [""] for name in ("documented", "mean", "sd")}
    return pd.read_csv(path, keep_default_na=False, na_values=numbers)  # a row may be called "None"


def _print_title(table, preset, seeds, *, documented):
    notes = table.notes
    sides = "notes | ours" if documented else "ours"
    where = f"document {notes.document}, line {notes.line}"
    settings = f"preset {preset.name} on {preset.data} data, seeds {', '.join(map(str, seeds))}"
    print(f"\n{notes.title} ({where}); {settings}; {sides} ± sd over seeds\n")


def _row(part, columns, documented):
    "Texts of a row: what `--rows` takes, its name, a cell for each column."
    cells = {(cell.group, cell.metric): cell for cell in part.itertuples()}
    runs = ",".join(dict.fromkeys(part["run"]))
    return [runs, part["name"].iloc[0], *(_cell(cells.get(column), documented) for column in columns)]


def _print_row(texts, widths):
    start = "".join(f"{text:{width}}" for text, width in zip(texts[:2], widths))
    centred = "".join(f"{text:^{width}}" for text, width in zip(texts[2:], widths[2:]))
    print(start + centred)


def _cell(cell, documented):
    "The notes' number, where the table has any, ours, and its spread."
    from reidnb.results.cells import MARK, short_number

    if cell is None:
        return ""
    spread = "" if math.isnan(cell.sd) else f" ± {short_number(cell.sd, cell.metric)}"
    ours = f"{_number(cell.mean, cell.metric)}{spread}{MARK if cell.unconverged else ''}"
    return f"{_number(cell.documented, cell.metric)} |{ours}" if documented else ours


def _number(value, metric):
    from reidnb.results.cells import short_number

    return "     –" if math.isnan(value) else f"{short_number(value, metric):>6}"
