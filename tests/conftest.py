"A project folder and a store of its own for each test."

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def _hears_control_c():
    "A shell starts what it puts in the background deaf to it, and children inherit that."
    signal.signal(signal.SIGINT, signal.default_int_handler)


class Home:
    "A copy of the project's settings and plans, with an empty store."

    def __init__(self, folder: Path):
        self.folder, self.store = folder, folder / "store"
        shutil.copy(ROOT / "settings.ini", folder)
        for name in ("nbs", "data", "reports"):
            shutil.copytree(
                ROOT / name, folder / name, ignore=shutil.ignore_patterns(".ipynb_checkpoints", "real", "records")
            )
        self.environment = {
            **os.environ,
            "REIDNB_HOME": str(folder),
            "REIDNB_STORE": str(self.store),
            "REIDNB_DATA_ROOT": str(folder / "real"),
            "OMP_NUM_THREADS": "1",
        }

    def change(self, old: str, new: str):
        "Edit settings.ini."
        text = (self.folder / "settings.ini").read_text()
        assert old in text
        (self.folder / "settings.ini").write_text(text.replace(old, new, 1))

    def start(self, *words: str) -> subprocess.Popen:
        "Start `reidnb` with these words."
        code = "import sys; from reidnb.cli import main; sys.exit(main())"
        return subprocess.Popen(
            [sys.executable, "-c", code, *words],
            env=self.environment,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=_hears_control_c if os.name == "posix" else None,
        )

    def reidnb(self, *words: str) -> tuple[int, str, str]:
        "Run `reidnb` to its end: exit code, output, errors."
        process = self.start(*words)
        out, err = process.communicate(timeout=300)
        return process.returncode, out, err

    def complaint(self, *words: str) -> str:
        "The one line that a mistake gets; progress bars before it do not count."
        code, _, err = self.reidnb(*words)
        lines = [line for line in err.replace("\r", "\n").splitlines() if line.startswith(("reidnb:", "failed:"))]
        assert code in (1, 2) and "Traceback" not in err and len(lines) == 1, err
        return lines[0]


def record_of(run: str, **facts) -> dict:
    "A record as `run` would leave it, with what plans read of it."
    plain = dict(name=run, seed=0, experiment={}, size={}, data={}, steps=1, batch=16, finished="2026")
    return dict(run=run) | plain | facts


def scores_of(name: str, **facts) -> dict:
    "Scores without single queries."
    return dict(run=name.split(".")[0], summary={}, interval={}) | facts


@pytest.fixture(scope="session")
def drawn(tmp_path_factory) -> Path:
    "The drawn data of the smoke preset, drawn once a session, for stores that take a copy of it."
    from reidnb.runs.datasets import draw_all, drawn_folder
    from reidnb.runs.presets import load_preset

    store = tmp_path_factory.mktemp("drawn-once")
    smoke = load_preset("smoke", ROOT / "settings.ini").model_copy(update=dict(store=str(store)))
    draw_all(smoke)
    return drawn_folder(smoke)


@pytest.fixture
def home(tmp_path, monkeypatch) -> Home:
    made = Home(tmp_path)
    for key in ("REIDNB_HOME", "REIDNB_STORE", "REIDNB_DATA_ROOT"):
        monkeypatch.setenv(key, made.environment[key])
    return made
