"What each cell of a table runs, as data."

# A *table* is two files: `data/documents/<slug>.csv`, the table as written, and `data/experiments/<slug>.toml`, what its cells run. In the TOML,
# *runs* are described and inherit from each other (the notes' own `merge resnet50: 05+09` becomes `like = ["r50-05", "r50-09"]`), and *blocks*
# say how rows and columns meet: a row may fix the run and a column the metric, or a row the protocol and a column the run. A cell's key is the
# union of what its block, its row and its column say: (run, protocol, metric). Where a row names how an image is cut and a column on which
# data, the protocol's name is both with a hyphen: `crop-reid`.

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import Field, field_validator

from ..core.configuration import (
    PLAIN_NAME,
    Configuration,
    ConfigurationError,
    is_plain_name,
    nearest,
    read_toml,
    validate,
)
from ..core.project import extension_folders, project_root
from ..evaluation.configuration import Protocol
from .documents import DocumentedTable, documented_table, documented_tables, own_tables, plain_text
from .experiment import Batch, Experiment

__all__ = [
    "METRICS",
    "WHOLE_RUNS",
    "Batch",
    "Block",
    "Cell",
    "Experiment",
    "Key",
    "Table",
    "TableFile",
    "load_table",
    "resolve_runs",
    "table_slugs",
]

Key = dict[Literal["run", "protocol", "metric"], str]

METRICS = "mAP R1 R3 R5 R10 mINP mean accuracy forgetting error ratio distance ae ae_l1 ae_l2".split()


class Block(Configuration):
    "How rows and columns of a rectangle of cells meet; each key may hold run, protocol or metric."

    protocol: str | None = None
    run: str | None = None
    metric: str | None = None
    rows: dict[int, str | Key]  # body row, from 0 → a run's name, or {run, protocol, metric}
    columns: dict[
        int, str | Key | list[str | Key]
    ]  # column → a metric, a key, or one for each number of a composite cell


class TableFile(Configuration):
    "data/experiments/<slug>.toml as written."

    table: str  # slug
    family: str = ""  # notebook in nbs/tables
    reference: int = Field(0, ge=0)  # body row that changes are against; not the first where that quotes a paper
    protocols: dict[str, dict]  # name → description; keys name (in English), and those of Protocol
    runs: dict[str, dict]  # name → description; keys name (in English), like, and those of Experiment
    blocks: list[Block]

    @field_validator("family")
    @classmethod
    def _is_plain(cls, family: str) -> str:
        if family and not is_plain_name(family):
            raise ValueError(PLAIN_NAME)
        return family


@dataclass(frozen=True)
class Cell:
    "One number of a table: what the notes say and what we run for it."

    row: int
    column: int
    run: str
    protocol: str
    metric: str
    documented: str  # the number as written; "" where the notes have none


@dataclass(frozen=True)
class Table:
    "A table of the notes with everything resolved."

    notes: DocumentedTable
    family: str  # notebook in nbs/tables
    names: dict  # run → English name
    protocol_names: dict  # protocol → English name
    experiments: dict  # run → Experiment
    protocols: dict  # name → Protocol
    cells: list  # of Cell, in the blocks' order
    reference: int  # body row that changes are against


# ---- inheritance: `like` merges descriptions in order, section by section; the run's own words come last

WHOLE_RUNS = ("start", "pretrain", "generator", "members")  # keys that name another run, or several

OtherTable = Callable[[str], dict]  # a table's slug → its raw runs


class Place(NamedTuple):
    "A run's description and the file that it stands in."

    name: str
    runs: dict  # all raw runs of the file
    file: str


DEEPEST = 50  # runs that inherit from each other in a row


