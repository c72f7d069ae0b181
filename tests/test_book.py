"Tables are regenerated, their notebooks executed, the results book written."

import dataclasses
import math
import os
import re

import nbformat
import numpy as np
import pytest
from conftest import ROOT, scores_of
from nbformat.v4 import new_code_cell, new_notebook

from reidnb.book import notebooks
from reidnb.book.committed import results_files
from reidnb.book.notebooks import OpenTable, TableParameters, declared_parameters, execute, write_page
from reidnb.book.numbers import SIGNS, direction, table_page
from reidnb.book.pages import write_book
from reidnb.book.pool import run_jobs, waves
from reidnb.book.rendering import environment, markdown_row, render
from reidnb.book.tables import regenerate
from reidnb.catalogue.experiments import Experiment, load_table
from reidnb.core.configuration import ConfigurationError
from reidnb.results.findings import judge_findings
from reidnb.runs.datasets import run_id
from reidnb.runs.plan import Job, chosen_rows, is_missing, plan_table
from reidnb.runs.presets import load_preset
from reidnb.runs.records import Archive

SEEDS = (0, 1, 2)


def preset_in(folder, name):
    "A preset whose store is a folder of the test."
    return load_preset(name).model_copy(update={"store": str(folder)})


@pytest.fixture
def published(tmp_path):
    "Preset mini with the published records alone."
    return preset_in(tmp_path / "no store", "mini")


# Running side by side


def job(run, *needs):
    return Job(run, None, 0, run, (), needs)


def test_waves_put_each_run_after_those_that_it_needs():
    chain = [job("c", "b"), job("b", "a", "x"), job("x", "elsewhere"), job("a")]
    assert [[one.run for one in wave] for wave in waves(chain)] == [["x", "a"], ["b"], ["c"]]
    assert waves([]) == []


def test_regenerate_runs_what_is_missing_and_nothing_twice(tmp_path):
    smoke = preset_in(tmp_path, "smoke")
    table = load_table("market-backbones")
    lines: list[str] = []
    options = {"rows": chosen_rows(table, "r50-01,r50-09"), "parallel": 2, "published": False, "say": lines.append}
    assert regenerate(table, smoke, (0,), **options) == {}
    assert regenerate(table, smoke, (0,), **options) == {}
    assert "2 to run" in lines[0] and "0 to run" in lines[-1]


def test_a_failing_run_is_named_and_the_others_finish(tmp_path):
    smoke = preset_in(tmp_path, "smoke")
    table = load_table("market-backbones")
    first, second = plan_table(table, smoke, (1,), rows=["r50-01", "r50-09"])
    too_large = Experiment.model_validate({"batch": {"images": 4 * 4 * 17}})  # more identities than there are
    broken = dataclasses.replace(first, experiment=too_large, run=run_id(too_large, smoke, 1))
    failed = run_jobs([broken, second], smoke, 2, published=False)
    assert list(failed) == [broken.title] and "a batch wants 17" in failed[broken.title]
    assert not is_missing(second, Archive(smoke, published=False))
    assert (tmp_path / "runs" / broken.run / "failed.json").exists()


# Notebooks


def test_parameters_of_a_notebook_are_checked():
    names = {"table": "t", "preset": "mini", "__name__": "x", "os": os, "TableParameters": TableParameters}
    assert TableParameters.of(names).preset == "mini"
    with pytest.raises(ConfigurationError, match=re.escape("unknown key 'prset' (did you mean 'preset'?)")):
        TableParameters.of({"table": "t", "prset": "mini"})
    with pytest.raises(ConfigurationError, match="jobs"):
        TableParameters.of({"table": "t", "jobs": "many"})


def test_an_open_table_shows_the_published_numbers(published, monkeypatch):
    monkeypatch.setattr(notebooks, "load_preset", lambda name: published)
    shown = OpenTable(TableParameters(table="market-backbones", preset="mini", seeds="0,1,2", rows="r50-01"))
    assert "line 57" in shown.heading() and "seeds 0, 1, 2" in shown.heading()
    assert [job.seed for job in shown.jobs()] == [0, 1, 2]
    assert all(record["preset"] == "mini" for record in shown.records())
    assert shown.frame()["seeds"].eq("0,1,2").all()


def test_an_open_table_refuses_an_unknown_row():
    with pytest.raises(ConfigurationError, match="did you mean 'r50-01'"):
        OpenTable(TableParameters(table="market-backbones", rows="r5001"))


class ToyNotebook:
    "A parameter n and a cell that fails from five on."

    def __init__(self, folder):
        self.path = folder / "toy.ipynb"
        self.output = folder / "out.ipynb"
        kernel = {"name": "python3", "display_name": "python3", "language": "python"}
        parameters = new_code_cell("n = 2", metadata={"tags": ["parameters"]})
        check = new_code_cell("assert n < 5, f'{n} is too many'\nprint(n * 2)")
        self.notebook = new_notebook(cells=[parameters, check], metadata={"kernelspec": kernel})
        self.write()

    def write(self):
        nbformat.write(self.notebook, self.path)

    def execute(self, **parameters):
        "Run it and give what the last cell printed."
        execute(self.path, self.output, parameters)
        return nbformat.read(self.output, 4).cells[-1].outputs[0].text


def test_braces_in_a_path_are_no_parameters(tmp_path):
    folder = tmp_path / "{n}" / "{run}"
    folder.mkdir(parents=True)
    assert ToyNotebook(folder).execute(n=3) == "6\n" and not (tmp_path / "3").exists()


