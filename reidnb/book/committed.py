"What the project commits of its results: every planned number as CSV, the claims as CSV, and both as Markdown."

# They lie in `reports/results/<preset>`, the records themselves in `reports/records/<preset>`.

import csv
import io
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from reidnb.book.numbers import Number, TablePage, table_page
from reidnb.book.rendering import render
from reidnb.catalogue.documents import DocumentedTable, documented_tables, own_tables
from reidnb.catalogue.experiments import load_table, table_slugs
from reidnb.core.files import write_text
from reidnb.core.project import project_root
from reidnb.results.cells import cells_frame
from reidnb.results.findings import NOT_RUN, count_states, judge_findings
from reidnb.runs.plan import plan_tables
from reidnb.runs.presets import Preset
from reidnb.runs.records import Archive

SEEDS = (0, 1, 2)  # what is published
CLAIM_COLUMNS = ["document", "line", "table", "claim", "notes", "ours", "our differences", "unconverged runs"]


class Published(NamedTuple):
    "What `publish` has done."

    copied: int  # records and scores
    records: Path  # their folder
    results: Path  # folder of numbers, claims and tables


class MarkdownTable(NamedTuple):
    "A table as `tables.md` shows it."

    title: str
    slug: str
    document: str
    line: int
    header: list
    lines: list  # of lists of strings
    footnotes: list  # of strings: runs that did not converge


def all_cells(
    preset: Preset,
    seeds: tuple,
    *,
    own: bool = False,  # our own tables in the place of the notes'
) -> pd.DataFrame:  # a line a number, from `cells_frame`
    "Every planned number with its row and column in the documents."
    tables = own_tables() if own else documented_tables()
    slugs = [slug for slug in table_slugs() if slug in tables]
    return pd.concat([cells_frame(load_table(slug), preset, seeds) for slug in slugs])


def results_files(preset: Preset, seeds: tuple) -> dict:  # file name → text
    "Numbers, claims and tables as committed files."
    judged = judge_findings(preset, seeds)
    claims = [_claim_line(claim) for claim in judged]
    return {
        "cells.csv": _cells_csv(preset, seeds, own=False),
        "own.csv": _cells_csv(preset, seeds, own=True),
        "findings.csv": _csv([CLAIM_COLUMNS, *claims]),
        "scoreboard.md": _scoreboard(preset, seeds, judged, claims=claims),
        "tables.md": _tables(preset, seeds),
    }


def _cells_csv(preset, seeds, own):
    return all_cells(preset, seeds, own=own).to_csv(index=False, lineterminator="\n")


def _csv(lines):
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()


def _claim_line(claim):
    finding = claim.finding
    differences = "" if claim.reproduced == NOT_RUN else "; ".join(claim.differences())
    where = [finding.document, finding.line, finding.table]
    return [*where, finding.claim, claim.documented, claim.reproduced, differences, "; ".join(claim.marks)]


def _scoreboard(preset, seeds, judged, *, claims):
    scoreboard = count_states(judged)
    values = {"preset": preset.name, "seeds": ", ".join(map(str, seeds))}
    values["unconverged"] = sum(bool(claim.marks) for claim in judged)
    states = list(scoreboard["documented"])
    return render("scoreboard.md", **values, scoreboard=scoreboard, states=states, header=CLAIM_COLUMNS, claims=claims)


def _tables(preset, seeds):
    tables = []
    for slug in table_slugs():
        table = load_table(slug)
        page = table_page(table, preset, seeds)
        if page.run():
            tables.append(_markdown_table(table.notes, page))
    return render("tables.md", preset=preset.name, tables=tables)


def _markdown_table(notes: DocumentedTable, page: TablePage) -> MarkdownTable:
    sides = ["notes", "ours", "signed_change"] if page.documented() else ["ours", "signed_change"]
    header = ["row"]
    for group, metric in page.columns:
        header += [f"{group} {metric}: {side.removeprefix('signed_')}".strip() for side in sides]
    lines = []
    for row in page.rows:
        numbers = [row.numbers.get(column, Number()) for column in page.columns]
        lines.append([row.name, *(getattr(number, side) for number in numbers for side in sides)])
    where = (notes.slug, notes.document, notes.line)
    return MarkdownTable(notes.title, *where, header, lines, page.footnotes())


def publish(
    preset: Preset,
    *,
    replace: bool = False,  # also what is published already
) -> Published:
    "Copy this machine's records of `SEEDS` to the published ones, and write the results files of what is published."
    archive = Archive(preset)
    planned = plan_tables(table_slugs(), preset, SEEDS)
    jobs = [job for table in planned for job in table.jobs]
    names = {job.run for job in jobs}
    names |= {scores for job in jobs for _, scores in job.protocols}
    copied = archive.publish(names, replace)
    folder = project_root() / "reports" / "results" / preset.name
    public = preset.model_copy(update={"store": str(archive.published_folder)})  # later runs wait for the next time
    for name, text in results_files(public, SEEDS).items():
        write_text(folder / name, text)
    return Published(copied, archive.published_folder, folder)
