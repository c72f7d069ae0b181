"Broken input, broken disks: one clear line, nothing lost."

import errno
import json
import os
import shutil

import pytest

from reidnb.catalogue.experiments import Experiment
from reidnb.runs import execute as runs
from reidnb.runs.presets import load_preset
from reidnb.runs.records import Archive
from reidnb.synthetic.drawn import Scale, draw_data

TABLE = ("table", "market-backbones", "--rows", "r50-01")
TINY = Scale(identities=8, images=4, test_identities=3, distractors=4, junk=1)


def test_names_that_do_not_exist(home):
    assert "preset 'minni' (did you mean 'mini'?)" in home.complaint(*TABLE, "--preset", "minni")
    assert "did you mean 'market-backbones'" in home.complaint("table", "market-backbone")
    assert "rows = 'r50-99'" in home.complaint("table", "market-backbones", "--preset", "smoke", "--rows", "r50-99")
    assert "expected whole numbers" in home.complaint(*TABLE, "--preset", "smoke", "--seeds", "one")


def test_impossible_preset(home):
    home.change("[smoke]\n", "[smoke]\nimage_width = 0\n")
    assert "settings.ini [smoke]: image_width = '0': should be greater than or equal to 8" in home.complaint(
        *TABLE, "--preset", "smoke"
    )


def test_unknown_papermill_parameter(home):
    from reidnb.book.notebooks import execute
    from reidnb.core.configuration import ConfigurationError

    notebook = home.folder / "nbs" / "tables" / "supervised.ipynb"
    with pytest.raises(ConfigurationError, match="unknown parameter 'prset' \\(did you mean 'preset'"):
        execute(notebook, home.folder / "out.ipynb", dict(prset="mini"))
    assert not (home.folder / "out.ipynb").exists()


def test_unknown_parameter_of_plain_papermill(home):
    import papermill

    notebook = home.folder / "nbs" / "tables" / "supervised.ipynb"
    with pytest.raises(papermill.PapermillExecutionError, match="unknown key 'prset' \\(did you mean 'preset'"):
        papermill.execute_notebook(notebook, home.folder / "out.ipynb", dict(prset="mini"), progress_bar=False)
    assert not home.store.exists()  # refused before anything was drawn or trained


def test_missing_data_folder(home):
    line = home.complaint(*TABLE, "--preset", "mini-real")
    assert str(home.folder / "real") in line and "Market-1501-v15.09.15" in line and "REIDNB_DATA_ROOT" in line


def real_folder(home):
    "A small drawn Market in the place of the real one, for the presets that read real data."
    root = draw_data("market", home.folder / "drawn", TINY)
    shutil.copytree(root, home.folder / "real" / "Market-1501-v15.09.15")
    home.change("[mini-real]\n", "[mini-real]\nbatch_divisor = 4\n")
    home.change("steps = 3000", "steps = 4")
    return home.folder / "real" / "Market-1501-v15.09.15"


def test_truncated_image(home):
    root = real_folder(home)
    victim = sorted((root / "bounding_box_train").glob("*.jpg"))[3]
    whole = victim.read_bytes()
    victim.write_bytes(whole[: len(whole) // 2])
    line = home.complaint(*TABLE, "--preset", "mini-real")
    assert victim.name in line and "not a readable image" in line
    assert not list(home.store.rglob("*.npy"))  # no half-filled cache
    victim.write_bytes(whole)
    code, out, err = home.reidnb(*TABLE, "--preset", "mini-real")
    assert code == 0 and "1 to run" in out, err


def test_empty_identity_list(home):
    root = real_folder(home)
    for path in (root / "bounding_box_train").glob("*.jpg"):
        path.unlink()
    assert "no image in split 'train', the list of identities is empty" in home.complaint(
        *TABLE, "--preset", "mini-real"
    )


def test_half_extracted_archive(home):
    root = real_folder(home)
    next((root / "query").glob("*.jpg")).unlink()
    line = home.complaint(*TABLE, "--preset", "mini-real")
    assert str(root) in line and "were drawn" in line
    (root / "drawn.json").unlink()
    assert "expected 12936 of 751" in home.complaint(*TABLE, "--preset", "mini-real")


@pytest.mark.parametrize("what", ["weights", "record"])
def test_full_disk(home, monkeypatch, what):
    smoke, archive = load_preset("smoke"), None
    archive = Archive(smoke, published=False)
    from reidnb.evaluation.configuration import Protocol

    protocol, wanted = Protocol(), {"weights": "runs", "record": "records"}[what]
    replace = os.replace

    def no_space(source, target):
        if wanted in os.fspath(target) and "checkpoint" not in os.fspath(target):
            raise OSError(errno.ENOSPC, "No space left on device", str(target))
        replace(source, target)

    monkeypatch.setattr(os, "replace", no_space)
    with pytest.raises(OSError, match="no space left on the disk; free some"):
        runs.run_and_score(Experiment(), smoke, 0, protocols=[protocol], archive=archive)
    assert not list(home.store.rglob("*unfinished*")) and not list((home.store / "records").rglob("*.json"))
    monkeypatch.setattr(os, "replace", replace)
    seen = []
    after = runs.run_and_score(Experiment(), smoke, 0, protocols=[protocol], archive=archive, progress=seen.append)[0]
    assert seen == [8 * 16]  # nothing was trained again: the checkpoint had it all
    shutil.rmtree(home.store / "records"), shutil.rmtree(home.store / "runs")
    assert runs.run_and_score(Experiment(), smoke, 0, protocols=[protocol], archive=archive)[0]["ap"] == after["ap"]


def test_a_checkpoint_of_another_run_is_refused(home):
    from reidnb.training.checkpoints import CheckpointError

    smoke = load_preset("smoke")
    archive = Archive(smoke, published=False)
    first = runs.run(Experiment(), smoke, 0, archive=archive)
    second = runs.run(Experiment(), smoke, 1, archive=archive)
    folders = [archive.run_folder(r["run"]) / "weights.safetensors" for r in (first, second)]
    shutil.copy(folders[1], folders[0])
    from reidnb.evaluation.configuration import Protocol

    with pytest.raises(CheckpointError, match=f"belongs to run '{second['run']}'"):
        runs.score(first, Experiment(), Protocol(), preset=smoke, archive=archive)


def test_nan_stops_a_run_and_leaves_its_reason(home):
    home.change("learning_rate = 0.016", "learning_rate = 1.0")
    home.change("[smoke]\n", "[smoke]\nresidual_gamma = 1\n")
    smoke = load_preset("smoke")
    broken = Experiment.model_validate(dict(schedule=dict(warmup=0, rate=1e30)))
    with pytest.raises(RuntimeError, match="step [0-9]+: .*(nan|inf).*images of the batch"):
        runs.run_and_score(broken, smoke, 0, protocols=[], name="too fast", archive=Archive(smoke, published=False))
    reason = json.loads(next((home.store / "runs").glob("*/failed.json")).read_text())
    assert reason["name"] == "too fast" and "step" in reason["reason"]
