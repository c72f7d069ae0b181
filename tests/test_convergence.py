"Runs that did not converge, or whose features are all alike, are marked wherever they are averaged."

import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT

from reidnb.book.committed import results_files
from reidnb.book.numbers import table_page
from reidnb.book.rendering import render
from reidnb.catalogue.experiment import Experiment
from reidnb.catalogue.experiments import load_table
from reidnb.core.registry import all_kinds
from reidnb.losses.description import Chance, IdentityLoss, MetricLoss
from reidnb.methods.description import MethodOptions
from reidnb.results.cells import MARK, cells_frame, footnotes, footnotes_markdown, table_frame, wide_frame
from reidnb.results.convergence import convergence_mark
from reidnb.results.findings import judge_findings
from reidnb.runs.execute import about_queries
from reidnb.runs.plan import plan_table
from reidnb.runs.presets import load_preset
from reidnb.runs.records import Archive

SEEDS = (0, 1, 2)
ROWS = ["r50-01", "r50-09"]
REASON = "did not converge (identity loss 4.6, chance 4.61)"


@pytest.fixture
def unlearnt(tmp_path):
    "Preset mini, where seed 1 of row r50-09 never left chance."
    preset = load_preset("mini").model_copy(update={"store": str(tmp_path)})
    archive = Archive(preset)
    for job in plan_table(load_table("market-backbones"), preset, (1,), rows=["r50-09"]):
        record = archive.read(job.run)
        archive.write(job.run, record | {"final": record["final"] | {"identity": 4.6}})
    return preset


def test_cells_and_tables_mark_the_seed_and_its_loss(unlearnt):
    table = load_table("market-backbones")
    frame = table_frame(table, unlearnt, SEEDS, rows=ROWS)
    of_row = frame.groupby("run")["unconverged"].unique()
    assert of_row["r50-01"].tolist() == [""]
    assert of_row["r50-09"].tolist() == [f"learned weights: seed 1 {REASON}"]
    shown = wide_frame(frame).to_string()
    assert MARK in shown and shown.count(MARK) == len(frame[frame["run"] == "r50-09"])
    assert footnotes(frame) == [f"learned weights: seed 1 {REASON}"]
    assert f"- learned weights: seed 1 {REASON}" in footnotes_markdown(frame)
    assert footnotes_markdown(frame[frame["run"] == "r50-01"]) == ""
    cells = cells_frame(table, unlearnt, SEEDS).set_index("run")["unconverged"]
    assert (cells["r50-01"] == "").all() and (cells["r50-09"] == f"learned weights: seed 1 {REASON}").all()


def test_pages_findings_and_committed_files_say_so(unlearnt):
    page = table_page(load_table("market-backbones"), unlearnt, SEEDS)
    line = f"learned weights: seed 1 {REASON}"
    assert page.footnotes().count(line) == 1
    has_mark = {row.name: {MARK in number.ours for number in row.numbers.values()} for row in page.rows}
    assert has_mark["learned weights"] == {True} and has_mark["baseline"] == {False}
    judged = judge_findings(unlearnt, SEEDS, ["market-backbones"])
    mark = f"learned weights: seed 1 {REASON}"
    for claim in judged:
        operands = [operand for pair in claim.finding.pairs() for operand in pair]
        assert (mark in claim.marks) == ("r50-09 mAP" in operands), claim.finding.claim
    html = render("claims.html", claims=judged)
    assert f"† {mark}" in html and "†</td>" in html
    files = results_files(unlearnt, SEEDS)
    assert REASON in files["cells.csv"] and mark in files["findings.csv"] and mark in files["scoreboard.md"]
    assert f"- {line}" in files["tables.md"]


def test_scores_keep_whether_features_are_alike():
    from reidnb.evaluation.ranking import Scores

    values = np.ones(2)
    plain = Scores(values, values, np.array([1, 1]), 5)
    assert "alike" not in about_queries(plain)
    alike = Scores(values, values, np.array([1, 1]), 5, alike=0.99812)
    scores = about_queries(alike)
    assert scores["alike"] == 0.9981
    assert convergence_mark(None, Experiment(), scores) == "features all alike (mean cosine 0.998)"
    assert convergence_mark(None, Experiment(), {}) == ""  # scores from before say nothing


def test_the_reference_run_of_vpm_is_recognised():
    "Its locator's losses of three seeds as published; a locator that learnt is not marked."
    experiment = Experiment.model_validate({"method": {"kind": "vpm"}})
    for loss, marked in ((1.57, True), (1.00, True), (1.07, True), (0.44, False)):
        record = {"classes": 100, "final": {"identity": 1.5, "locator": loss, "metric": 0.2}}
        assert bool(convergence_mark(record, experiment, {})) == marked, loss


def test_every_identity_loss_and_method_names_its_chance():
    for kind, loss in all_kinds(IdentityLoss).items():
        chance = loss().chance(50)
        assert chance.level > chance.least >= 0, kind
    levels = {kind: loss().chance(50) for kind, loss in all_kinds(MetricLoss).items()}
    assert {kind for kind, chance in levels.items() if chance} == {"triplet", "soft_triplet", "ema_triplet"}
    for kind, method in all_kinds(MethodOptions).items():
        assert callable(method.chances), kind
    assert Chance(4.0, 1.0).remaining(2.5) == 0.5


def test_marks_are_read_without_torch():
    code = "import sys; import reidnb.results.cells; assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
