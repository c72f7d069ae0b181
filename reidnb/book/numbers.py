"A table's numbers beside the notes', and whether a change goes the same way."

# Absolute values of different data do not compare; differences do. So beside the notes' number and ours stands what
# changed against the table's first row, and whether the direction agrees: ▲ the same, ▼ the opposite, · when the seeds
# do not resolve it (the 90 % interval of the mean difference holds zero, nbs/results/01_findings.ipynb) or the notes
# have no number.

import math
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import NamedTuple

import numpy as np

from reidnb.catalogue.documents import plain_text
from reidnb.catalogue.experiments import Cell, Table
from reidnb.results.cells import MARK, ReproducedCell, column_groups, reproduced_cells, row_names, short_number
from reidnb.results.findings import half_width
from reidnb.runs.presets import Preset

NOT_RUN = "not run"
SIGNS = {"same": "▲", "opposite": "▼", "open": "·", "": ""}


@dataclass(frozen=True)
class Number:
    "One cell of a page."

    notes: str = ""
    ours: str = ""
    change: str = ""  # notes' and our difference from the first row
    agrees: str = ""  # same, opposite or open; "" where there is nothing to compare
    beside: str = ""  # the same number under another preset
    remark: str = ""  # run, seed and loss where it did not converge

    @property
    def signed_change(self) -> str:
        return f"{self.change} {SIGNS[self.agrees]}".strip()


class PageRow(NamedTuple):
    "A row of a table."

    name: str  # in English
    label: str  # as the notes write it
    numbers: dict  # (group, metric) → Number


class TablePage(NamedTuple):
    "A table as its page shows it."

    columns: list  # of (group, metric)
    rows: list  # of PageRow

    def numbers(self) -> list:  # of Number
        return [number for row in self.rows for number in row.numbers.values()]

    def run(self) -> int:
        "How many numbers have been run."
        return sum(number.ours != NOT_RUN for number in self.numbers())

    def footnotes(self) -> list:  # of strings, a line a run
        "The runs that did not converge: name, seeds and losses."
        return list(dict.fromkeys(number.remark for number in self.numbers() if number.remark))

    def documented(self) -> bool:
        "Whether the notes have any number here."
        return any(number.notes for number in self.numbers())


def direction(
    documented: float,  # the notes' difference from the first row
    reproduced: np.ndarray,  # (seeds,) ours
    variance: float,  # of one seed's difference, as the table suggests
) -> str:  # same, opposite or open
    "Whether a change goes the notes' way, as far as the seeds can tell."
    if math.isnan(documented) or documented == 0 or len(reproduced) < 2:
        return "open"
    mean = reproduced.mean()
    if abs(mean) <= half_width(reproduced, variance):
        return "open"
    return "same" if (mean > 0) == (documented > 0) else "opposite"


class _Reference(NamedTuple):
    "What a cell's number is compared with."

    cell: Cell
    ours: ReproducedCell
    variance: float  # of one seed's difference


def table_page(
    table: Table,
    preset: Preset,
    seeds: tuple,
    *,
    beside: Preset | None = None,  # another preset, e.g. on real data, whose numbers stand in a column of their own
) -> TablePage:
    "A table as its page shows it."
    reproduced = reproduced_cells(table, preset, seeds)
    others = reproduced_cells(table, beside, seeds) if beside else {}
    groups = column_groups(table)
    names = row_names(table)
    cells = sorted(reproduced, key=attrgetter("row"))
    references = _references(table, cells, reproduced)
    rows: dict[int, PageRow] = {}
    for cell in cells:
        if cell.row not in rows:
            label = plain_text(table.notes.body[cell.row][0])
            rows[cell.row] = PageRow(names[cell.row], label, {})
        number = _number(cell, reproduced[cell], references[cell], beside=others.get(cell))
        rows[cell.row].numbers[groups[cell.column], cell.metric] = number
    by_column = sorted(reproduced, key=attrgetter("column"))
    columns = dict.fromkeys((groups[cell.column], cell.metric) for cell in by_column)
    return TablePage(list(columns), list(rows.values()))


def _references(table, cells, reproduced):
    "What each cell is compared with: the cell of its column in the reference row; itself above that row, where a paper is quoted."
    groups = column_groups(table)
    variances = _variances(cells, reproduced)
    first: dict[tuple, Cell] = {}  # column → cell
    references = {}
    for cell in cells:
        reference = cell
        if cell.row >= table.reference:
            reference = first.setdefault((groups[cell.column], cell.metric), cell)
        variance = 2 * variances.get(cell.metric, 0.0)  # a difference of two
        references[cell] = _Reference(reference, reproduced[reference], variance)
    return references


def _variances(cells, reproduced):
    "Seed noise of each metric: the mean variance over the table's cells."
    values: dict[str, list] = {}
    for cell in cells:
        ours = reproduced[cell]
        if len(ours.values) > 1:
            values.setdefault(cell.metric, []).append(ours.sd**2)
    return {metric: float(np.mean(variances)) for metric, variances in values.items()}


def _documented(cell):
    return float(cell.documented) if cell.documented else math.nan


def _number(cell, ours, reference, *, beside):
    "The page's texts of one cell."
    documented = _documented(cell)
    short = partial(short_number, metric=cell.metric)
    spread = "" if math.isnan(ours.sd) else f" ± {short(ours.sd)}"
    texts = {
        "notes": "" if math.isnan(documented) else short(documented),
        "ours": f"{short(ours.mean)}{spread}{MARK if ours.marks else ''}" if ours.values else NOT_RUN,
        "beside": short(beside.mean) if beside and beside.values else "",
        "remark": ours.remark,
    }
    seeds = sorted(set(ours.values) & set(reference.ours.values))
    if cell == reference.cell or not seeds:
        return Number(**texts)
    differences = np.array([ours.values[seed] - reference.ours.values[seed] for seed in seeds])
    change = _signed(differences.mean(), cell.metric)
    documented_difference = documented - _documented(reference.cell)
    if math.isnan(documented_difference):
        return Number(**texts, change=change)
    change = f"{_signed(documented_difference, cell.metric)} | {change}"
    agrees = direction(documented_difference, differences, reference.variance)
    return Number(**texts, change=change, agrees=agrees)


def _signed(value, metric):
    sign = "+" if value >= 0 else "−"
    return f"{sign}{short_number(abs(value), metric)}"
