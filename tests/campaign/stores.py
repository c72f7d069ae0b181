"Whole stores: kills at random moments, damaged files, hostile paths, a full disk, several processes at once."

import contextlib
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

from reidnb.catalogue.experiments import load_table
from reidnb.core.project import project_root
from reidnb.runs.plan import Job, plan_table
from reidnb.runs.presets import Preset, load_preset
from reidnb.runs.records import Archive
from reidnb.runs.worker import describe_job

from .counts import Counts
from .mutations import OURS

BATCH = ("batch", "msmt-backbones", "--preset", "smoke", "--seeds", "0", "--local")
TABLE = ("table", *BATCH[1:], "--rows", "r50-01")
PARTS = [
    "with space",
    "quote'd",
    'double"d',
    "$(touch executed)",
    "`touch executed`",
    "ünïcode",
    "semi;colon&",
    "-dash",
    "new\nline",
    "{run}",
    "a*b",
    "per%cent",
    "back\\slash",
    "#hash",
    "~",
    "$HOME",
]
REFUSED = set("{}\n")


class Place:
    "A store with drawn data, and the command line that works in it."

    def __init__(self, folder: Path, drawn: Path):
        self.folder, self.store = folder, folder / "store"
        self.store.mkdir(parents=True)
        shutil.copytree(drawn, self.store / "drawn")
        self.environment = {**os.environ, "REIDNB_STORE": str(self.store), "REIDNB_HOME": str(project_root())}
        self.environment |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(project_root())}

    def start(self, *words: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "reidnb", *words]
        pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        return subprocess.Popen(command, env=self.environment, cwd=self.folder, start_new_session=True, **pipes)

    def run(self, *words: str) -> tuple[int, str]:  # exit code, output and errors
        process = self.start(*words)
        output, _ = process.communicate(timeout=600)
        return process.returncode, output

    @property
    def preset(self) -> Preset:
        return load_preset("smoke").model_copy(update=dict(store=str(self.store)))

    def job(self) -> Job:
        return plan_table(load_table(TABLE[1]), self.preset, (0,), rows=["r50-01"])[0]

    def start_worker(self) -> subprocess.Popen:
        "A batch's worker, which trains and tests one run."
        path = self.folder / "job.json"
        path.write_text(describe_job(self.job(), self.preset, Archive(self.preset, published=False)).model_dump_json())
        command = [sys.executable, "-m", "reidnb.runs.worker", "score", str(path)]
        pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        return subprocess.Popen(command, env=self.environment, cwd=self.folder, start_new_session=True, **pipes)

    def run_worker(self) -> tuple[int, str]:  # exit code, output and errors
        process = self.start_worker()
        output, _ = process.communicate(timeout=600)
        return process.returncode, output

    def finish(self) -> tuple[int, str]:  # exit code, what was said
        "Whatever of the run is missing, in this process, as a new process would make it."
        from reidnb.runs import datasets
        from reidnb.runs.execute import run_and_score

        datasets._samples.clear()
        job, said = self.job(), io.StringIO()
        protocols = [protocol for protocol, _ in job.protocols]
        try:
            with contextlib.redirect_stderr(said):
                run_and_score(
                    job.experiment,
                    self.preset,
                    job.seed,
                    protocols=protocols,
                    name=job.name,
                    archive=Archive(self.preset, published=False),
                )
        except OURS as error:
            return 1, f"{said.getvalue()}{error}"
        except Exception:
            return 1, said.getvalue() + traceback.format_exc()
        return 0, said.getvalue()

    def results(self) -> dict:
        "All scores, without what differs from call to call."
        keys = ("run", "seed", "summary", "ap", "inp", "first", "interval")
        paths = (self.store / "records" / "smoke").glob("*.*.json")
        return {path.name: {key: json.loads(path.read_text())[key] for key in keys} for path in paths}


def reference(folder: Path, drawn: Path) -> Place:
    "A store in which a table was run and nothing went wrong."
    place = Place(folder, drawn)
    code, output = place.run(*TABLE)
    assert code == 0, output
    return place


def compare(kind: str, place: Place, expected: dict, output: str, *, code: int, counts: Counts):
    "Count what is lost or wrong after a command that should have given the reference's numbers."
    results = place.results()
    if "Traceback" in output:
        counts.bad(kind, "traceback", output[-400:])
    if code or set(expected) - set(results):
        counts.bad(kind, "lost", f"exit code {code}: {output[-400:]}")
    if any(results[name] != expected[name] for name in set(expected) & set(results)):
        counts.bad(kind, "wrong", "other numbers than without the fault")
    if list(place.folder.rglob("executed")):
        counts.bad(kind, "executed", "a file 'executed' was made")


