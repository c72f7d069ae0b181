"Experiments and tables: what is described, inherited, refused; and that descriptions load without torch."

import subprocess
import sys

import pytest
from conftest import ROOT

from reidnb.catalogue.experiments import Experiment, load_table, resolve_runs, table_slugs
from reidnb.core.configuration import ConfigurationError, describe
from reidnb.runs.presets import load_preset

PSEUDO_LABELS = dict(kind="pseudo_labels", target="duke")
GROUPED = dict(data="duke", method=PSEUDO_LABELS)
UNLABELLED = dict(identity="none", metric="none")


def resolved(**runs):
    "Runs of a file."
    return resolve_runs(runs, "toy.toml")


# ---- inheritance


def test_a_second_step_names_its_first():
    second = resolved(a=dict(data="market"), b=dict(data="duke", start="a"))["b"]
    assert second.start.data == "market" and second.data == "duke"


def test_an_ensemble_names_its_members():
    runs = resolved(a={}, b=dict(snapshots=2), c=dict(method="ensemble", members=["a", "b"]))
    assert runs["c"].members == (runs["a"], runs["b"])


def test_a_named_run_is_whole_and_not_mixed_with_an_inherited_one():
    runs = resolved(a=dict(snapshots=2), b=dict(data="duke", start="a"), c=dict(like="b", start="b"))
    assert runs["c"].start == runs["b"]


def test_descriptions_merge_section_by_section():
    runs = resolved(
        a=dict(objective=dict(metric=dict(kind="triplet", weight=2))),
        b=dict(objective=dict(weights="learned")),
        c=dict(like=["a", "b"], batch=dict(images=128)),
    )
    objective, batch = runs["c"].objective, runs["c"].batch
    assert objective.metric.weight == 2 and objective.weights == "learned"
    assert batch.images == 128 and batch.instances == 4


# ---- refusals

