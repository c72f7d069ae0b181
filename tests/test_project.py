"The project as it is committed: notebooks, records, wheel."

import json
import re
import subprocess
import sys
import zipfile

import pytest
from conftest import ROOT

NOTEBOOKS = sorted(p for p in (ROOT / "nbs").rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebooks_carry_no_outputs(path):
    cells = json.loads(path.read_text(encoding="utf8"))["cells"]
    assert cells[0]["cell_type"] == "markdown" and "".join(cells[0]["source"]).startswith("# ")
    assert not any(cell.get("outputs") for cell in cells), "run 'make notebooks'"


def test_table_notebooks_take_the_parameters_that_are_checked():
    from reidnb.book.notebooks import TableParameters, declared_parameters

    for path in (ROOT / "nbs" / "tables").glob("*.ipynb"):
        assert list(declared_parameters(path)) == list(TableParameters.model_fields)
        assert declared_parameters(path)["preset"] == '"smoke"'  # a table notebook is its own test
        assert declared_parameters(path)["rows"] == '""'  # else another table, given with -p, would lack these rows


def test_rooms_import_only_from_their_left():
    order = [
        "files",
        "configuration",
        "data",
        "augmentation",
        "losses",
        "models",
        "evaluation",
        "training",
        "methods",
        "plots",
        "workbook",
    ]
    allowed = {room: set(order[: order.index(room)]) for room in order}
    allowed["models"] -= {"losses", "augmentation"}
    allowed["plots"] = {"configuration", "losses", "training"}  # the functions that train draw their schedules
    allowed["training"] -= {"data", "augmentation", "models", "losses", "evaluation"}  # fit knows no re-ID
    for path in (ROOT / "nbs").rglob("*.ipynb"):
        room = path.parent.name if path.parent.name != "nbs" else path.stem[3:]
        if room not in allowed or path.stem == "index":
            continue
        for cell in json.loads(path.read_text(encoding="utf8"))["cells"]:
            if not "".join(cell["source"]).startswith("#| export"):
                continue
            for line in cell["source"]:
                if line.startswith("from reidnb."):
                    used = line.split()[1].split(".")[1]
                    assert used == room or used in allowed[room], f"{path}: {line.strip()}"


def test_published_records_serve_a_fresh_clone():
    from reidnb.catalogue.experiments import load_table, table_slugs
    from reidnb.runs.plan import is_missing, plan_table
    from reidnb.runs.records import Archive
    from reidnb.runs.presets import load_preset

    mini = load_preset("mini")
    archive = Archive(mini)
    archive.places = [archive.public]
    tables = [load_table(slug) for slug in table_slugs()]
    plans = {table.notes.slug: plan_table(table, mini, (0, 1, 2)) for table in tables}
    unfinished = {slug for slug, jobs in plans.items() if any(is_missing(job, archive) for job in jobs)}
    assert not unfinished
    jobs = [job for planned in plans.values() for job in planned]
    assert len({job.run for job in jobs}) >= 230
    named = {job.run for job in jobs} | {name for job in jobs for _, name in job.protocols}
    assert {path.stem for path in archive.public.glob("*.json")} <= named  # nothing that no table asks for
    for path in archive.public.glob("*.json"):
        content = json.loads(path.read_text())
        assert path.stem.split(".")[0] == content["run"] and path.stat().st_size < 60_000
        assert "store" not in path.read_text()  # no path of the machine that made it


def test_plan_covers_every_number_of_the_notes():
    from reidnb.catalogue.documents import documented_tables, plain_text
    from reidnb.catalogue.experiments import load_table

    numbers, names = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?"), ("id", "tricks", "input size", "remark")
    assert len(documented_tables()) == 40 and sum(len(t.body) for t in documented_tables().values()) == 279
    for slug, notes in documented_tables().items():
        table = load_table(slug)
        planned: dict = {}
        for cell in table.cells:
            planned.setdefault((cell.row, cell.column), []).append(cell.documented)
        for row, cells in enumerate(notes.body):
            if slug.startswith("vpm") and row == 0:
                continue  # names of columns
            for column, text in enumerate(cells[1:], 1):
                written = [] if notes.header[column] in names else numbers.findall(plain_text(text))
                assert [n for n in planned.get((row, column), []) if n] == written, (slug, row, column)
        assert set(table.names.values()) and all(
            name.isascii() or "λ" in name or "×" in name or "–" in name for name in table.names.values()
        )


def test_tables_are_listed_without_torch():
    code = "import sys; from reidnb.cli import main; main(['tables']); assert 'torch' not in sys.modules and 'numba' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0 and "40 tables, 279 rows" in done.stdout, done.stderr


def test_baseline_has_headroom_and_steady_seeds():
    from reidnb.catalogue.experiments import load_table
    from reidnb.runs.presets import load_preset
    from reidnb.results.cells import table_frame

    frame = table_frame(load_table("market-backbones"), load_preset("mini"), (0, 1, 2), ["r50-01"])
    baseline = frame.set_index("metric").loc["mAP"]
    assert 60 <= baseline["mean"] <= 85 and baseline["sd"] < 3 and baseline["seeds"] == "0,1,2"


def test_committed_results_are_those_of_the_records():
    from reidnb.book.pages import results_files
    from reidnb.catalogue.documents import own_tables
    from reidnb.runs.presets import load_preset

    nowhere = load_preset("mini").model_copy(update=dict(store="no store"))  # published records alone
    folder = ROOT / "reports" / "results" / "mini"
    made = results_files(nowhere, (0, 1, 2))
    assert set(made) == {path.name for path in folder.iterdir()}
    for name, text in made.items():
        assert (folder / name).read_text() == text, f"{name}: run reidnb publish --preset mini"
    readme = (ROOT / "README.md").read_text(encoding="utf8")
    for side, row in (("documented", "on the notes' numbers"), ("reproduced", "on ours")):
        counted = re.search(rf"^\| {side} (\|.*)$", made["scoreboard.md"], re.M)
        assert counted and f"| {row} {counted[1]}" in readme, "README.md: its scoreboard is another"
    claims = made["findings.csv"].count("\n") - 1
    assert set(re.findall(r"(\d+) claims", readme)) == {str(claims)}
    assert f"and {len(own_tables())} of our own" in readme


def test_wheel_holds_the_package_and_nothing_else(tmp_path):
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        names = wheel.namelist()
        wheel.extractall(tmp_path / "installed")
    tops = {name.split("/")[0].split("-")[0] for name in names}
    assert tops == {"reidnb"} and "reidnb/cli.py" in names
    probe = "import reidnb, reidnb.cli as c; print(reidnb.__file__); c.parser()"
    run = [sys.executable, "-c", probe]
    shown = subprocess.run(
        run, cwd=tmp_path / "installed", capture_output=True, text=True, env={"PYTHONPATH": str(tmp_path / "installed")}
    )
    assert str(tmp_path) in shown.stdout, shown.stderr