def kill(folder: Path, drawn: Path, whole: Place, *, rng: random.Random, counts: Counts):
    "A run that is killed at random moments, as a table or as a worker of a batch, then finished."
    kind = "kill -9"
    place = Place(folder, drawn)
    as_table = rng.random() < 0.2
    for _ in range(rng.choice((2, 3, 4))):
        counts.tried(kind)
        process = place.start(*TABLE) if as_table else place.start_worker()
        time.sleep(rng.uniform(0.5, 9 if as_table else 6))
        killed = rng.choice((os.kill, os.killpg))
        if process.poll() is None:
            killed(process.pid, signal.SIGKILL)
        process.communicate()
    if as_table:
        code, output = place.run(*TABLE)
    else:
        code, output = place.finish()
    compare(kind, place, whole.results(), output, code=code, counts=counts)


def damage(folder: Path, drawn: Path, whole: Place, *, rng: random.Random, counts: Counts):
    "One file of a finished store is damaged, and its scores are mostly forgotten; then they are asked for."
    kind = "damaged files"
    counts.tried(kind)
    place = Place(folder, drawn)
    shutil.rmtree(place.store)
    shutil.copytree(whole.store, place.store)
    files = sorted(path for path in place.store.rglob("*") if path.is_file() and path.stat().st_size)
    by_folder: dict = {}
    for path in files:
        if path.suffix not in (".html", ".ipynb", ".log"):
            by_folder.setdefault(path.relative_to(place.store).parts[0], []).append(path)
    victim = rng.choice(by_folder[rng.choice(sorted(by_folder))])
    how = _damaged(victim, rng)
    if "records" not in victim.parts and rng.random() < 0.8:
        for path in (place.store / "records" / "smoke").glob("*.*.json"):
            path.unlink()
    if "drawn" in victim.parts:
        shutil.rmtree(place.store / "images")  # else nothing reads it
    code, output = place.finish()
    example = f"{victim.relative_to(place.store)} {how}: {output}"
    compare(kind, place, whole.results(), example, code=code, counts=counts)


def _damaged(victim: Path, rng: random.Random) -> str:
    "Damage a file, and say how."
    data = bytearray(victim.read_bytes())
    at = rng.randrange(len(data))
    how = rng.choice(("bit", "cut", "zeros"))
    if how == "bit":
        data[at] ^= 1 << rng.randrange(8)
    elif how == "cut":
        del data[at:]
    else:
        data[at : at + 512] = bytes(len(data[at : at + 512]))
    victim.write_bytes(data)
    return f"{how} at {at}"


def hostile_path(folder: Path, drawn: Path, whole: Place, *, rng: random.Random, counts: Counts):
    "A store below names that a shell would read otherwise."
    kind = "hostile paths"
    counts.tried(kind)
    names = rng.sample(PARTS, 2)
    place = Place(folder.joinpath(*names), drawn)
    words = rng.choice((BATCH, TABLE, ()))
    code, output = place.run(*words) if words else place.run_worker()
    refused = set("".join(names)) & REFUSED
    if refused and code == 2 and "Traceback" not in output:
        return
    if refused and "\n" not in "".join(names) and words != BATCH:
        refused = set()  # braces trouble Snakemake alone
    compare(kind, place, {} if refused else whole.results(), output, code=code, counts=counts)
    if {path.name for path in folder.iterdir()} != {names[0]}:
        counts.bad(kind, "wrong", f"something was written outside of the store {names}")


def several(folder: Path, drawn: Path, whole: Place, *, rng: random.Random, counts: Counts):
    "Two commands in one store at once."
    kind = "two at once"
    counts.tried(kind)
    place = Place(folder, drawn)
    first = place.start(*TABLE)
    time.sleep(rng.uniform(0, 3))
    code, output = place.run(*TABLE)
    other, _ = first.communicate()
    compare(kind, place, whole.results(), f"{other} {output}", code=code or first.returncode, counts=counts)


def _pages(folder: Path) -> int:
    "Bytes that a folder takes in whole pages, as a tmpfs counts them."
    return sum(4096 * (1 + path.stat().st_size // 4096) for path in folder.rglob("*"))


def full_disk(folder: Path, drawn: Path, whole: Place, *, rng: random.Random, counts: Counts):
    "A file system that fills up somewhere on the way, and has room again (needs the right to mount one)."
    kind = "full disk"
    folder.mkdir(parents=True)
    least, most = _pages(drawn), _pages(whole.store)
    room = int(least + 0.05 * most + rng.random() * 0.9 * (most - least))
    mount = ["mount", "-t", "tmpfs", "-o", f"size={room}", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        return
    counts.tried(kind)
    try:
        place = Place(folder / "place", drawn)
        code, output = place.run(*TABLE)
        if "Traceback" in output:
            counts.bad(kind, "traceback", output[-400:])
        if code and "no space left" not in output.lower():
            counts.bad(kind, "lost", f"no word about the disk: {output[-400:]}")
        subprocess.run(["mount", "-o", f"remount,size={room * 10}", str(folder)], check=True)
        code, output = place.run(*TABLE)
        compare(kind, place, whole.results(), output, code=code, counts=counts)
    finally:
        subprocess.run(["umount", str(folder)], capture_output=True)


FAULTS = (kill, damage, hostile_path, several, full_disk)
