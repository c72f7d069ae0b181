"The results book: static HTML beside the notes, which opens from a folder."

# An index by document with the scoreboard, a page a table, a page of all findings. No server, no script; it reads on a
# phone and prints. It renders records and runs nothing.

import os
import shutil
from collections import Counter
from functools import partial
from pathlib import Path
from typing import NamedTuple

from reidnb.book.notebooks import table_stem
from reidnb.book.numbers import TablePage, table_page
from reidnb.book.rendering import render
from reidnb.catalogue.documents import own_tables
from reidnb.catalogue.experiments import Table, load_table, table_slugs
from reidnb.core.files import write_atomically, write_text
from reidnb.results.cells import row_names
from reidnb.results.findings import count_states, judge_findings
from reidnb.runs.plan import is_missing, plan_table, plan_tables
from reidnb.runs.presets import Preset
from reidnb.runs.records import Archive


class IndexEntry(NamedTuple):
    "A table's line of the index."

    slug: str
    line: int
    title: str
    run: int  # numbers that have been run
    planned: int  # numbers
    directions: str  # numbers that go the notes' way, the opposite way, and open ones
    claims: str  # that hold, fail and are open


def write_book(
    preset: Preset,
    seeds: tuple,
    folder: str | os.PathLike,  # where the pages go
    *,
    executed: Path
    | None = None,  # folder with executed notebooks as pages, <slug>.html; they are copied beside the book
    progress=None,  # called with the number of tables written since the last call
    beside: Preset | None = None,  # another preset, whose numbers get a column in tables that have any
) -> Path:  # index.html
    "Write all pages."
    book = _Book(preset, seeds, Path(folder), executed=executed, beside=beside)
    for slug in table_slugs():
        book.add_table(load_table(slug))
        if progress:
            progress(1)
    book.write_findings()
    return book.write_index()


class _Book:
    "Pages under way: what the index has to know of the tables written so far."

    def __init__(self, preset, seeds, folder, *, executed, beside):
        self.preset = preset
        self.seeds = seeds
        self.folder = folder
        self.executed = executed
        self.beside = beside
        self.archive = Archive(preset)
        self.judged = judge_findings(preset, seeds)
        self.about = _about(preset, seeds)
        self.documents: dict[str, list[IndexEntry]] = {}  # heading → its tables
        self.records: dict[str, dict] = {}  # run → record, of tables that have been run

    def add_table(self, table):
        "A table's line of the index, and its page where anything has been run."
        notes = table.notes
        page = table_page(table, self.preset, self.seeds, beside=self.beside)
        claims = [claim for claim in self.judged if claim.finding.table == notes.slug]
        heading = "Tables of our own" if _is_own(table) else f"Document {notes.document}"
        self.documents.setdefault(heading, []).append(_index_entry(table, page, claims))
        if page.run():
            self._write_table(table, page, claims)

    def _write_table(self, table, page, claims):
        notes = table.notes
        records = {job.run: self.archive.read(job.run) for job in plan_table(table, self.preset, self.seeds)}
        self.records |= records
        own = ", a table of our own" if _is_own(table) else ""
        values = _table_values(table, page, self.beside)
        values |= {"claims": claims, "executed": self._copy_executed(notes.slug)}
        values["about"] = f"Document {notes.document}, line {notes.line}{own}. {self.about}"
        values["footer"] = _footer(records.values(), self.preset, self.seeds)
        self._write(f"{notes.slug}.html", "table.html", **values)

    def _copy_executed(self, slug):
        "Copy a table's executed notebook beside the book, and give its link; empty where there is none."
        if not self.executed:
            return ""
        page = self.executed / f"{slug}.html"
        if not page.exists():
            return ""
        link = f"notebooks/{slug}.html"
        write_atomically(self.folder / link, partial(shutil.copyfile, page))
        return link

    def write_findings(self):
        title = f"{len(self.judged)} claims of the notes"
        self._write("findings.html", "findings.html", title=title, claims=self.judged, footer=self._footer())

    def write_index(self):
        scoreboard = count_states(self.judged)
        entries = [entry for entries in self.documents.values() for entry in entries]
        tables = sum(entry.run > 0 for entry in entries)
        values = {
            "title": "reidnb: the results book",
            "documents": self.documents,
            "scoreboard": scoreboard,
            "states": list(scoreboard["documented"]),
            "counted": len(self.judged),
            "footer": f"{tables} tables; {self._footer()}",
        }
        self._write("index.html", "index.html", **values, back=False)
        return self.folder / "index.html"

    def _footer(self):
        return _footer(self.records.values(), self.preset, self.seeds)

    def _write(self, name, template, **values):
        shared = {
            "about": self.about,
            "preset": self.preset.name,
            "seeds": ",".join(map(str, self.seeds)),
            "back": True,
        }
        write_text(self.folder / name, render(template, **(shared | values)))