@dataclass(frozen=True)
class Reader:
    "Follows `like` through a file and others; each run is resolved once."

    other_table: OtherTable | None
    resolved: dict = field(default_factory=dict)  # (file, name) → description

    def description(self, place: Place, path: tuple[Place, ...] = ()) -> dict:
        "A run's description with everything that it inherits (`ConfigurationError`)."
        place = self._located(place)
        self._check(place, path)
        key = (place.file, place.name)
        if key not in self.resolved:
            self.resolved[key] = self._resolve(place, (*path, place))
        return self.resolved[key]

    def _resolve(self, place, path):
        "What a run says and inherits."
        own = dict(place.runs[place.name])
        for key in WHOLE_RUNS:
            if key in own:
                own[key] = self._whole(own[key], place, path)
        parents = own.pop("like", [])
        own.pop("name", None)
        inherited: dict = {}
        for parent in _run_names(parents, "like", place):
            inherited = _merged(inherited, self.description(place._replace(name=parent), path))
        replaced = [key for key in WHOLE_RUNS if key in own]  # whole runs, not changes
        return _merged({key: value for key, value in inherited.items() if key not in replaced}, own)

    def _located(self, place):
        "Where a name like `market-backbones/r50-09` is described."
        if "/" not in place.name or self.other_table is None:
            return place
        slug, name = place.name.split("/", 1)
        return Place(name, self.other_table(slug), f"{slug}.toml")

    def _check(self, place, path):
        "Refuse circles and unknown names."
        first = path[0] if path else place
        if len(path) > DEEPEST:
            raise ConfigurationError(f"{first.file} [runs.{first.name}]: 'like' is more than {DEEPEST} runs deep")
        if any((place.file, place.name) == (above.file, above.name) for above in path):
            circle = " → ".join(above.name for above in (*path, place))
            raise ConfigurationError(f"{first.file} [runs.{first.name}]: 'like' goes in a circle: {circle}")
        if place.name not in place.runs:
            child = path[-1] if path else place
            hint = f"{nearest(place.name, place.runs)}; {place.file} has {', '.join(place.runs)}"
            raise ConfigurationError(f"{child.file} [runs.{child.name}]: like = {place.name!r} names no run{hint}")

    def _whole(self, value, place, path):
        "A run that another one names, described in full; or several."
        if isinstance(value, list):
            return [self._whole(one, place, path) for one in value]
        return self.description(place._replace(name=value), path) if isinstance(value, str) else value


def _run_names(value, key, place) -> list:
    "One name, or several (`ConfigurationError`)."
    names = value if isinstance(value, list) else [value]
    if not all(isinstance(name, str) for name in names):
        expected = "expected a run's name, or a list of names"
        raise ConfigurationError(f"{place.file} [runs.{place.name}]: {key} = {value!r}: {expected}")
    return names


def _merged(base: dict, change: dict) -> dict:
    "A description with changes, section by section."
    result = dict(base)
    for key, value in change.items():
        before = result.get(key)
        if isinstance(before, dict) and isinstance(value, dict):
            value = _merged(before, value)
        result[key] = value
    return result


def resolve_runs(
    runs: dict,  # name → raw description
    where: str,  # file, for messages
    other_table: OtherTable | None = None,  # called with another table's slug, gives its raw runs
) -> dict:  # name → Experiment
    "Follow `like` and validate each run (`ConfigurationError`)."
    reader = Reader(other_table)
    raw = {name: reader.description(Place(name, runs, where)) for name in runs}
    return {name: validate(Experiment, values, f"{where} [runs.{name}]") for name, values in raw.items()}


# ---- cells

_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?")  # not the 1 of ae_l1


def _key(named: str | Key, default: str) -> dict:
    "A name alone is a run's, or a metric's."
    return {default: named} if isinstance(named, str) else dict(named)


def _joined_key(block: Block, by_row: dict, by_column: dict) -> dict:
    "What block, row and column say together; a protocol named in parts is the parts with hyphens between them."
    of_block = {name: getattr(block, name) for name in ("run", "protocol", "metric") if getattr(block, name)}
    parts = [key["protocol"] for key in (of_block, by_row, by_column) if "protocol" in key]
    return {**of_block, **by_row, **by_column, "protocol": "-".join(parts)}


