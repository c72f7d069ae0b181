"Notebooks that are programs: papermill, made strict."

# papermill fills a notebook's `parameters` cell and runs it. It takes a name that the notebook does not declare without
# a word, so `-p prset mini` would silently train at the default. `execute` reads the declared parameters first and refuses
# unknown names and wrong types. The notebook itself asks `TableParameters.of(globals())` in the cell after its parameters,
# so that plain `papermill in.ipynb out.ipynb -p …` is checked by the same rules.

import errno
import html
import os
import re
import types
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import papermill
from nbclient.exceptions import CellExecutionError
from nbconvert import HTMLExporter

from reidnb.book.tables import regenerate
from reidnb.catalogue.experiments import Experiment, load_table
from reidnb.core.configuration import Configuration, ConfigurationError, nearest, validate
from reidnb.core.files import NO_SPACE, read_json, write_atomically, write_text
from reidnb.core.project import project_root
from reidnb.results.cells import table_frame
from reidnb.runs.datasets import run_id
from reidnb.runs.plan import chosen_rows, parse_seeds, plan_table
from reidnb.runs.presets import Preset, load_preset
from reidnb.runs.records import Archive

_SHELL_NAMES = {"In", "Out", "exit", "quit", "open", "get_ipython"}  # what IPython puts into a notebook's globals
_NO_VALUES = types.ModuleType | types.FunctionType | type  # imports, not parameters
_REMOTE_SCRIPT = re.compile(r'<script[^>]*\bsrc="https?://[^"]*"[^>]*>\s*</script>')  # a page opens without a network


class TableParameters(Configuration):
    "Parameters of the notebooks in nbs/tables."

    table: str  # slug
    preset: str = "smoke"  # section of settings.ini
    seeds: str | int = "0"  # with commas between them
    rows: str = ""  # names of runs with commas between them; all when empty
    jobs: int = 0  # processes; 0 is one per core
    local: bool = False  # only what this machine trained counts

    @classmethod
    def of(
        cls,
        names: dict,  # the notebook's globals()
    ):  # TableParameters
        "The values that a notebook was given; an unknown name is refused (`ConfigurationError`)."
        values = {name: value for name, value in names.items() if _is_parameter(name, value)}
        return validate(cls, values, "notebook parameters")


def _is_parameter(name, value):
    return not (name.startswith("_") or name in _SHELL_NAMES or isinstance(value, _NO_VALUES))


class OpenTable:
    "A table under a preset, as a notebook shows it: what the table notebooks share; they differ in what they draw."

    def __init__(self, parameters: TableParameters):
        self.parameters = parameters
        self.plan = load_table(parameters.table)
        self.preset = load_preset(parameters.preset)
        self.seeds = parse_seeds(parameters.seeds)
        self.rows = chosen_rows(self.plan, parameters.rows)
        self.published = not parameters.local
        self.archive = Archive(self.preset, published=self.published)

    def heading(self) -> str:  # Markdown
        "What this is, and how large."
        notes = self.plan.notes
        title = html.escape(notes.title, quote=False)  # Markdown lets markup through
        preset = self.preset
        seeds = ", ".join(map(str, self.seeds))
        size = f"images {preset.image_height} × {preset.image_width}, networks of base width {preset.network_width}"
        steps = f"{preset.steps or 'real epochs of'} steps for 120 epochs"
        where = f"Document {notes.document}, line {notes.line}."
        return f"## {title}\n\n{where} Preset **{preset.name}**: {preset.data} data, {size}, {steps}; seeds {seeds}."

    def regenerate(self):
        "Run what is missing (`RuntimeError` names runs that failed, and why)."
        options: dict[str, Any] = {"parallel": self.parameters.jobs or None, "published": self.published}
        failed = regenerate(self.plan, self.preset, self.seeds, rows=self.rows, **options)
        if failed:
            reasons = (f"{title}: {reason}" for title, reason in failed.items())
            raise RuntimeError("; ".join(reasons))

    def frame(self) -> pd.DataFrame:  # a line a number, from `table_frame`; a CSV of it goes to the store
        "The notes' numbers and ours."
        frame = table_frame(self.plan, self.preset, self.seeds, rows=self.rows, published=self.published)
        path = table_stem(self.preset, self.plan.notes.slug).with_suffix(".csv")
        write_atomically(path, lambda unfinished: frame.to_csv(unfinished, index=False))
        return frame

    def jobs(self) -> list:  # of Job
        "The runs of the chosen rows, with those that they start from."
        return plan_table(self.plan, self.preset, self.seeds, rows=self.rows)

    def records(self) -> list:
        "Their records."
        return [self.archive.read(job.run) for job in self.jobs()]


class TrainedRun(NamedTuple):
    "A run of a table with its weights."

    method: Any  # the trained module
    experiment: Experiment
    title: str  # the row's English name


class TrainingHistory(NamedTuple):
    "How a run of a table was trained."

    lines: list  # of `fit`
    title: str  # the row's English name


