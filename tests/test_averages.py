"Moving averages of weights forget over a preset's steps what they forget over the documents', and begin where a run begins."

import pytest
import torch

from reidnb.catalogue.experiments import load_table
from reidnb.core.configuration import describe
from reidnb.losses.ema_options import EmaTriplet
from reidnb.runs.datasets import documents_steps, run_id, scaled_experiment, total_steps
from reidnb.runs.presets import load_preset
from reidnb.training.configuration import Optimiser

IMAGES = 12_936  # for training in Market-1501
PRESETS = ("smoke", "mini", "mini-real")


def ema_runs() -> dict:
    experiments = load_table("ema-triplet").experiments
    return {name: e for name, e in experiments.items() if e.objective.metric.ema is not None}


def share_after(average, network, steps: int) -> float:
    "The share of the weights that an average began with, after so many steps of a network whose weights are zero."
    for parameter in average.module.parameters():
        parameter.fill_(1.0)
    for parameter in network.parameters():
        parameter.detach().zero_()
    for _ in range(steps):
        average.update_parameters(network)
    return float(next(average.module.parameters()).detach().mean())


@pytest.mark.parametrize("run", ["r-tri-0.6-ema0.999-8x64", "r-tri-0.6-ema0.999-4x64"])
def test_the_share_of_initial_weights_at_mini_is_the_documents(run):
    from reidnb.runs.execute import context_of

    preset, experiment = load_preset("mini"), ema_runs()[run]
    context = context_of(experiment, preset)
    method = context.options.implemented().create(context, 100)
    steps = total_steps(experiment, preset, 0)
    share = share_after(method.terms["metric"].average, method.net, steps)
    documents = 0.999 ** (120 * IMAGES / experiment.batch.images)
    assert share == pytest.approx(documents, rel=1e-3)
    assert 0.999**steps > 0.9  # without scaling the average stays nearly what was drawn at random


@pytest.mark.parametrize("name", PRESETS)
def test_decays_follow_the_steps_of_a_preset(name):
    preset = load_preset(name)
    for run, experiment in ema_runs().items():
        steps, documents = total_steps(experiment, preset, 0), 120 * IMAGES / experiment.batch.images
        decay = scaled_experiment(experiment, preset).objective.metric.ema
        assert decay**steps == pytest.approx(experiment.objective.metric.ema**documents, rel=1e-9), run
        averaged = experiment.model_copy(update=dict(optimiser=Optimiser(ema=0.9998)))
        assert scaled_experiment(averaged, preset).optimiser.ema ** steps == pytest.approx(0.9998**documents, rel=1e-9)
    if name == "mini":
        known = scaled_experiment(ema_runs()["r-tri-0.6-ema0.999"], preset).objective.metric.ema
        assert known == pytest.approx(0.92, abs=0.005)


def test_the_average_that_is_tested_is_scaled_where_a_training_is_planned():
    from reidnb.runs.execute import context_of, training_plan

    preset = load_preset("mini")
    experiment = (
        load_table("market-backbones").experiments["r50-01"].model_copy(update=dict(optimiser=Optimiser(ema=0.999)))
    )
    plan = training_plan(context_of(experiment, preset), preset, 0)
    assert plan.optimiser.ema**plan.steps == pytest.approx(0.999 ** (120 * IMAGES / 64), rel=1e-9)


def test_real_epochs_scale_nothing():
    preset = load_preset("full")
    for experiment in ema_runs().values():
        assert documents_steps(experiment, preset) == 1 and scaled_experiment(experiment, preset) == experiment


def test_only_runs_with_an_average_are_other_runs():
    assert "edition" not in describe(EmaTriplet()) and describe(EmaTriplet(ema=0.9))["edition"] == 2
    assert "edition" not in describe(Optimiser(clip=1.0)) and describe(Optimiser(ema=0.9))["edition"] == 2
    preset = load_preset("mini")
    baseline = load_table("market-backbones").experiments["r50-01"]
    assert scaled_experiment(baseline, preset) == baseline
    assert run_id(baseline, preset, 0) == "e5e366852fca"


def test_an_average_begins_at_the_weights_that_a_run_starts_from():
    from reidnb.augmentation.configuration import Augmentation
    from reidnb.losses.objective import Objective
    from reidnb.methods.supervised import Supervised
    from reidnb.models.configuration import Embedding, Size

    def method(seed, **losses):
        model, size = Embedding(backbone="resnet18"), Size(width=8, blocks=(1, 1, 1, 1), stem="3x3")
        return Supervised(model, size, Objective(**losses), augmentation=Augmentation(), classes=4, seed=seed)

    started, other = method(0, metric=EmaTriplet(ema=0.999)), method(1)
    started.start_from(other.state_dict())
    average = started.terms["metric"].average.module.state_dict()
    assert average.keys() == started.net.state_dict().keys()
    for name, tensor in other.net.state_dict().items():
        assert torch.equal(average[name], tensor), name
    started.begin_phase()  # averages equal weights
    assert all(torch.allclose(average[name], tensor) for name, tensor in other.net.state_dict().items())
