"Damage is noticed, nothing is orphaned, a file is data."

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, record_of

from reidnb.catalogue.experiments import Experiment, load_table, resolve_runs
from reidnb.core.configuration import ConfigurationError
from reidnb.core.files import DAY, clear_leftovers, leftovers
from reidnb.evaluation.configuration import Protocol
from reidnb.runs import batch, execute
from reidnb.runs.doctor import damaged_files, missing_requirements
from reidnb.runs.plan import plan_tables
from reidnb.runs.presets import load_preset
from reidnb.runs.records import Archive, read_result

posix = pytest.mark.skipif(sys.platform == "win32", reason="shells and signals of a Unix")


@pytest.fixture
def tested(home, drawn):
    "A smoke run with weights and scores: archive, record, scores."
    shutil.copytree(drawn, home.store / "drawn")
    smoke = load_preset("smoke")
    archive = Archive(smoke, published=False)
    record = execute.run(Experiment(), smoke, 0, archive=archive)
    return archive, record, execute.score(record, Experiment(), Protocol(), preset=smoke, archive=archive)


def flip(path, position, bit=1):
    "Change one bit of a file."
    data = bytearray(path.read_bytes())
    data[position] ^= bit
    path.write_bytes(data)


def numbers(scores):
    return {key: scores[key] for key in ("run", "summary", "ap", "inp", "first")}


# Files that are read back


@pytest.mark.parametrize("damage", ["flipped", "cut short", "gone"])
def test_damaged_weights_are_trained_again(tested, damage, capsys):
    archive, record, before = tested
    weights = archive.run_folder(record["run"]) / "weights.safetensors"
    if damage == "flipped":
        flip(weights, -9)
    elif damage == "gone":
        weights.unlink()
    else:
        weights.write_bytes(weights.read_bytes()[:-100])
    for path in archive.local_folder.glob("*.*.json"):
        path.unlink()
    after = execute.run_and_score(Experiment(), archive.preset, 0, protocols=[Protocol()], archive=archive)[0]
    assert numbers(after) == numbers(before) and weights.exists()
    lines = [line for line in capsys.readouterr().err.splitlines() if str(weights) in line]
    assert len(lines) == 1 and "trained again" in lines[0]


def test_a_start_without_weights_is_trained_again(tested):
    archive, record, _ = tested
    (archive.run_folder(record["run"]) / "weights.safetensors").unlink()
    second = Experiment.model_validate(dict(data="duke", start=dict()))
    assert execute.run(second, archive.preset, 0, archive=archive)["seed"] == 0


def test_a_report_trains_what_has_lost_its_weights(tested):
    from reidnb.book.notebooks import trained_experiment

    archive, record, _ = tested
    weights = archive.run_folder(record["run"]) / "weights.safetensors"
    flip(weights, -9)
    assert trained_experiment(Experiment(), archive.preset, 0).training is not None and weights.exists()


def test_a_damaged_checkpoint_is_a_new_beginning(tested, capsys):
    archive, record, before = tested
    folder = archive.run_folder(record["run"])
    shutil.copy(folder / "weights.safetensors", folder / "checkpoint.safetensors")
    flip(folder / "checkpoint.safetensors", -9)
    (folder / "weights.safetensors").unlink()
    for path in archive.local_folder.glob("*.json"):
        path.unlink()
    after = execute.run_and_score(Experiment(), archive.preset, 0, protocols=[Protocol()], archive=archive)[0]
    assert numbers(after) == numbers(before)
    assert "the run starts from its beginning" in capsys.readouterr().err


def test_an_edited_number_is_no_result(tested, capsys):
    archive, record, _ = tested
    path = next(archive.local_folder.glob("*.*.json"))
    whole = path.read_text()
    content = json.loads(whole)
    better = whole.replace(f'"mAP": {content["summary"]["mAP"]}', '"mAP": 0.99')
    assert better != whole
    path.write_text(better)
    assert archive.read(path.stem) is None and "does not fit to its checksum" in capsys.readouterr().err
    del content["checksum"]  # as files of earlier versions are
    path.write_text(json.dumps(content))
    assert archive.read(path.stem)
    content["summary"]["mAP"] = 0.99
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="its own queries give"):
        read_result(path)


def test_scores_of_another_run_are_refused(tested, capsys):
    archive, record, _ = tested
    path = next(archive.local_folder.glob("*.*.json"))
    other = path.with_name(path.name.replace(record["run"], "0" * 12))
    shutil.copy(path, other)
    assert archive.read(other.stem) is None and "belongs to run" in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["flipped", "cut short", "empty"])