def test_a_notebook_is_executed_with_declared_parameters_only(tmp_path):
    toy = ToyNotebook(tmp_path)
    assert declared_parameters(toy.path) == {"n": "2"}
    assert toy.execute(n=3) == "6\n"
    with pytest.raises(ConfigurationError, match="did you mean 'n'"):
        toy.execute(nn=3)


def test_a_failing_notebook_names_its_last_line_and_is_kept(tmp_path):
    toy = ToyNotebook(tmp_path)
    with pytest.raises(RuntimeError, match="7 is too many") as failure:
        toy.execute(n=7)
    assert "Traceback" not in str(failure.value)
    write_page(toy.output, tmp_path / "out.html")
    page = (tmp_path / "out.html").read_text()
    assert "too many" in page
    assert not re.search(r'<(script|link|img)[^>]*(src|href)="https?://', page)


def test_a_parameter_is_a_value_and_never_code(tmp_path):
    nasty = '"; open("owned", "w").close(); "'
    toy = ToyNotebook(tmp_path)
    toy.notebook.cells[0].source = 'n = ""'
    toy.notebook.cells[1].source = "print(n)"
    toy.write()
    assert toy.execute(n=nasty) == nasty + "\n"  # papermill writes it into the notebook as a quoted literal
    assert not (ROOT / "owned").exists()


# Numbers and their directions


def test_a_direction_needs_seeds_that_resolve_it():
    rising = np.array([1.0, 1.2, 1.1])
    assert direction(2.0, rising, 0.01) == "same"
    assert direction(-2.0, rising, 0.01) == "opposite"
    assert direction(2.0, np.array([5.0, -4.0, 1.0]), 9.0) == "open"
    assert direction(math.nan, np.ones(3), 0.0) == "open"
    assert direction(2.0, np.array([1.0]), 0.0) == "open"  # one seed decides nothing


def test_a_page_compares_each_row_with_the_first():
    columns, rows = table_page(load_table("market-backbones"), load_preset("mini"), SEEDS)
    assert columns[0] == ("", "mAP") and rows[0].name == "baseline"
    first = rows[0].numbers["", "mAP"]
    weight = rows[5].numbers["", "mAP"]
    assert first.change == "" and "±" in first.ours
    assert weight.agrees in SIGNS and "|" in weight.change


def test_a_row_that_quotes_a_paper_is_no_reference(tmp_path):
    smoke, table = preset_in(tmp_path, "smoke"), load_table("partial-protocols")  # its first row quotes one
    for job in plan_table(table, smoke, (0,), rows=["baseline"]):
        for _, scores in job.protocols:
            Archive(smoke).write(scores, scores_of(scores, summary={"R1": 0.5, "R5": 0.6}))
    page = table_page(table, smoke, (0,))
    vpm, baseline, cropped = (row.numbers["Partial-REID", "R1"] for row in page.rows[:3])
    assert vpm.change == baseline.change == ""
    assert cropped.change.startswith("+7.0 | ")  # 50.7 against 43.7


# The book


def test_the_book_of_what_is_published(published, tmp_path):
    executed = tmp_path / "executed"
    executed.mkdir()
    (executed / "market-backbones.html").write_text("<p>executed</p>")
    book = tmp_path / "book"
    assert write_book(published, SEEDS, book, executed=executed) == book / "index.html"
    pages = {path.relative_to(book).as_posix() for path in book.rglob("*.html")}
    copied = "notebooks/market-backbones.html"
    assert {"index.html", "findings.html", "market-backbones.html", copied} <= pages
    for page in pages - {copied}:
        text = (book / page).read_text()
        links = re.findall(r'href="([^"#:]+)"', text)
        assert all(link in pages for link in links), page
        assert "<script" not in text and "<footer>" in text and "viewport" in text
    first = (book / "market-backbones.html").read_text()
    assert "▲" in first and 'class="n opposite"' in first and copied in first and "86.2" in first
    assert "<th>smoke</th>" not in first
    assert "as the notes write it" in first
    assert "as the notes write it" not in (book / "spgan-ladder.html").read_text()  # a table of our own


def test_numbers_of_another_preset_have_a_column_where_there_are_any(published, tmp_path):
    smoke = preset_in(tmp_path / "small store", "smoke")
    first = plan_table(load_table("market-backbones"), smoke, (0,), rows=["r50-01"])[0]
    _, scores = first.protocols[0]
    Archive(smoke).write(scores, scores_of(scores, summary={"mAP": 0.123, "R1": 0.2, "mean": 0.16}))
    write_book(published, SEEDS, tmp_path / "two", beside=smoke)
    page = (tmp_path / "two" / "market-backbones.html").read_text()
    assert "<th>smoke</th>" in page and '<td class="n">12.3</td>' in page
    assert "<th>smoke</th>" not in (tmp_path / "two" / "duke-backbones.html").read_text()


def test_a_text_cannot_become_markup():
    assert environment().from_string("{{ x }}").render(x="<b>") == "&lt;b&gt;"
    assert "<h1>&lt;b&gt;</h1>" in render("page.html", title="<b>")
    assert markdown_row(["a|b", "c\nd", 1]) == "| a\\|b | c d | 1 |"


def test_results_files_of_what_is_published(published):
    files = results_files(published, SEEDS)
    assert files["findings.csv"].count("\n") == 1 + len(judge_findings(published))
    assert "## " in files["tables.md"]
    assert "| documented |" in files["scoreboard.md"]