def _is_own(table):
    return table.notes.slug in own_tables()


def _about(preset, seeds):
    size = f"images {preset.image_height} × {preset.image_width}"
    ours = "ours is the mean ± standard deviation over seeds. Absolute values of different data do not compare."
    return f"Preset {preset.name}: {preset.data} data, {size}; seeds {_listed(seeds)}; {ours}"


def _listed(seeds):
    return ", ".join(map(str, seeds))


def _index_entry(table: Table, page: TablePage, claims: list) -> IndexEntry:
    notes = table.notes
    numbers = page.numbers()
    directions = Counter(number.agrees for number in numbers)
    states = Counter(claim.reproduced for claim in claims)
    shown_directions = " ".join(str(directions[name]) for name in ("same", "opposite", "open"))
    shown_states = ", ".join(str(states[name]) for name in ("holds", "fails", "undecided"))
    return IndexEntry(notes.slug, notes.line, notes.title, page.run(), len(numbers), shown_directions, shown_states)


def _table_values(table: Table, page: TablePage, beside: Preset | None) -> dict:
    "What the template of a table needs of the table itself."
    name_beside = beside.name if beside and any(number.beside for number in page.numbers()) else ""
    return {
        "title": table.notes.title,
        "slug": table.notes.slug,
        "columns": page.columns,
        "rows": page.rows,
        "documented": page.documented(),
        "footnotes": page.footnotes(),
        "reference": _reference_name(table),
        "beside": name_beside,
        "width": 2 + page.documented() + bool(name_beside),
    }


def _reference_name(table):
    "The row that changes are against."
    names = sorted(row_names(table).items())
    return next(name for row, name in names if row >= table.reference)


def _footer(records, preset, seeds):
    "Commit, preset, seeds, machine and time of some runs."
    records = [record for record in records if record]
    if not records:
        return f"preset {preset.name}; nothing has been run"
    hours = sum(record["train_seconds"] for record in records) / 3600
    machines = "; ".join(sorted({_machine(record) for record in records}))
    finished = max(record["finished"] for record in records)[:10]
    work = f"{len(records)} runs, {hours:.1f} hours of training on {machines}"
    return f"preset {preset.name}, seeds {_listed(seeds)}; {work}; {_commits(records)}; last finished {finished}"


def _commits(records):
    commits = sorted({record["commit"] for record in records})
    others = f" and {len(commits) - 6} more" if len(commits) > 6 else ""
    return f"commits {', '.join(commits[:6])}{others}"


def _machine(record):
    processor = record.get("processor") or record["machine"]
    return f"{record['device']} ({record['system']} {processor}), torch {record['packages']['torch']}"


def outdated_pages(preset: Preset, seeds: tuple) -> list:  # slugs
    "Tables that are whole and whose page is missing or older than their records."
    archive = Archive(preset)
    slugs = []
    for planned in plan_tables(table_slugs(), preset, seeds):
        if not planned.jobs or any(is_missing(job, archive) for job in planned.jobs):
            continue
        page = table_stem(preset, planned.slug).with_suffix(".html")
        if not page.exists() or page.stat().st_mtime < _newest(planned.jobs, archive):
            slugs.append(planned.slug)
    return slugs


def _newest(jobs, archive):
    "When the last of some jobs' records and scores was written, in seconds since 1970."
    runs = [archive.modified(job.run) for job in jobs]
    scores = [archive.modified(name) for job in jobs for _, name in job.protocols]
    return max(runs + scores)