ARN = dict(method=dict(kind="arn", target="duke"), model=dict(bnneck=False), objective=dict(metric="none"))
HHL = dict(
    method=dict(kind="hhl", target="duke", triplets="D"),
    model=dict(bnneck=False, bottleneck=dict(dim=1024)),
    objective=dict(metric="none"),
)
REFUSALS = {
    "a circle": (dict(a=dict(like="b"), b=dict(like="a")), "circle: a → b → a"),
    "an unknown parent": ({"r50-01": {}, "r50-02": dict(like="r50-o1")}, "did you mean 'r50-01'"),
    "an unknown key": (dict(a=dict(bach=dict(images=8))), r"\[runs.a\]: unknown key 'bach' \(did you mean 'batch'\?\)"),
    "one member": (dict(a={}, b=dict(method="ensemble", members=["a"])), "two members or more"),
    "members of other data": (
        dict(a={}, b=dict(data="duke"), c=dict(method="ensemble", members=["a", "b"])),
        "trained on the same data",
    ),
    "pseudo-labels without a start": (dict(a=GROUPED), "needs a start: the run whose features are clustered"),
    "pseudo-labels of other data": (
        dict(a={}, b=GROUPED | dict(start="a", data="market")),
        "a target that is among the data, whose images get pseudo-labels",
    ),
    "ssg without a target": (dict(a=dict(method="ssg")), "key 'method.target' is missing"),
    "ssg without a start": (
        dict(a=dict(data="duke", method=dict(kind="ssg", target="duke"), objective=dict(identity="none"))),
        'method = "ssg" needs a start',
    ),
    "dec with an identity loss": (
        dict(a={}, b=dict(data="duke", start="a", method=dict(kind="dec", target="duke", clustering="kmeans"))),
        'method = "dec" needs identity and metric = "none"',
    ),
    "dec with another clustering": (
        dict(a={}, b=dict(data="duke", start="a", method=dict(kind="dec", target="duke"), objective=UNLABELLED)),
        'method = "dec" needs clustering = "kmeans"',
    ),
    "arn with a neck": (dict(a=dict(ARN, model={})), "method = arn has no neck: expected model.bnneck = false"),
    "arn with other pooling": (
        dict(a=dict(ARN, model=dict(bnneck=False, pooling="gem"))),
        "model.pooling: method = arn does not use it; leave it out",
    ),
    "arn with a metric loss": (
        dict(a=dict(ARN, objective={})),
        'arn has losses of its own: expected objective.metric = "none"',
    ),
    "arn with a center loss": (
        dict(a=dict(ARN, objective=dict(metric="none", center={}))),
        "objective.center: method = arn does not use it; leave it out",
    ),
    "arn with patches": (
        dict(a=dict(ARN, augmentation=dict(patch=0.5))),
        "augmentation.patch: method = arn does not use it; leave it out",
    ),
    "hhl with groups of two": (
        dict(a=dict(HHL, batch=dict(instances=2))),
        "batch.instances: method = hhl does not use it; leave it out",
    ),
    "hhl without camera styles": (
        dict(a=dict(HHL, method=dict(kind="hhl", target="duke"))),
        "method.triplets = CD needs a generator",
    ),
    "sgd without a rate": (dict(a=dict(optimiser=dict(algorithm="sgd"))), "algorithm = sgd needs a rate of its own"),
    "an option that ssg ignores": (
        dict(
            a={},
            b=dict(
                data="duke",
                start="a",
                method=dict(kind="ssg", target="duke"),
                objective=dict(identity="none"),
                model=dict(pooling="gem"),
            ),
        ),
        'method = "ssg" ignores model.pooling: leave it out',
    ),
    "an option that mgn ignores": (
        dict(a=dict(method="mgn", augmentation=dict(patch=0.5))),
        "ignores augmentation.patch",
    ),
    "an option that vpm ignores": (dict(a=dict(method="vpm", model=dict(bnneck=False))), "ignores model.bnneck"),
    "an option of another clustering": (
        dict(
            a={}, b=GROUPED | dict(start="a", data="duke", method=dict(kind="pseudo_labels", target="duke", radius=0.4))
        ),
        'method.radius: clustering = "dbscan" so described ignores it',
    ),
    "mgn with a start": (dict(a={}, b=dict(method="mgn", start="a")), "starts from no other run"),
    "an unknown method": (
        dict(a=dict(method="supervized")),
        r"kind 'supervized' \(did you mean 'supervised'\?\); expected one of arn, cyclegan, dcgan, .*supervised, vpm",
    ),
    "an unknown loss": (
        dict(a=dict(objective=dict(metric=dict(kind="triplett")))),
        r"kind 'triplett' \(did you mean 'triplet'\?\); expected one of circle, ema_triplet, .*soft_triplet, triplet, ",
    ),
    "a generator that generates nothing": (
        dict(a={}, b=dict(generator="a")),
        "generator: a run of kind supervised generates no images",
    ),
    "an unknown data set": (dict(a=dict(data="markt")), "did you mean 'market'"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_does_not_fit_is_refused(name):
    runs, message = REFUSALS[name]
    with pytest.raises(ConfigurationError, match=message):
        resolve_runs(runs, "toy.toml")


# ---- tables


def test_the_first_table_is_whole_as_written():
    "The Market table of document 001, line 57."
    table = load_table("market-backbones")
    assert len(table.notes.body) == 26
    assert table.notes.body[0] == ["resnet50", "01/02", "baseline", "85.8", "94.2", "90.10"]
    assert table.experiments["r50-01"] == Experiment()  # the baseline is an experiment's defaults
    objective = table.experiments["r50-17"].objective
    assert objective.metric.weight == 2 and objective.weights == "learned"


def test_a_composite_cell_holds_a_number_for_each_key():
    "Joint training writes mAP and R1 as 86.8/94.6."
    first = [cell for cell in load_table("joint").cells if cell.row == 0]
    numbers = [(cell.protocol, cell.metric, cell.documented) for cell in first]
    assert numbers[:2] == [("market", "mAP", "86.8"), ("market", "R1", "94.6")] and len(numbers) == 6


def test_changes_are_against_the_row_that_the_plan_names():
    assert load_table("joint").reference == 0
    assert load_table("partial-protocols").reference == 1  # row 0 is a quotation


def test_documented_means_that_do_not_follow_from_their_row():
    "The documented mean is (mAP + R1) / 2; rounding moves it by 0.055 at most, six rows are farther off."
    differences = {}
    for row in load_table("market-backbones").notes.body:
        expected = (float(row[3]) + float(row[4])) / 2
        differences[row[0], row[1]] = round(float(row[5]) - expected, 3)
    slips = {row: difference for row, difference in differences.items() if abs(difference) > 0.056}
    assert len(slips) == 6
    assert max(slips, key=lambda row: abs(slips[row])) == ("resnet50", "04")


def test_the_plain_and_the_strong_network_of_attributes_differ_in_the_neck():
    "000, lines 405 and 419: 82.4 and 86.6 are two baselines; the distance is euclidean without the neck (004, line 50)."
    plain, strong = (load_table(slug) for slug in ("attributes", "attributes-strong"))
    assert all(not experiment.model.bnneck for experiment in plain.experiments.values())
    assert all(experiment.model.bnneck for experiment in strong.experiments.values())
    assert {protocol.distance for protocol in plain.protocols.values()} == {"euclidean"}
    model = plain.experiments["baseline"].model
    assert model.model_copy(update=dict(bnneck=True)) == strong.experiments["baseline"].model


def test_fast_reids_recipe_is_a_circle_classifier_beside_a_soft_margin():
    recipe = load_table("fast-reid-tricks").experiments["all"]
    identity, metric = recipe.objective.identity, recipe.objective.metric
    assert (identity.kind, identity.scale, identity.margin, metric.kind) == ("circle_softmax", 64, 0.35, "soft_triplet")
    assert recipe.model.non_local == (2, 3) and recipe.model.pooling == "gem"


def test_an_unknown_table_is_refused():
    with pytest.raises(ConfigurationError, match="did you mean 'market-backbones'"):
        load_table("market-backbone")


@pytest.mark.parametrize("slug", table_slugs())
def test_a_described_experiment_reads_back_equal(slug):
    for name, experiment in load_table(slug).experiments.items():
        assert Experiment.model_validate(describe(experiment)) == experiment, name


# ---- without torch


def test_all_tables_and_options_load_without_torch():
    probe = (
        "import sys\n"
        "from reidnb.catalogue.experiments import load_table, table_slugs\n"
        "from reidnb.core.registry import import_options\n"
        "import_options('reidnb.losses')\n"
        "import_options('reidnb.methods')\n"
        "tables = [load_table(slug) for slug in table_slugs()]\n"
        "assert tables and 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_evaluation_and_losses_name_autoencoders_alike():
    from reidnb.evaluation.measures import AUTOENCODER_METRICS
    from reidnb.losses.autoencoder import NAMES

    assert AUTOENCODER_METRICS == NAMES


def test_rates_of_new_and_old_layers_are_the_documents():
    "HHL: 0.1 for new layers, 0.01 for the backbone (003, line 234); ARN: 1e-3, 1e-7, 2e-3 (003, line 41)."
    full = load_preset("full")
    hhl = load_table("hhl-losses").experiments["to-duke-cd"]
    rate = full.rate_of(hhl) * hhl.schedule.rate
    assert (rate, rate * full.optimiser_of(hhl).backbone_rate) == pytest.approx((0.1, 0.01))
    assert hhl.optimiser.nesterov and hhl.method.embedding_rate == 1
    arn = load_table("arn-losses").experiments["to-duke-all"]
    rate = full.rate_of(arn)
    rates = (rate, rate * arn.method.backbone_rate, rate * arn.method.classifier_rate)
    assert rates == pytest.approx((1e-3, 1e-7, 2e-3)) and arn.objective.identity.smoothing == 0


def test_arn_and_its_bounds_start_from_one_run():
    "Without ImageNet weights ARN's trunk has seen a third domain, and so has that of its bounds."
    bounds = load_table("transfer-bounds").experiments
    for run, experiment in load_table("arn-losses").experiments.items():
        bound = bounds[f"{experiment.data}-pretrained"]
        assert bound.pretrain == experiment.pretrain is not None and bound.data == experiment.data, run
