"`tests/gpu.py` without a card: a whole call at its smallest, a second one, and figures that cannot be had."

import json
import shutil
import subprocess
import sys

import gpu
import pytest
from conftest import ROOT

KIND = "market-backbones/r50-04"


def call(folder, *words) -> list:
    "The script's arguments for a call without a card, with a store and figures in a folder."
    places = ["--store", str(folder / "store"), "--json", str(folder / "gpu.json")]
    return ["--device", "cpu", "--size", "smoke", "--kinds", KIND, *places, *words]


def figures_in(folder) -> dict:
    return json.loads((folder / "gpu.json").read_text())["figures"]


def test_a_call_prints_and_keeps_all_figures_and_a_second_one_measures_none_again(drawn, tmp_path):
    shutil.copytree(drawn, tmp_path / "store" / "smoke" / "drawn")
    command = [sys.executable, "tests/gpu.py", *call(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = figures_in(tmp_path)
    assert all(name in done.stdout and not row["failed"] for name, row in figures.items())
    assert figures[f"cpu and cpu, {KIND}"]["value"] == 0  # the same device twice
    for name in ("ResNet-50 baseline, training", f"two steps at smoke, {KIND}", "re-ranking, all cores"):
        assert figures[name]["value"] > 0
    assert figures["imported of notebooks and batches"]["value"] == 0
    assert gpu.main(call(tmp_path, "--seconds", "0")) == 0 and figures_in(tmp_path) == figures


def test_a_call_without_time_says_so(tmp_path, capsys):
    assert gpu.main(call(tmp_path, "--seconds", "0")) == 2
    assert "the same command goes on" in capsys.readouterr().out


def test_an_unknown_kind_is_one_line(tmp_path, capsys):
    assert gpu.main(call(tmp_path, "--kinds", "market-backbones/r50")) == 1
    assert "--kinds market-backbones/r50: expected some of" in capsys.readouterr().err


def test_a_card_that_is_not_there_is_one_line(capsys, monkeypatch):
    monkeypatch.setattr(gpu.torch.cuda, "is_available", lambda: False)
    assert gpu.main([]) == 1
    assert "expected one, or --device cpu --size smoke" in capsys.readouterr().err


def test_a_failure_is_a_row_and_is_tried_again(tmp_path, capsys):
    path, machine = tmp_path / "gpu.json", dict(device="cpu")
    figures = gpu.Figures(path, machine, seconds=60)
    figures.measure("one", lambda: gpu.Value(1.0, "s"))
    figures.measure("two", lambda: 1 / 0)
    assert figures.failed() == ["two"] and "failed: ZeroDivisionError: division by zero" in capsys.readouterr().out
    again = gpu.Figures(path, machine, seconds=60)
    again.measure("one", lambda: 1 / 0)
    again.measure("two", lambda: gpu.Value(2.0, "s"))
    assert not again.failed() and {name: row["value"] for name, row in again.rows.items()} == dict(one=1.0, two=2.0)


def test_figures_of_another_machine_are_not_mixed(tmp_path):
    gpu.Figures(tmp_path / "gpu.json", dict(device="a"), seconds=60).write()
    with pytest.raises(gpu.ConfigurationError, match="figures of another device"):
        gpu.Figures(tmp_path / "gpu.json", dict(device="b"), seconds=60)


def test_losses_that_differ_are_a_failure():
    assert gpu.relative_difference([2.0, 1.0], [2.0, 1.1]) == pytest.approx(0.1)
