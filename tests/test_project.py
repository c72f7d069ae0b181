"The project as it is committed: notebooks, records, wheel."

import ast
import importlib.metadata
import json
import re
import subprocess
import sys
import tomllib
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


def test_published_records_serve_a_fresh_clone():
    from reidnb.catalogue.experiments import load_table, table_slugs
    from reidnb.runs.plan import is_missing, plan_table
    from reidnb.runs.presets import load_preset
    from reidnb.runs.records import Archive

    mini = load_preset("mini")
    archive = Archive(mini)
    archive.folders = [archive.published_folder]
    tables = [load_table(slug) for slug in table_slugs()]
    plans = {table.notes.slug: plan_table(table, mini, (0, 1, 2)) for table in tables}
    unfinished = {slug for slug, jobs in plans.items() if any(is_missing(job, archive) for job in jobs)}
    assert "market-backbones" not in unfinished  # `make table` without --local; rows that were mended since are not run
    jobs = [job for planned in plans.values() for job in planned]
    assert len({job.run for job in jobs if not is_missing(job, archive)}) >= 230
    named = {job.run for job in jobs} | {name for job in jobs for _, name in job.protocols}
    assert {path.stem for path in archive.published_folder.glob("*.json")} <= named  # nothing that no table asks for
    for path in archive.published_folder.glob("*.json"):
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


def imported_distributions(code):
    "Distributions, by their normal names, from which Python code imports, also inside functions."
    modules = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            modules |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            modules.add(node.module.split(".")[0])
    modules -= set(sys.stdlib_module_names) | {"reidnb"}
    distributions = importlib.metadata.packages_distributions()
    return {normal_name(distributions[module][0]) for module in modules}


def normal_name(requirement):
    "The name of a requirement as the index compares it."
    return re.match(r"[\w.-]+", requirement)[0].lower().replace("_", "-")


def code_that_users_run():
    "The package, and the notebooks that the command line and the README run."
    for path in sorted((ROOT / "reidnb").rglob("*.py")):
        if path.name != "nbdev_options.py":  # a part of nbdev's export, which nothing else imports
            yield path, path.read_text(encoding="utf8")
    for folder in (ROOT / "reports", ROOT / "nbs" / "tables"):
        for path in sorted(folder.glob("*.ipynb")):
            cells = json.loads(path.read_text(encoding="utf8"))["cells"]
            yield path, "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")


def test_what_is_imported_is_declared_and_what_is_declared_is_used():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf8"))["project"]
    extras = project["optional-dependencies"]
    needed = {normal_name(requirement) for requirement in project["dependencies"]}
    optional = {normal_name(requirement) for name in ("batch", "lab") for requirement in extras[name]}
    guarded = {"snakemake", "ipywidgets", "ipympl"}  # where they are missing, the code that imports them has an answer
    assert guarded <= optional
    imported = set()
    for path, code in code_that_users_run():
        distributions = imported_distributions(code)
        assert distributions <= needed | guarded, f"{path}: {distributions - needed - guarded} is not declared"
        imported |= distributions
    assert needed - imported == {"ipykernel"}  # which runs the notebooks
    pinned = [one for name in ("batch", "lab") for one in extras[name] if "==" in one]
    assert not pinned and not [one for one in project["dependencies"] if "==" in one]


def test_tables_are_listed_without_torch():
    code = "import sys; from reidnb.cli import main; main(['tables']); assert 'torch' not in sys.modules and 'numba' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0 and "40 tables, 279 rows" in done.stdout, done.stderr


def test_baseline_has_headroom_and_steady_seeds():
    from reidnb.catalogue.experiments import load_table
    from reidnb.results.cells import table_frame
    from reidnb.runs.presets import load_preset

    frame = table_frame(load_table("market-backbones"), load_preset("mini"), (0, 1, 2), rows=["r50-01"])
    baseline = frame.set_index("metric").loc["mAP"]
    assert 60 <= baseline["mean"] <= 85 and baseline["sd"] < 3 and baseline["seeds"] == "0,1,2"


def test_committed_results_are_those_of_the_records():
    from reidnb.book.committed import results_files
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


def test_wheel_holds_the_package_and_nothing_else(tmp_path):
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        names = wheel.namelist()
        wheel.extractall(tmp_path / "installed")
    tops = {name.split("/")[0].split("-")[0] for name in names}
    files = {"reidnb/cli/__init__.py", "reidnb/book/templates/table.html", "reidnb/runs/templates/Snakefile"}
    assert tops == {"reidnb"} and files <= set(names)
    probe = "import reidnb, reidnb.cli as c; print(reidnb.__file__); c.parser(); import reidnb.book.rendering as r; r.render('page.html')"
    run = [sys.executable, "-c", probe]
    shown = subprocess.run(
        run, cwd=tmp_path / "installed", capture_output=True, text=True, env={"PYTHONPATH": str(tmp_path / "installed")}
    )
    assert str(tmp_path) in shown.stdout, shown.stderr
