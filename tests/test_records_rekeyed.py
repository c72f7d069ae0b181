"Published scores, with their names before and after the descriptions of experiments changed."

import csv

import pytest
from conftest import ROOT

from reidnb.catalogue.experiments import load_table
from reidnb.runs.datasets import data_fingerprint, run_id
from reidnb.runs.presets import load_preset
from reidnb.runs.records import scores_identity

RECORDS = ROOT / "reports" / "records"


@pytest.fixture(scope="module")
def rekeyed() -> list[dict]:
    "Rows with the columns table, run, protocol, seed, old and new."
    with (RECORDS / "rekeyed-mini.csv").open(encoding="utf8", newline="") as file:
        return list(csv.DictReader(file))


def test_old_and_new_names_are_one_to_one(rekeyed):
    assert any(row["old"] != row["new"] for row in rekeyed)
    pairs = {(row["old"], row["new"]) for row in rekeyed}  # tables share runs
    assert len(pairs) == len({old for old, _ in pairs}) == len({new for _, new in pairs})


def test_new_names_are_those_that_are_planned(rekeyed):
    mini = load_preset("mini")
    for row in rekeyed:
        table = load_table(row["table"])
        protocol = table.protocols[row["protocol"]]
        run = run_id(table.experiments[row["run"]], mini, int(row["seed"]))
        planned = scores_identity(run, protocol, data_fingerprint(protocol.data, mini))
        assert row["new"] == planned, row


def test_files_have_the_new_names_alone(rekeyed):
    names = {path.stem for path in (RECORDS / "mini").glob("*.json")}
    assert {row["new"] for row in rekeyed} <= names
    replaced = {row["old"] for row in rekeyed if row["old"] != row["new"]}
    assert not replaced & names
