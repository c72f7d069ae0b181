"Counts in prose are those of the project: README, CHANGELOG, the notebooks' Markdown."

import json
import re
from functools import cache

import pytest
from conftest import ROOT

WORDS = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen".split()
WORDS += "seventeen eighteen nineteen twenty".split()
TENS = dict(thirty=30, forty=40, fifty=50, sixty=60, seventy=70, eighty=80, ninety=90)
NUMBERS = {word: number for number, word in enumerate(WORDS)} | TENS
NUMBER = rf"\b(\d[\d,]*|{'|'.join(NUMBERS)})\b"  # a group: 27, 3,368, forty


def as_number(text):
    "27, 3,368 and forty as integers."
    return NUMBERS[text.lower()] if text.lower() in NUMBERS else int(text.replace(",", ""))


def notebook_text(path, kind="markdown"):
    "All Markdown, or all code, of a notebook."
    cells = json.loads(path.read_text(encoding="utf8"))["cells"]
    return "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == kind)


@cache
def prose():
    "File → its prose, for every page that a reader sees."
    pages = [ROOT / name for name in ("README.md", "BATCH.md", "CONTRIBUTING.md", "CHANGELOG.md")]
    texts = {page.name: page.read_text(encoding="utf8") for page in pages}
    for folder in ("nbs", "reports"):
        for path in sorted((ROOT / folder).rglob("*.ipynb")):
            if ".ipynb_checkpoints" not in path.parts:
                texts[str(path.relative_to(ROOT))] = notebook_text(path)
    return texts


@cache
def counts():
    "What the project has, counted."
    from reidnb.catalogue.documents import documented_tables, own_tables
    from reidnb.data.datasets import dataset, drawn_names, readable_names
    from reidnb.results.audit import computed_audit
    from reidnb.results.findings import read_findings
    from reidnb.runs.presets import load_preset

    notes = documented_tables()
    own = own_tables()
    market = notes["market-backbones"]
    wrong_means = [e for e in computed_audit() if e.line == market.line and "(mAP + R1) / 2" in e.truth]
    return dict(
        documents=len({table.document for table in (*notes.values(), *own.values())}),
        tables=len(notes),
        own_tables=len(own),
        all_tables=len(notes) + len(own),
        rows=sum(len(table.body) for table in notes.values()),
        claims=len(read_findings()),
        market_rows=len(market.body),
        wrong_means=len(wrong_means),
        make_rows=len(made_rows()),
        drawn_sets=len(drawn_names()),
        real_sets=len(readable_names()),
        steps=load_preset("mini").steps,
        partial_people=dataset("partial_reid").counts["query"][1],
        ilids_people=dataset("partial_ilids").counts["query"][1],
    )


def made_rows():
    "The rows that `make table` trains."
    return re.search(r"--rows (\S+)", (ROOT / "Makefile").read_text())[1].split(",")


COUNTED = [  # wherever these words stand, the number is this count
    (rf"{NUMBER} documents\b(?! table)", "documents"),
    (rf"{NUMBER} results tables", "tables"),
    (rf"the notes' {NUMBER} tables", "tables"),
    (rf"a plan of {NUMBER} tables|can plan {NUMBER} tables", "tables"),
    (rf"all {NUMBER} as the notes write them", "tables"),
    (rf"{NUMBER} (?:tables )?of our own", "own_tables"),
    (rf"{NUMBER} claims", "claims"),
    (rf"(?:tables transcribed|as the notes write them), {NUMBER} rows", "rows"),
    (rf"all {NUMBER} rows|of the {NUMBER} rows", "market_rows"),
    (rf"{NUMBER} of the \d+ rows", "wrong_means"),
    (rf"the first table \({NUMBER} rows\)", "make_rows"),
    (rf"{NUMBER} data sets (?:are drawn|that draw)", "drawn_sets"),
    (rf"{NUMBER} real sets", "real_sets"),
    (rf"{NUMBER} steps of 64 images", "steps"),
    (rf"Partial-REID has {NUMBER}", "partial_people"),
    (rf"Partial-iLIDS {NUMBER}", "ilids_people"),
]


@pytest.mark.parametrize(("pattern", "name"), COUNTED, ids=[f"{name}-{n}" for n, (_, name) in enumerate(COUNTED)])
def test_counts_in_prose(pattern, name):
    for page, text in prose().items():
        for match in re.finditer(pattern, text, re.I):
            number = next(group for group in match.groups() if group)
            assert as_number(number) == counts()[name], f"{page}: “{match[0]}”, expected {counts()[name]} {name}"