def _check_key(key: dict, file: TableFile, at: str):
    "Refuse a key that is not whole, or has names that do not exist."
    for part, valid in (("run", file.runs), ("protocol", file.protocols), ("metric", METRICS)):
        name = key.get(part, "")
        if name not in valid:
            expected = ", ".join(valid)
            raise ConfigurationError(f"{at}: {part} {name!r}{nearest(name, valid)}; expected one of {expected}")


def _cells(file: TableFile, body: list, where: str) -> Iterator[Cell]:
    "A cell for each number of each cell of each block."
    for number, block in enumerate(file.blocks):
        for row, by_row in block.rows.items():
            for column, by_column in block.columns.items():
                at = f"{where} [[blocks]] {number}, row {row}, column {column}"
                if row >= len(body) or column >= len(body[row]):
                    size = f"{len(body)} rows of {len(body[0])} columns"
                    raise ConfigurationError(f"{at}: the document's table has {size}")
                numbers = _NUMBER.findall(plain_text(body[row][column]))
                parts = by_column if isinstance(by_column, list) else [by_column]
                for position, part in enumerate(parts):
                    key = _joined_key(block, _key(by_row, "run"), _key(part, "metric"))
                    _check_key(key, file, at)
                    documented = numbers[position] if position < len(numbers) else ""
                    yield Cell(row, column, key["run"], key["protocol"], key["metric"], documented)


# ---- files


def _experiment_folders(root: Path) -> list[Path]:
    "Where plans lie: the project's, and those of extensions."
    return [root / "data" / "experiments", *(folder / "experiments" for folder in extension_folders())]


def table_slugs(
    root: Path | None = None,  # the project's folder
) -> list:
    "Slugs of all tables that have a plan: the notes' in their order, then our own."
    root = root or project_root()
    slugs = {path.stem for folder in _experiment_folders(root) for path in folder.glob("*.toml")}
    return [slug for slug in (*documented_tables(root), *own_tables(root)) if slug in slugs]


@lru_cache(None)
def _read_file(slug: str, root: Path) -> TableFile:
    if not is_plain_name(slug):
        raise ConfigurationError(f"table {slug!r}: {PLAIN_NAME}")
    paths = [folder / f"{slug}.toml" for folder in _experiment_folders(root)]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        slugs = table_slugs(root)
        hint = f"{nearest(slug, slugs)}: there is no {slug}.toml; planned: {', '.join(slugs)}"
        raise ConfigurationError(f"table {slug!r}{hint}")
    file = validate(TableFile, read_toml(path), path.name)
    if file.table != slug:
        raise ConfigurationError(f"{path.name}: table = {file.table!r}, expected {slug!r} as the file's name says")
    return file


def _resolve_protocols(file: TableFile, where: str) -> dict:
    protocols = {}
    for name, raw in file.protocols.items():
        values = {key: value for key, value in raw.items() if key != "name"}
        protocols[name] = validate(Protocol, values, f"{where} [protocols.{name}]")
    return protocols


def _names(raw: dict) -> dict:
    "English names of runs or protocols."
    return {name: str(values.get("name", name)) for name, values in raw.items()}


@lru_cache(None)
def _load(slug: str, root: Path) -> Table:
    file, where = _read_file(slug, root), f"{slug}.toml"
    notes = documented_table(slug, root)
    return Table(
        notes=notes,
        family=file.family,
        names=_names(file.runs),
        protocol_names=_names(file.protocols),
        experiments=resolve_runs(file.runs, where, lambda other: _read_file(other, root).runs),
        protocols=_resolve_protocols(file, where),
        cells=list(_cells(file, notes.body, where)),
        reference=file.reference,
    )


def load_table(
    slug: str,  # e.g. "market-backbones"
    root: Path | None = None,  # the project's folder
) -> Table:
    "A table with its documented cells and resolved runs, read once a process (`ConfigurationError`)."
    return _load(slug, (root or project_root()).resolve())
