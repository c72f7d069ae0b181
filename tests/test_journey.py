"What a user does: a table, the same table again, through papermill, killed and resumed."

import json
import os
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest

ROWS = "r50-01,r50-09"


def results(home, preset="smoke"):
    "All scores of a store by run, without what differs from call to call."
    found = {}
    for path in (home.store / "records" / preset).glob("*.*.json"):
        scores = json.loads(path.read_text())
        found[path.name] = {k: scores[k] for k in ("run", "seed", "summary", "ap", "inp", "first", "interval")}
    return found


def test_a_table_and_the_same_table_again(home):
    code, out, err = home.reidnb("table", "market-backbones", "--preset", "smoke", "--rows", ROWS, "--seeds", "0,1")
    assert code == 0, err
    assert "4 to run" in out and "market-backbones.html" in out
    frame = pd.read_csv(home.store / "tables" / "smoke" / "market-backbones.csv")
    assert len(frame) == 6 and frame["mean"].between(0, 100).all() and (frame["seeds"] == "0,1").all()
    assert frame["documented"].tolist()[:3] == [85.8, 94.2, 90.1]
    page = (home.store / "tables" / "smoke" / "market-backbones.html").read_text()
    assert "learned weights" in page and "Provenance" in page and "Traceback" not in page
    before = results(home)
    began = time.monotonic()
    code, out, err = home.reidnb("table", "market-backbones", "--preset", "smoke", "--rows", ROWS, "--seeds", "0,1")
    assert code == 0 and "0 to run" in out and results(home) == before
    assert time.monotonic() - began < 60  # nothing is trained; a table of this size takes longer if it is


def test_papermill_makes_the_same_numbers(home):
    words = ["-p", "table", "market-backbones", "-p", "preset", "smoke", "-p", "rows", "r50-01", "-p", "seeds", "3"]
    notebook = home.folder / "nbs" / "tables" / "supervised.ipynb"
    command = [sys.executable, "-m", "papermill", str(notebook), str(home.folder / "out.ipynb"), *words]
    done = subprocess.run(command, env=home.environment, cwd=home.folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    by_papermill = results(home)
    assert len(by_papermill) == 1
    home.environment["REIDNB_STORE"] = str(home.folder / "other")
    home.store = home.folder / "other"
    assert home.reidnb("table", "market-backbones", "--preset", "smoke", "--rows", "r50-01", "--seeds", "3")[0] == 0
    assert results(home) == by_papermill  # two stores, two processes, the same numbers to the last digit


@pytest.mark.skipif(sys.platform == "win32", reason="process groups are killed by signal")
def test_killed_and_resumed_is_uninterrupted(home):
    home.change("[smoke]\n", "[smoke]\n# a longer smoke, to have something to kill\n")
    home.change("steps = 8\n", "steps = 120\n")
    words = ("table", "market-backbones", "--preset", "smoke", "--rows", "r50-01", "--jobs", "1")
    for _ in range(2):  # killed twice, each time after some progress
        process = home.start(*words)
        before, deadline = checkpoint_time(home), time.monotonic() + 120
        while checkpoint_time(home) == before and time.monotonic() < deadline:
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close(), process.stderr.close()
        assert checkpoint_time(home) is not None and not results(home)
    code, _, err = home.reidnb(*words)
    assert code == 0, err
    resumed = results(home)
    record = next(
        json.loads(p.read_text())
        for p in (home.store / "records" / "smoke").glob("[0-9a-f]*.json")
        if "." not in p.stem
    )
    assert 0 < record["resumed_at"] < 120
    home.environment["REIDNB_STORE"] = str(home.folder / "other")
    home.store = home.folder / "other"
    assert home.reidnb(*words)[0] == 0
    assert results(home) == resumed and len(resumed) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="interrupted by signal")
def test_interrupted_by_control_c(home):
    home.change("steps = 8\n", "steps = 4000\n")
    process = home.start("table", "market-backbones", "--preset", "smoke", "--jobs", "1")
    deadline = time.monotonic() + 120
    while checkpoint_time(home) is None and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)  # what a terminal sends: to everybody
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "goes on from the checkpoints" in err and "Traceback" not in err
    assert (
        checkpoint_time(home) is not None and len(list((home.store / "runs").iterdir())) == 1
    )  # no other run was begun


def checkpoint_time(home):
    "When the only checkpoint was last written, or None."
    found = list((home.store / "runs").glob("*/checkpoint.safetensors")) if home.store.exists() else []
    try:
        return found[0].stat().st_mtime_ns if found else None
    except FileNotFoundError:
        return None


def test_published_records_leave_nothing_to_run(home):
    words = ("table", "market-backbones", "--preset", "smoke", "--rows", "r50-01")
    assert home.reidnb(*words)[0] == 0
    assert "2 files copied" in home.reidnb("publish", "--preset", "smoke")[1]
    home.environment["REIDNB_STORE"] = str(home.folder / "fresh")
    code, out, _ = home.reidnb(*words)
    assert code == 0 and "0 to run" in out
    assert not (home.folder / "fresh" / "drawn").exists()  # not even data is drawn
    code, out, _ = home.reidnb(*words, "--local")
    assert code == 0 and "1 to run" in out
