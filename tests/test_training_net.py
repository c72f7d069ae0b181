"""What training computes, held against a committed file: every kind of experiment, its first weights and the losses of two steps.

`python tests/test_training_net.py` writes the file anew; do that only where a change of the numbers is meant. It refuses
other numbers for the same description: who changes what is computed raises an edition, so that published runs are not
taken for what is computed now."""

import json
from functools import partial
from pathlib import Path

import pytest

NET = Path(__file__).parents[1] / "data" / "training_net.json"
STEPS = 2


def prepare(experiment, preset, seed, archive):
    "The method and its batches before the first step, on runs of two steps where it builds on others."
    from reidnb.runs import execute

    start = execute.starting_tensors(experiment, preset, seed, name="", archive=archive)
    generated = execute.generated_images_for(experiment, preset, seed, archive=archive)
    prepared = execute.prepare(execute.context_of(experiment, preset, seed, start=start, generated=generated))
    return prepared.method, prepared.batches


def rounded(value: float) -> float:
    return float(f"{value:.5g}")


def measure(experiment, preset, archive, seed: int = 0) -> dict:
    "Sums of the initial weights, and the losses of each step from the largest to the smallest."
    from reidnb.data.batches import loader
    from reidnb.runs.datasets import run_id
    from reidnb.runs.execute import make_deterministic
    from reidnb.training.fit import Plan, fit

    make_deterministic(1)
    experiment = preset.resolved(experiment)
    method, batches = prepare(experiment, preset, seed, archive)
    weights = [p.detach().double() for p in method.parameters()]
    entry = dict(
        run=run_id(experiment, preset, seed),
        parameters=sum(p.numel() for p in weights),
        total=rounded(float(sum(p.sum() for p in weights))),
        squares=rounded(float(sum(p.square().sum() for p in weights))),
    )
    if experiment.members:  # nothing is left to learn
        return entry
    plan = Plan(
        steps=STEPS,
        base_rate=preset.rate_of(experiment),
        schedule=preset.schedule_of(experiment),
        optimiser=preset.optimiser_of(experiment),
        keep_history=1,
    )
    history = fit(method, partial(loader, batches), plan).history
    skip = ("step", "rate")
    losses = [[v for k, v in line.items() if k not in skip and not k.startswith("weight.")] for line in history]
    return entry | dict(losses=[sorted(map(rounded, step), reverse=True) for step in losses])


def net_preset(store: Path):
    from reidnb.runs.presets import load_preset

    changed = dict(store=str(store), steps=STEPS, gan_steps=STEPS, vpm_steps=STEPS, device="cpu")
    changed["rho"] = 0.2  # networks of two steps: DBSCAN finds as many clusters in their features from 0.18 to 0.22
    return load_preset("smoke").model_copy(update=changed)


def experiment_named(key: str):
    from reidnb.catalogue.experiments import load_table

    slug, run = key.split("/")
    return load_table(slug).experiments[run]


ENTRIES = json.loads(NET.read_text(encoding="utf8")) if NET.exists() else {}


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    return net_preset(tmp_path_factory.mktemp("net"))


@pytest.mark.parametrize("key", ENTRIES)
def test_training_computes_what_it_computed(key, preset):
    from reidnb.runs.records import Archive

    experiment, held = experiment_named(key), ENTRIES[key]
    found = measure(experiment, preset, Archive(preset, published=False))
    alone = not (experiment.start or experiment.pretrain or experiment.generator)
    assert_same(found, held, alone=alone)


def assert_same(found: dict, held: dict, *, alone: bool):
    "Two entries, up to what processors round otherwise."
    assert found.keys() == held.keys() and found["parameters"] == held["parameters"]
    for name in ("total", "squares"):
        assert found[name] == pytest.approx(held[name], rel=1e-4, abs=1e-3), name
    # Adam's first step has the gradient's sign: what processors round otherwise near zero is not small after it
    tolerances = (5e-4, 2e-2) if alone else (5e-3, 5e-2)
    for k, tolerance in enumerate(tolerances[: len(held.get("losses", ()))]):
        assert found["losses"][k] == pytest.approx(held["losses"][k], rel=tolerance, abs=tolerance / 5), f"step {k}"


def test_the_net_has_every_kind():
    "Each key, kind and choice that any table's experiments use is in some entry."
    from reidnb.catalogue.experiments import load_table, table_slugs

    used = {choice for slug in table_slugs() for e in load_table(slug).experiments.values() for choice in choices(e)}
    assert used == {choice for key in ENTRIES for choice in choices(experiment_named(key))}


def choices(experiment) -> set:
    "Dotted keys of an experiment's description, with their values where these are words or switches."
    from reidnb.core.configuration import describe

    runs = ("start", "pretrain", "generator", "members")
    datasets = ("data", "target", "match_colours")  # any of them will do
    flat = set()

    def walk(value, prefix):
        for key, inner in value.items():
            if isinstance(inner, dict) and key not in runs:
                walk(inner, f"{prefix}{key}.")
            else:
                says = isinstance(inner, (str, bool)) and key not in datasets
                flat.add(f"{prefix}{key}" + (f"={inner}" if says else ""))

    walk(describe(experiment), "")
    return flat


def cover(chosen: list) -> list:
    "Keys of experiments that have every choice together: these, and others where a choice is missing, the richest first."
    from reidnb.catalogue.experiments import load_table, table_slugs

    tables = {slug: load_table(slug) for slug in table_slugs()}
    named = {f"{slug}/{run}": choices(e) for slug, table in tables.items() for run, e in table.experiments.items()}
    chosen = [key for key in chosen if key in named]
    left = set().union(*named.values()).difference(*(named[key] for key in chosen))
    while left:
        best = max(named, key=lambda key: (len(named[key] & left), -len(named[key])))
        chosen.append(best)
        left -= named[best]
    return chosen


def check_editions(entries: dict, before: dict):
    "Refuse other numbers for the same description (`AssertionError`)."
    for key, entry in entries.items():
        held = before.get(key, {})
        if held.get("run") == entry["run"]:
            assert_same(entry, held, alone=False)


def test_other_numbers_need_another_edition():
    key, entry = next(iter(ENTRIES.items()))
    changed = entry | dict(losses=[[1.5 * value for value in step] for step in entry["losses"]])
    check_editions({key: changed | dict(run="another")}, ENTRIES)
    with pytest.raises(AssertionError):
        check_editions({key: changed}, ENTRIES)


def write(store: Path):
    from reidnb.runs.records import Archive

    preset = net_preset(store)
    keys = cover(list(ENTRIES))
    entries = {key: measure(experiment_named(key), preset, Archive(preset, published=False)) for key in keys}
    check_editions(entries, ENTRIES)
    lines = (f" {json.dumps(key)}: {json.dumps(entry)}" for key, entry in entries.items())
    NET.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf8")


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
