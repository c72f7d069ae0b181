"A loss, a method, a data set and a table added from outside: one file or notebook each, and no file of the project edited."

import json
import shutil
import textwrap

import pytest

LOSS = """
"Multi-similarity loss (Wang et al. 2019), as an extension: a description and the function that it names."

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F

from reidnb.losses.description import MetricLoss


class MultiSimilarity(MetricLoss):
    implementation: ClassVar[str] = "reidnb_extensions.multi_similarity:multi_similarity_loss"

    kind: Literal["multi_similarity"] = "multi_similarity"
    alpha: float = 2.0
    beta: float = 50.0
    base: float = 0.5


def multi_similarity_loss(features, labels, alpha=2.0, beta=50.0, base=0.5):
    unit = F.normalize(features)
    s = unit @ unit.T
    same = labels[:, None] == labels[None]
    itself = torch.eye(len(labels), dtype=torch.bool)
    positive = torch.where(same & ~itself, torch.exp(-alpha * (s - base)), 0.0).sum(1)
    negative = torch.where(~same, torch.exp(beta * (s - base)), 0.0).sum(1)
    return (positive.log1p() / alpha + negative.log1p() / beta).mean()
"""

METHOD = [
    "# Supervised learning of short features, as an extension in a notebook",
    """
    #| export
    from typing import ClassVar, Literal

    from reidnb.methods.description import MethodOptions
    from reidnb.methods.supervised import Supervised


    class ShortOptions(MethodOptions):
        implementation: ClassVar[str] = "reidnb_extensions.short_features:ShortFeatures"

        kind: Literal["short_features"] = "short_features"
        weight: float = 0.01


    class ShortFeatures(Supervised):
        def losses(self, batch):
            losses = super().losses(batch)
            length = self.net(batch["image"].float() / 255)["global"].square().sum(1).mean()
            return losses | {"identity": losses["identity"] + 0.01 * length}
    """,
    "1 / 0  # a check of the notebook, which an extension does not run",
]

DATA = """
"Two data sets as an extension: one that is drawn, like Market, and one that is read from a folder."

from dataclasses import replace
from functools import partial

from reidnb.data.datasets import DATASETS, DataSet, register_dataset
from reidnb.data.readers import read_market

register_dataset(replace(DATASETS["market"], name="corridor", title="Corridor", folders=("corridor",), counts={},
                         read=partial(read_market, domain="corridor")))
register_dataset(DataSet(name="hall", title="Hall", folders=("hall",), read=partial(read_market, domain="hall")))
"""

TABLE = """
table = "outside"
family = "supervised"

[protocols.corridor]
name = "Corridor"
data = "corridor"

[runs.plain]
name = "baseline"
data = "corridor"

[runs.loss]
like = "plain"
name = "multi-similarity"
objective = { metric = { kind = "multi_similarity", beta = 40.0 } }

[runs.method]
like = "plain"
name = "short features"
method = { kind = "short_features" }

[[blocks]]
protocol = "corridor"
rows     = { 0 = "plain", 1 = "loss", 2 = "method" }
columns  = { 1 = "mAP", 2 = "R1" }
"""


@pytest.fixture
def extended(home, drawn):
    "A home whose settings name a folder with extensions."
    shutil.copytree(drawn, home.store / "drawn")
    folder = home.folder / "mine"
    (folder / "own").mkdir(parents=True)
    (folder / "experiments").mkdir()
    (folder / "multi_similarity.py").write_text(LOSS)
    (folder / "corridor.py").write_text(DATA)
    cells = [dict(cell_type="markdown", id="0", metadata={}, source=METHOD[0])]
    for number, source in enumerate(METHOD[1:], 1):
        code = textwrap.dedent(source).strip()
        cells.append(dict(cell_type="code", id=str(number), metadata={}, source=code, outputs=[], execution_count=None))
    notebook = dict(cells=cells, metadata={}, nbformat=4, nbformat_minor=5)
    (folder / "short_features.ipynb").write_text(json.dumps(notebook))
    (folder / "experiments" / "outside.toml").write_text(TABLE)
    (folder / "own" / "tables.csv").write_text('table,document,line,title\noutside,001,57,"A table from outside"\n')
    (folder / "own" / "outside.csv").write_text("method,mAP,R1,remark\nbaseline,,,\nmulti-similarity,,,\nshort,,,\n")
    home.change("extensions = ", f"extensions = {folder} ")
    return home


def test_a_loss_a_method_a_data_set_and_a_table_are_added_from_outside(extended):
    code, out, err = extended.reidnb("plan", "outside", "--preset", "smoke")
    assert code == 0 and "outside" in out, err
    code, out, err = extended.reidnb("table", "outside", "--preset", "smoke", "--local", "--jobs", "1")
    assert code == 0, err
    records = [json.loads(p.read_text()) for p in (extended.store / "records" / "smoke").glob("*.json")]
    runs = {record["name"]: record for record in records if "experiment" in record}
    assert set(runs) == {"baseline", "multi-similarity", "short features"}
    assert runs["multi-similarity"]["experiment"]["objective"]["metric"] == dict(kind="multi_similarity", beta=40.0)
    assert runs["short features"]["experiment"]["method"] == dict(kind="short_features")
    assert {record["data"]["name"] for record in runs.values()} == {"corridor"}
    finals = {name: record["final"]["metric"] for name, record in runs.items()}
    assert finals["multi-similarity"] != finals["baseline"]
    scores = [record for record in records if "summary" in record]
    assert len(scores) == 3 and all(0 < record["summary"]["mAP"] < 1 for record in scores)


def test_a_data_set_that_is_read_is_trained_on(extended):
    table = extended.folder / "mine" / "experiments" / "outside.toml"
    row = ("table", "outside", "--preset", "smoke", "--local", "--jobs", "1", "--rows", "plain")
    assert extended.reidnb(*row)[0] == 0  # draws it
    drawn = next((extended.store / "drawn").rglob("bounding_box_train")).parent
    hall = extended.folder / "real" / "hall"
    shutil.copytree(drawn, hall, ignore=shutil.ignore_patterns("drawn.*"))
    extended.change("[smoke]", "[smoke]\ndata = real")
    written = table.read_text().replace('data = "corridor"', 'data = "hall"')
    table.write_text(written)
    code, _, err = extended.reidnb(*row)
    assert code == 0, err
    records = [json.loads(p.read_text()) for p in (extended.store / "records" / "smoke").glob("*.json")]
    assert {record["data"]["name"] for record in records if "experiment" in record} == {"corridor", "hall"}


def test_a_misspelt_kind_names_the_nearest_one(extended):
    path = extended.folder / "mine" / "experiments" / "outside.toml"
    path.write_text(path.read_text().replace('"multi_similarity"', '"multi_similarty"'))
    complaint = extended.complaint("plan", "outside", "--preset", "smoke")
    assert "did you mean 'multi_similarity'?" in complaint and "triplet_plus_positive" in complaint


def test_a_broken_extension_and_a_missing_folder_are_one_line(extended):
    (extended.folder / "mine" / "corridor.py").write_text("import nothing_of_that_name\n")
    complaint = extended.complaint("plan", "outside", "--preset", "smoke")
    assert "corridor.py: ModuleNotFoundError" in complaint
    extended.change(str(extended.folder / "mine"), str(extended.folder / "elsewhere"))
    assert "elsewhere: no such folder" in extended.complaint("plan", "outside", "--preset", "smoke")