def test_readme_states_the_counts():
    found = [re.search(pattern, prose()["README.md"], re.I) for pattern, _ in COUNTED]
    stated = {name for match, (_, name) in zip(found, COUNTED) if match}
    assert stated == {"documents", "tables", "own_tables", "rows", "claims", "make_rows", "steps"}


def test_readme_states_the_presets():
    from reidnb.runs.presets import load_preset

    readme = prose()["README.md"]
    for name in ("smoke", "mini", "mini-real", "full"):
        preset = load_preset(name)
        row = re.search(rf"^\| `{name}` \|.*$", readme, re.M)[0]
        assert row.split("|")[3].strip() in (f"{preset.image_height} × {preset.image_width}", "the same")
        assert f"width {preset.network_width}" in row or name == "full"
        assert ("drawn" in row) == (preset.data == "drawn")
        if preset.data == "drawn":
            assert f"{preset.identities} identities" in row
        if name.startswith("mini"):
            assert f"{sum(preset.blocks_resnet50)} blocks" in row
    mini = load_preset("mini")
    real = load_preset("mini-real")
    assert f"{mini.steps} steps of 64 images" in readme
    assert f"{real.steps:,} at\n`mini-real`" in readme


def test_readme_states_the_size_of_market():
    from reidnb.data.datasets import dataset

    sizes = dataset("market").counts
    readers = "".join(text for page, text in prose().items() if page.startswith("nbs/data/"))
    junk = as_number(re.search(rf"Market holds {NUMBER} junk", readers)[1])
    ranked = sizes["gallery"][0] - junk
    assert f"{sizes['query'][0]:,} queries, {ranked:,} gallery images" in prose()["README.md"]


def test_readme_states_the_versions_of_python():
    versions = re.search(r"Python 3[\d., or]+\d", prose()["README.md"])[0]
    assert versions in (ROOT / "setup.sh").read_text()
    assert f'requires-python = ">={versions.split()[1].rstrip(",")}"' in (ROOT / "pyproject.toml").read_text()


def test_readme_states_what_arcface_costs():
    from reidnb.catalogue.experiments import load_table
    from reidnb.results.cells import table_frame
    from reidnb.runs.presets import load_preset

    published = load_preset("mini").model_copy(update=dict(store="no store"))
    frame = table_frame(load_table("market-backbones"), published, (0, 1, 2), rows=["r50-01", "r50-04"])
    baseline, arcface = (
        frame[(frame["run"] == run) & (frame["metric"] == "mAP")].iloc[0] for run in ("r50-01", "r50-04")
    )
    cost = baseline["documented"] - arcface["documented"]
    assert f"arcface costs the notes {cost:.1f} points of mAP and us none" in prose()["README.md"]
    assert arcface["mean"] >= baseline["mean"]


def test_every_notebook_that_a_page_names_exists():
    for page, text in prose().items():
        folder = (ROOT / page).parent
        for target in re.findall(r"\]\(([^)#\s]+\.(?:ipynb|md|png|jpg))\)", text):
            if "://" not in target:
                assert (folder / target).is_file(), f"{page}: {target} does not exist"


SHORT_RUNS = [  # notebook, words before a small training, the numbers in its code
    (
        "nbs/methods/00_supervised.ipynb",
        rf"{NUMBER} (?:identities|people), {NUMBER} steps",
        r"identities=(\d+),[\s\S]*?steps=(\d+)",
    )
]


@pytest.mark.parametrize(("path", "words", "code"), SHORT_RUNS)
def test_small_trainings_are_described_as_they_run(path, words, code):
    described = re.search(words, notebook_text(ROOT / path), re.I)
    run = re.search(code, notebook_text(ROOT / path, "code"))
    assert described and run, f"{path}: the sentence or its code has changed; change the pattern, too"
    assert [as_number(text) for text in described.groups()] == [int(text) for text in run.groups()]


def test_tour_is_described_as_it_runs():
    from reidnb.catalogue.experiments import Experiment
    from reidnb.runs.presets import load_preset

    text = notebook_text(ROOT / "nbs" / "index.ipynb")
    described = re.search(rf"{NUMBER} steps of {NUMBER} (?:people|identities) × {NUMBER} images", text, re.I)
    steps, identities, images = (as_number(group) for group in described.groups())
    assert steps == load_preset("mini").steps
    batch = Experiment().batch
    assert (identities * images, images) == (batch.images, batch.instances)