def trained_run(
    table: str,  # slug
    row: str,  # name of a run; the table's first when empty
    preset: Preset,
    *,
    seed: int = 0,
) -> TrainedRun:
    "A run of a table with its weights, trained here if they are not (`ConfigurationError` for a row that is not there)."
    plan = load_table(table)
    name = chosen_rows(plan, row)[0]
    experiment = plan.experiments[name]
    title = plan.names[name]
    method = trained_experiment(experiment, preset, seed, name=title)
    return TrainedRun(method, experiment, title)


def trained_history(
    table: str,  # slug
    row: str,  # name of a run; the table's first when empty
    preset: Preset,
    *,
    seed: int = 0,
) -> TrainingHistory:
    "How a run of a table was trained, trained here if its history is not on this machine."
    plan = load_table(table)
    name = chosen_rows(plan, row)[0]
    experiment = plan.experiments[name]
    trained_experiment(experiment, preset, seed, name=plan.names[name])
    folder = Archive(preset, published=False).run_folder(run_id(experiment, preset, seed))
    content = read_json(folder / "history.json")
    return TrainingHistory(content["history"], plan.names[name])


def trained_experiment(
    experiment: Experiment,
    preset: Preset,
    seed: int = 0,
    *,
    name: str = "",  # for people
):
    "A trained method with its weights, trained here if they are not: reports draw what a network does, so a record alone is not enough."
    from reidnb.runs.execute import load_trained, run  # with torch

    archive = Archive(preset, published=False)
    record = run(experiment, preset, seed, name=name, archive=archive, weights=True)
    return load_trained(record, experiment, preset, archive=archive)


def declared_parameters(notebook: str | os.PathLike) -> dict:  # name → default, as source text
    "What a notebook's parameters cell declares (`ConfigurationError` if it has none)."
    if not Path(notebook).is_file():
        raise ConfigurationError(f"{notebook}: no such notebook")
    declared = papermill.inspect_notebook(_literal(notebook))
    if not declared:
        raise ConfigurationError(f"{notebook}: no cell is tagged 'parameters'")
    return {name: parameter["default"] for name, parameter in declared.items()}


def _literal(path: str | os.PathLike) -> str:
    "A path for papermill, which puts parameters into braces."
    return str(path).replace("{", "{{").replace("}", "}}")


def _check_parameters(notebook, parameters):
    "Refuse what a notebook does not declare (`ConfigurationError`)."
    declared = declared_parameters(notebook)
    file = Path(notebook).name
    for name in parameters:
        if name not in declared:
            hint = nearest(name, declared)
            raise ConfigurationError(f"{file}: unknown parameter {name!r}{hint}; it takes {', '.join(declared)}")
    if "table" in declared:
        validate(TableParameters, {"table": "", **parameters}, file)


def execute(
    notebook: str | os.PathLike,  # with a cell tagged parameters
    output: str | os.PathLike,  # the executed copy; kept when a cell fails
    parameters: dict,
    *,
    progress: bool = False,  # papermill's bar over cells
):
    "Run a notebook with checked parameters (`ConfigurationError` before, `RuntimeError` with the failing cell's last line after)."
    _check_parameters(notebook, parameters)
    file = Path(notebook).name
    Path(output).parent.mkdir(parents=True, exist_ok=True)
    kernel: dict[str, Any] = {"cwd": str(project_root()), "extra_arguments": ["--IPKernelApp.log_level=ERROR"]}
    try:
        papermill.execute_notebook(_literal(notebook), _literal(output), parameters, progress_bar=progress, **kernel)
    except papermill.PapermillExecutionError as error:
        reason = f"{error.ename}: {error.evalue} (the executed copy is {output})"
        raise RuntimeError(f"{file}, cell {error.exec_count}: {reason}") from None
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise OSError(errno.ENOSPC, NO_SPACE, str(output)) from None
        raise RuntimeError(f"{file}: {error}") from None
    except CellExecutionError as error:
        raise RuntimeError(f"{file}: {error}") from None


def write_page(
    notebook: str | os.PathLike,  # executed
    page: str | os.PathLike,  # HTML file
):
    "An executed notebook as a page to read: prose and results, without code."
    exporter = HTMLExporter(exclude_input=True, exclude_input_prompt=True, exclude_output_prompt=True)
    text, _ = exporter.from_filename(str(notebook))
    write_text(page, _REMOTE_SCRIPT.sub("", text))


def table_stem(preset: Preset, slug: str) -> Path:
    "Where a table's executed notebook, page and CSV lie, without their suffix."
    return Path(preset.store) / "tables" / preset.name / slug


def render_table(
    slug: str,
    preset: Preset,
    seeds: str | int,  # with commas between them
    *,
    published: bool = True,  # False: only what this machine trained counts
    rows: str = "",  # names of runs with commas between them; all when empty
    jobs: int = 0,  # processes; 0 is one per core
) -> Path:  # of the executed notebook, the page and the CSV, without suffix
    "Execute a table's notebook and make a page of it."
    stem = table_stem(preset, slug)
    parameters = TableParameters(table=slug, preset=preset.name, seeds=seeds, rows=rows, jobs=jobs, local=not published)
    notebook = project_root() / "nbs" / "tables" / f"{load_table(slug).family}.ipynb"
    execute(notebook, stem.with_suffix(".ipynb"), parameters.model_dump())
    write_page(stem.with_suffix(".ipynb"), stem.with_suffix(".html"))
    return stem
