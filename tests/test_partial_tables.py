"What the tables on partial people run (document 000, lines 1 to 379): who is cut, which baseline, which dilation, which run."

import pytest

from reidnb.catalogue.experiments import Experiment, load_table
from reidnb.core.configuration import describe
from reidnb.runs.datasets import training_scale

BASELINE = load_table("market-backbones").experiments["r50-01"]
AT_RANDOM = ("crop-0-50", "crop-15-45", "crop-15-45-legs", "crop-25-55-legs")
OF_VPM = ("vpm-first", "vpm-warmup", "vpm-200-epochs", "vpm-range", "vpm-one-part", "vpm-predicted-ratio")


def who_is_cut(slug: str) -> set:
    "Whose images the protocols of a table cut."
    views = [protocol.view for protocol in load_table(slug).protocols.values()]
    return {view.cut.who for view in views if view.cut}


@pytest.mark.parametrize("slug", ("lower-half", *OF_VPM))
def test_these_cut_queries_alone(slug):
    "T11's VPM row is that of the VPM tables at 0.5 (lines 216, 312, 338)."
    assert who_is_cut(slug) == {"query"}


@pytest.mark.parametrize("slug", (*AT_RANDOM, "affine-prediction", "affine-fixed-backbone", "ratio-depth"))
def test_these_cut_both_halves_of_the_test(slug):
    "The head test of line 110 has 56.1 where line 217 has 38.9."
    assert who_is_cut(slug) == {"all"}


def test_both_ways_are_shown_once_for_each_row_of_t11():
    shown = load_table("who-is-cropped")
    assert who_is_cut("who-is-cropped") == {"query", "all"}
    assert set(load_table("lower-half").experiments.values()) <= set(shown.experiments.values())


def test_only_t0_has_the_weaker_baseline():
    "Line 27: 'change stronger baseline'."
    weaker = load_table("partial-protocols").experiments["baseline"]
    assert weaker.model.last_stride == 2 and not weaker.model.bnneck and not weaker.augmentation.erase
    assert not weaker.schedule.warmup and not weaker.objective.identity.smoothing
    stronger = ("partial-padding", "affine-kernels", "affine-prediction", "affine-fixed-backbone", "lower-half")
    assert all(load_table(slug).experiments["baseline"] == BASELINE for slug in stronger)


def test_the_same_number_twice_is_one_run():
    "72.7 and 82.0 at lines 80 and 93."
    kernels, prediction = load_table("affine-kernels"), load_table("affine-prediction")
    assert kernels.experiments["baseline-ftaug"] == prediction.experiments["resize"]
    assert kernels.protocols["resize-reid"] == prediction.protocols["resize-reid"]


def test_t3_knows_its_dilation():
    "The predictor comes only after it (line 84)."
    table = load_table("affine-kernels")
    assert all(experiment.model.ratio is None for experiment in table.experiments.values())
    affine, everything = table.experiments["ft-affine"], table.experiments["ft-all"]
    assert affine.method.tuned == "affine" and everything.method.tuned == "all"
    assert affine.model_copy(update=dict(method=everything.method)) == everything
    tests = {cell.run: set() for cell in table.cells}
    for cell in table.cells:
        tests[cell.run].add((cell.protocol.split("-")[0], table.protocols[cell.protocol].stretch))
    assert tests["ft-all"] == {("crop", False), ("pad", False), ("affine", "proportions")}


def test_a_stretch_has_another_edition_and_larger_images():
    "Runs without a stretch keep their ids; those with one are decoded as large as their smallest part needs."
    stretched, plain = Experiment(augmentation=dict(stretch=0.5)), Experiment(augmentation=dict(occlude=0.5))
    assert describe(stretched)["augmentation"]["edition"] == 2 and "edition" not in describe(plain)["augmentation"]
    assert training_scale(plain) == (1, 1) and training_scale(stretched) == (2, 1)
    in_both = Experiment(augmentation=dict(stretch=1, stretch_x=True, stretch_share=(0.25, 1), vary=(1, 1.5)))
    assert training_scale(in_both) == (6, 6)


def test_a_method_that_stretches_nothing_refuses_a_stretch():
    "Its images would be decoded twice as high."
    with pytest.raises(ValueError, match="mgn stretches no images"):
        Experiment(method=dict(kind="mgn"), augmentation=dict(stretch=0.5))


@pytest.mark.parametrize(
    "changed",
    (dict(model=dict(kernels="affine")), dict(start=Experiment()), dict(start=Experiment(), model=dict(ratio={}))),
)
def test_affine_layers_alone_need_a_start_and_kernels(changed):
    losses = dict(objective=dict(ratio={})) if "ratio" in changed.get("model", ()) else {}
    with pytest.raises(ValueError, match="tuned = affine: expected a start"):
        Experiment(method=dict(kind="supervised", tuned="affine"), **changed, **losses)
