"Records and scores: their ids, what they say of the machine, and what is published."

import json
import shutil

import numpy as np
import pytest
from conftest import record_of, scores_of

from reidnb.catalogue.experiments import Experiment
from reidnb.core.configuration import short_hash
from reidnb.core.project import project_root
from reidnb.evaluation.ranking import Scores
from reidnb.runs.presets import load_preset
from reidnb.runs.records import (
    Archive,
    pack_scores,
    peak_memory,
    provenance,
    run_identity,
    training_version,
    unpack_scores,
)

MINI = load_preset("mini")


def test_equal_experiments_are_one_run():
    written_out = Experiment.model_validate(dict(batch=dict(images=64)))
    assert run_identity(Experiment(), MINI, "f00d", seed=0) == run_identity(written_out, MINI, "f00d", seed=0)


def test_everything_that_changes_a_run_changes_its_id():
    ids = [
        run_identity(Experiment(), MINI, "f00d", seed=0),
        run_identity(Experiment(), MINI, "f00d", seed=1),
        run_identity(Experiment(), MINI, "beef", seed=0),
        run_identity(Experiment(data="duke"), MINI, "f00d", seed=0),
        run_identity(Experiment(), load_preset("smoke"), "f00d", seed=0),
        run_identity(Experiment(), MINI, "f00d", seed=0, before=("abc",)),
    ]
    assert len(set(ids)) == len(ids)


def test_provenance_names_versions_processor_and_what_training_computes():
    assert provenance()["packages"]["torch"]
    assert provenance()["processor"]
    assert 10 < peak_memory() < 1e6  # MB
    net = json.loads((project_root() / "data" / "training_net.json").read_text())
    assert provenance()["computes"] == training_version() == short_hash("training", net)


def test_training_version_follows_content_not_layout(tmp_path, monkeypatch):
    for folder in ("nbs", "data"):
        (tmp_path / folder).mkdir()
    (tmp_path / "settings.ini").touch()
    monkeypatch.setenv("REIDNB_HOME", str(tmp_path))
    net = tmp_path / "data" / "training_net.json"

    def version():
        training_version.cache_clear()
        return training_version()

    assert version() == ""
    net.write_text('{"a": {"total": 1.0, "losses": [[2.0]]}}')
    first = version()
    net.write_text('{\n "a": {"losses": [[2.0]],\n "total": 1.0}}')
    assert version() == first != ""
    net.write_text('{"a": {"total": 1.0, "losses": [[2.1]]}}')
    assert version() != first
    training_version.cache_clear()


@pytest.fixture
def archive(tmp_path):
    preset = MINI.model_copy(update=dict(store=str(tmp_path / "store")))
    return Archive(preset, tmp_path)


def test_only_what_is_asked_for_is_published(archive):
    assert archive.read("abc") is None and archive.modified("abc") == 0
    archive.write("abc", record_of("abc", mAP=0.5))
    archive.write("def", record_of("def", seed=9, mAP=0.1))
    assert archive.modified("abc") > 0
    assert archive.publish({"abc", "elsewhere"}) == 1
    assert not (archive.published_folder / "def.json").exists()


def test_a_run_that_is_published_whole_stays(archive):
    archive.write("abc", record_of("abc", mAP=0.5))
    archive.publish({"abc"})
    archive.write("abc", record_of("abc", mAP=0.6))  # trained again
    assert archive.publish({"abc"}) == 0
    assert archive.publish({"abc"}, replace=True) == 1
    archive.write("abc", record_of("abc", mAP=0.5))
    archive.write(
        "abc.1", scores_of("abc.1", summary=dict(R1=0.7))
    )  # a new protocol: all of the run is published together
    assert archive.publish({"abc", "abc.1"}) == 2
    assert archive.publish({"abc", "abc.1"}) == 0


def test_published_records_serve_without_a_store(archive, tmp_path):
    archive.write("abc", record_of("abc", mAP=0.5))
    archive.write("def", record_of("def", seed=9, mAP=0.1))
    archive.publish({"abc"})
    shutil.rmtree(archive.preset.store)
    assert archive.read("abc")["mAP"] == 0.5
    assert archive.read("def") is None
    assert Archive(archive.preset, tmp_path, published=False).read("abc") is None
    assert archive.records() == [record_of("abc", mAP=0.5)]


def test_publishing_removes_what_no_table_asks_for(archive):
    archive.write("abc", record_of("abc", mAP=0.5))
    archive.publish({"abc"})
    superfluous = archive.published_folder / "gone.json"
    superfluous.write_text("{}")
    assert archive.publish({"abc"}) == 0
    assert not superfluous.exists()


def test_a_broken_file_is_a_missing_one(archive):
    archive.published_folder.mkdir(parents=True)
    (archive.published_folder / "abc.json").write_text('{"seed": 0, "mA')
    assert archive.read("abc") is None


def test_scores_survive_json():
    scores = Scores(np.array([0.5, np.nan]), np.array([0.25, np.nan]), np.array([2, 0]), 10)
    text = json.dumps(pack_scores(scores))
    unpacked = unpack_scores(json.loads(text), 10)
    assert unpacked.mAP == scores.mAP
    assert unpacked.unmatched == 1
    assert unpacked.cmc(1) == 0