def test_decoded_images_are_decoded_again(tested, damage):
    archive, record, before = tested
    stores = sorted(Path(archive.preset.store, "images").glob("*.npy"))
    for path in stores:
        if damage == "flipped":
            flip(path, path.stat().st_size // 2, 128)
        else:
            path.write_bytes(b"" if damage == "empty" else path.read_bytes()[:-1000])
    for path in archive.local_folder.glob("*.*.json"):
        path.unlink()
    assert len(list(damaged_files(archive.preset))) >= len(stores) > 0
    after = execute.run_and_score(Experiment(), archive.preset, 0, protocols=[Protocol()], archive=archive)[0]
    assert numbers(after) == numbers(before)
    execute.open_data("market", archive.preset, "train")
    assert list(damaged_files(archive.preset)) == []


@pytest.mark.parametrize("victim", ["drawn.json", "drawn.csv", "image"])
def test_damaged_drawn_data_is_drawn_again(tested, victim):
    archive, _, before = tested
    root = next(path.parent for path in (Path(archive.preset.store) / "drawn").rglob("bounding_box_test"))
    path = root / victim if victim != "image" else sorted((root / "bounding_box_test").glob("*.jpg"))[2]
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    shutil.rmtree(Path(archive.preset.store) / "images")
    for scores in archive.local_folder.glob("*.*.json"):
        scores.unlink()
    from reidnb.runs import datasets

    datasets._samples.clear()  # as in a new process
    after = execute.run_and_score(Experiment(), archive.preset, 0, protocols=[Protocol()], archive=archive)[0]
    assert numbers(after) == numbers(before)


def test_doctor_verifies_a_store(home, tested):
    archive, record, _ = tested
    assert home.reidnb("doctor", "--verify")[:2] == (0, "every file holds what was written\n")
    flip(archive.run_folder(record["run"]) / "weights.safetensors", -9)
    code, out, err = home.reidnb("doctor", "--verify")
    assert code == 1 and "1 damaged files" in out and "weights.safetensors" in err


def test_one_bad_record_does_not_stop_a_plan(home, drawn):
    shutil.copytree(drawn, home.store / "drawn")
    folder = home.store / "records" / "smoke"
    folder.mkdir(parents=True)
    for name, text in {"0" * 12: "[]", "1" * 12: "{}", "2" * 12: '{"run": 5}', "3" * 12: "\x00"}.items():
        (folder / f"{name}.json").write_text(text)
    failed = home.store / "runs" / plan_tables(["duke-backbones"], load_preset("smoke"), (0,))[0].jobs[0].run
    failed.mkdir(parents=True)
    (failed / "failed.json").write_text('{"nothing": 1}')
    code, out, err = home.reidnb("plan", "duke-backbones", "--preset", "smoke", "--seeds", "0")
    assert code == 0 and "3 to run" in out and "Traceback" not in err
    assert err.count("it counts as missing") == 4


# Processes and what they leave behind


@posix
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_workers_end_with_their_parent(home, drawn, how):
    shutil.copytree(drawn, home.store / "drawn")
    home.change("steps = 8\n", "steps = 4000\n")
    process = home.start("table", "market-backbones", "--preset", "smoke", "--rows", "r50-01", "--jobs", "1")
    deadline = time.monotonic() + 120
    while not list(home.store.rglob("checkpoint.safetensors")) and time.monotonic() < deadline:
        time.sleep(0.1)
    workers = processes_of_session(process.pid) - {process.pid}
    assert workers
    os.kill(process.pid, how)
    process.wait()
    process.stdout.close(), process.stderr.close()
    deadline = time.monotonic() + 15
    while processes_of_session(process.pid) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not processes_of_session(process.pid)


def processes_of_session(session):
    "Processes that were started by one, and by those in turn, as long as they run."
    listed = subprocess.run(["ps", "-o", "pid=,stat=", "-s", str(session)], capture_output=True, text=True).stdout
    return {int(line.split()[0]) for line in listed.splitlines() if "Z" not in line.split()[1]}


def test_leftovers_of_dead_processes_are_removed(tmp_path):
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    dead, alive = int(gone.stdout), os.getpid()
    (tmp_path / "drawn" / f"{'a' * 16}.{dead}").mkdir(parents=True)
    (tmp_path / "drawn" / ("b" * 16)).mkdir()
    for name in (f".unfinished-{dead}-x.json", f".unfinished-{alive}-y.json", "z.json"):
        (tmp_path / name).touch()
    assert leftovers(tmp_path) == []  # too young
    long_ago = time.time() - 2 * DAY
    for path in tmp_path.rglob("*"):
        os.utime(path, (long_ago, long_ago))
    assert clear_leftovers(tmp_path) == 2
    remaining = {path.name for path in tmp_path.rglob("*")}
    assert remaining == {"drawn", "b" * 16, f".unfinished-{alive}-y.json", "z.json"}


# Paths and names


HOSTILE = [
    "with space",
    "quote'd",
    'double"d',
    "$(touch executed)",
    "`touch executed`",
    "ünïcode",
    "semi;colon&",
    "-dash",
]
WORKER = """import json, pathlib, sys
description = json.loads(pathlib.Path(sys.argv[-1]).read_text())
job = next(run for run in json.loads(pathlib.Path("plan.json").read_text())["runs"] if run["run"] == description["job"]["run"])
outputs = [job["record"]] if sys.argv[-2] == "run" else job["scores"]
for path in outputs: pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True), pathlib.Path(path).write_text("{}")
print("done")"""


@posix
@pytest.mark.parametrize("names", [HOSTILE[:4], HOSTILE[4:]], ids=["first", "second"])
def test_a_batch_quotes_every_path(home, names, monkeypatch):
    "A real workflow with workers that only write their outputs: what a shell sees is what counts here."
    store = home.folder.joinpath("hostile", *names)
    smoke = load_preset("smoke").model_copy(update=dict(store=str(store)))
    planned = plan_tables(["msmt-backbones"], smoke, (0,), published=False)
    workflow = batch.workflow_plan(planned, smoke, (0,), published=False)
    worker = home.folder / "worker of this test.py"
    worker.write_text(WORKER)
    commands = dict(batch._commands(workflow))
    commands["worker"] = batch.shlex.join([sys.executable, str(worker)])
    commands["render"] = batch.shlex.join([sys.executable, "-c", "print('rendered')"])
    monkeypatch.setattr(batch, "_commands", lambda workflow: commands)
    batch.write_workflow(workflow)
    batch.run_workflow(workflow, 2)
    assert {Path(path).exists() for run in workflow.runs for path in run.outputs} == {True}
    assert all((Path(run.folder) / "run.log").read_text() == "done\n" for run in workflow.runs)
    assert not list(home.folder.rglob("executed"))
    assert {path.name for path in home.folder.joinpath("hostile").iterdir()} == {names[0]}


def test_paths_that_cannot_be_are_refused(home, monkeypatch):
    monkeypatch.setenv("REIDNB_STORE", str(home.folder / "{run}"))
    home.environment["REIDNB_STORE"] = str(home.folder / "{run}")
    assert "has braces" in home.complaint("batch", "msmt-backbones", "--preset", "smoke")
    home.environment["REIDNB_STORE"] = f"{home.folder}/a\nb"
    assert "holds a line break" in home.complaint("plan", "msmt-backbones", "--preset", "smoke")
    assert not (home.folder / "{run}").exists() and not (home.folder / "a\nb").exists()


def test_names_lead_nowhere_else(home):
    path = home.folder / "data" / "experiments" / "duke-backbones.toml"
    whole = path.read_text()
    path.write_text(whole.replace('family = "supervised"', 'family = "../../../evil"'))
    assert "expected a plain name" in home.complaint("table", "duke-backbones", "--preset", "smoke")
    with pytest.raises(ConfigurationError, match="plain name"):
        load_table("../../evil", home.folder)
    path.write_text(whole)
    home.change("[smoke]\n", "[../evil]\nsteps = 1\n\n[smoke]\n")
    assert "expected a plain name" in home.complaint("plan", "duke-backbones", "--preset", "smoke")


def test_a_title_is_text(monkeypatch):
    import dataclasses

    from reidnb.book import notebooks

    table = load_table("market-backbones")
    notes = dataclasses.replace(table.notes, title="<script>alert(1)</script>")
    monkeypatch.setattr(notebooks, "load_table", lambda slug: dataclasses.replace(table, notes=notes))
    heading = notebooks.OpenTable(notebooks.TableParameters(table="market-backbones")).heading()
    assert "<script>" not in heading and "&lt;script&gt;" in heading


# One line for a mistake


@pytest.mark.parametrize("value", [5, [5], {"a": 1}, 1.5, True])
def test_like_names_runs(value):
    with pytest.raises(ConfigurationError, match=r"x.toml \[runs.a\]: like = .*expected a run's name"):
        resolve_runs({"a": {"like": value}}, "x.toml")


def test_deep_and_broad_descriptions_are_quick():
    deep = {f"r{n}": {"like": f"r{n + 1}"} for n in range(3000)} | {"r3000": {}}
    with pytest.raises(ConfigurationError, match="more than 50 runs deep"):
        resolve_runs(deep, "x.toml")
    broad = {f"r{n}": {"like": [f"r{n + 1}"] * 10} for n in range(30)} | {"r30": {}}
    began = time.monotonic()
    assert len(resolve_runs(broad, "x.toml")) == 31 and time.monotonic() - began < 5


@pytest.mark.parametrize("side", [0, -1, 1e-9, 1e9])
def test_an_image_has_a_size(side):
    with pytest.raises(ValueError, match="image_scale"):
        Experiment.model_validate(dict(image_scale=[side, 1.0]))


@pytest.mark.parametrize("text", ["", "x = 1", "[findings]", "findings = 5", "findings = [1]", "\xff"])
@pytest.mark.parametrize("file", ["findings.toml", "audit.toml"])
def test_lists_of_another_shape_are_named(home, file, text):
    (home.folder / "data" / file).write_bytes(text.encode("latin1"))
    command = file.split(".")[0]
    assert file in home.complaint(command, *(("--preset", "mini") if command == "findings" else ()))


def test_settings_in_another_encoding_are_named(home):
    path = home.folder / "settings.ini"
    path.write_bytes(path.read_bytes() + "# grün\n".encode("latin1"))
    line = home.complaint("plan", "duke-backbones", "--preset", "smoke")
    assert "settings.ini" in line and "UTF-8" in line


def huge_header(path):
    "A features file whose header promises 36 TiB."
    np.savez(
        path,
        features=np.zeros((4, 2), np.float32),
        pids=np.arange(4),
        camids=np.arange(4),
        split=np.array(["query"] * 4),
    )
    with zipfile.ZipFile(path) as file:
        members = {name: file.read(name) for name in file.namelist()}
    members["features.npy"] = members["features.npy"].replace(
        b"(4, 2), }" + b" " * 17, b"(4499999999999, 2), }" + b" " * 5
    )
    with zipfile.ZipFile(path, "w") as file:
        for name, data in members.items():
            file.writestr(name, data)


def scalar_features(path):
    np.savez(path, features=np.float32(1), pids=np.int64(1), camids=np.int64(1), split=np.array("query"))


def lzma_member(path):
    huge_header(path)
    with zipfile.ZipFile(path) as file:
        members = {name: file.read(name) for name in file.namelist()}
    with zipfile.ZipFile(path, "w", compression=zipfile.ZIP_LZMA) as file:
        for name, data in members.items():
            file.writestr(name, data)
    flip(path, 80, 255)


@pytest.mark.parametrize("make", [huge_header, scalar_features, lzma_member])
def test_features_of_unknown_origin_get_one_line(home, make):
    path = home.folder / "f.npz"
    make(path)
    assert str(path) in home.complaint("score", str(path))


@posix
def test_a_device_is_no_features_file(home):
    assert "/dev/null" in home.complaint("score", "/dev/null")


def test_doctor_knows_a_store_that_is_a_file(tmp_path):
    (tmp_path / "store").touch()
    preset = load_preset("mini").model_copy(update=dict(store=str(tmp_path / "store" / "below")))
    assert "is a file" in missing_requirements(preset, gpu=False)[0]


def test_full_disk_while_drawing_names_the_folder(home, monkeypatch):
    import errno

    from reidnb.synthetic import drawn

    def no_space(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(drawn, "_draw_in_parallel", no_space)
    with pytest.raises(OSError, match="free some and give the same command again") as caught:
        drawn.draw_data("market", home.store / "drawn")
    assert str(home.store) in str(caught.value.filename)


@posix
def test_control_c_ends_a_batch_with_one_line(home, drawn):
    shutil.copytree(drawn, home.store / "drawn")
    home.change("steps = 8\n", "steps = 4000\n")
    process = home.start("batch", "msmt-backbones", "--preset", "smoke", "--seeds", "0")
    deadline = time.monotonic() + 120
    while not list(home.store.rglob("checkpoint.safetensors")) and time.monotonic() < deadline:
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "goes on from the checkpoints" in err
    assert "not reached" not in err and "Traceback" not in err


def test_records_of_this_version_carry_a_checksum(tmp_path):
    archive = Archive(load_preset("smoke").model_copy(update=dict(store=str(tmp_path))), ROOT)
    archive.write("a" * 12, record_of("a" * 12))
    assert '"checksum": "' in (archive.local_folder / f"{'a' * 12}.json").read_text()
    assert "checksum" not in archive.read("a" * 12)
