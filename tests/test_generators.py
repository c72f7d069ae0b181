"Generators: the documented networks and recipe are what `full` runs; `mini` says what it changes."

import numpy as np
import pytest
import torch
from torch import nn

from reidnb.catalogue.experiment import Batch, Experiment
from reidnb.catalogue.experiments import load_table, table_slugs
from reidnb.core.configuration import ConfigurationError, describe, validate
from reidnb.methods.base import Context, GeneratorSize
from reidnb.models.configuration import Size
from reidnb.models.generators import CycleGANGenerator, SiaNet, StandInDiscriminator, StandInTranslator
from reidnb.runs.datasets import batch_images, image_size, total_steps, training_scale
from reidnb.runs.execute import images_of_generator, load_trained, open_data, run, training_plan
from reidnb.runs.presets import load_preset
from reidnb.runs.records import Archive

MINI, FULL = load_preset("mini"), load_preset("full")


def described(slug, name) -> Experiment:
    return load_table(slug).experiments[name]


CYCLEGAN, LONGER = described("spgan-ladder", "cyclegan"), described("spgan-ladder", "cyclegan-longer")
SPGAN, PTGAN = described("spgan-ladder", "spgan-2"), described("ptgan", "ptgan")
STARGAN, DCGAN = described("hhl-losses", "styles-duke"), described("lsro", "dcgan")


def all_generators() -> list:
    "Every run of any table that generates images."
    experiments = [e for slug in table_slugs() for e in load_table(slug).experiments.values()]
    named = [e for e in experiments if e.method.generates]
    return named + [e.generator for e in experiments if e.generator is not None]


def made(experiment, image=(64, 64)):
    "A generator's networks as an experiment describes them, narrow."
    context = Context(
        experiment=experiment,
        seed=0,
        size=Size(width=8, blocks=(1, 1, 1, 1), stem="3x3"),
        image=image,
        batch_images=1,
        generator_size=GeneratorSize(4, 1, image),
    )
    return context.options.implemented().create(context, 6)


# ---- what `full` runs


def test_no_generator_at_full_is_a_stand_in():
    kinds = set()
    for experiment in all_generators():
        method = made(FULL.resolved(experiment))
        assert not any(isinstance(module, StandInTranslator | StandInDiscriminator) for module in method.modules())
        kinds.add(experiment.method.kind)
    assert kinds == {"cyclegan", "stargan", "dcgan"}


def test_spgan_at_full_is_that_of_line_379():
    spgan = FULL.resolved(SPGAN)
    options, schedule = spgan.method, spgan.schedule
    assert (options.cycle, options.identity, options.similarity, options.margin) == (10, 5, 2, 2)
    assert options.negatives == "translated"
    assert batch_images(spgan, FULL) == 1 and schedule.epochs == 5
    assert spgan.start is None and spgan.pretrain is None  # SiaNet learns from the first step
    assert total_steps(spgan, FULL, 12_936) == 5 * 12_936
    context = Context(experiment=spgan, seed=0, size=FULL.network_size("resnet50"), image=(256, 256), batch_images=1)
    plan = training_plan(context, FULL, 12_936)
    assert plan.rate(0) == plan.rate(plan.steps - 1) == 0.0002
    assert plan.optimiser.momentum == 0.5 and plan.optimiser.weight_decay == 0


def test_the_squares_of_line_395_give_sianet_all_levels():
    spgan = FULL.resolved(SPGAN)
    assert image_size(FULL, spgan.image_scale) == (256, 256)
    assert image_size(FULL, training_scale(spgan)) == (286, 286)
    levels = [layer.out_channels for layer in SiaNet(image=(256, 256)) if isinstance(layer, nn.Conv2d)]
    assert levels == [64, 128, 256, 512]
    assert FULL.generator_blocks(spgan) == 9 and FULL.gan_width == 64


def test_what_joins_later_at_mini_is_there_from_the_start_at_full():
    plain = FULL.resolved(CYCLEGAN)
    assert FULL.resolved(LONGER) == plain
    assert FULL.resolved(described("spgan-ladder", "cyclegan-documented")) == plain
    assert FULL.resolved(PTGAN).start is None and FULL.resolved(PTGAN).schedule == plain.schedule


def test_generators_train_in_full_precision():
    assert FULL.half and not FULL.half_of(SPGAN) and FULL.half_of(Experiment())
    assert FULL.training_values(FULL.resolved(SPGAN))["half"] is False


def test_stargan_at_full_is_that_of_lines_222_to_226():
    stargan = FULL.resolved(STARGAN)
    assert image_size(FULL, stargan.image_scale) == (128, 64)
    assert FULL.generator_blocks(stargan) == 6
    context = Context(experiment=stargan, seed=0, size=FULL.network_size("resnet50"), image=(128, 64), batch_images=16)
    plan = training_plan(context, FULL, 100)
    at = [plan.rate(plan.steps * epoch // 200) for epoch in (0, 99, 150)]
    assert at == pytest.approx([0.0001, 0.0001, 0.00005])
    assert plan.optimiser.momentum == 0.5
    assert batch_images(stargan, FULL) == 16 and stargan.method.discriminator_steps == 5


def reference_block(channels) -> nn.Sequential:
    "What a residual block of the paper adds to its input."
    halves = [(nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3), nn.InstanceNorm2d(channels)) for _ in range(2)]
    return nn.Sequential(*halves[0], nn.ReLU(), *halves[1])


def test_cyclegans_generator_is_a_chain_of_torchs_own_layers():
    "The paper's layers with `nn.ReflectionPad2d`, and the weights of ours."
    norm = nn.InstanceNorm2d
    first = nn.Sequential(nn.ReflectionPad2d(3), nn.Conv2d(3, 4, 7), norm(4), nn.ReLU())
    down = [nn.Sequential(nn.Conv2d(c, 2 * c, 3, 2, 1), norm(2 * c), nn.ReLU()) for c in (4, 8)]
    blocks = [reference_block(16) for _ in range(2)]
    transposed = [nn.ConvTranspose2d(2 * c, c, 3, 2, 1, output_padding=1) for c in (8, 4)]
    up = [nn.Sequential(layer, norm(layer.out_channels), nn.ReLU()) for layer in transposed]
    last = nn.Sequential(nn.ReflectionPad2d(3), nn.Conv2d(4, 3, 7), nn.Tanh())
    reference = nn.ModuleList([first, *down, *blocks, *up, last])
    ours = CycleGANGenerator(4, 2)
    for theirs, own in zip(reference.parameters(), ours.parameters(), strict=True):
        theirs.data = own.data.clone()
    images = torch.rand(2, 3, 16, 8) * 2 - 1
    expected = images
    for part in reference:
        expected = expected + part(expected) if part in blocks else part(expected)
    made_by_ours = ours(images)
    assert torch.allclose(made_by_ours, expected, atol=1e-6)
    made_by_ours.square().sum().backward()
    expected.square().sum().backward()
    for theirs, own in zip(reference.parameters(), ours.parameters()):
        assert torch.allclose(own.grad, theirs.grad, atol=1e-4)


NOT_DETERMINISTIC = ("ReflectionPad", "AdaptiveAvgPool", "AdaptiveMaxPool", "Upsample")  # their gradients on a GPU


def operations(result) -> set:
    "Names of everything that a result is computed from."
    nodes, unvisited = set(), [result.grad_fn]
    while unvisited:
        node = unvisited.pop()
        if node is not None and node not in nodes:
            nodes.add(node)
            unvisited += [before for before, _ in node.next_functions]
    return {node.name() for node in nodes}


@pytest.mark.parametrize("preset", [MINI, FULL], ids=["mini", "full"])
def test_gradients_of_generators_have_deterministic_implementations(preset):
    "On a device that is not the CPU; torch's `meta` has shapes and gradients, but no numbers."
    images, cameras = torch.rand(2, 3, 64, 64, device="meta"), torch.tensor([0, 5], device="meta")
    methods = [made(preset.resolved(experiment)).to("meta") for experiment in (STARGAN, SPGAN, DCGAN)]
    styles, translations, noise = methods
    results = [styles.translator(images, cameras), styles.discriminator(images)]
    results.append(styles.discriminator.camera_logits(images))
    results += [translations.translators["g"](images), translations.discriminators["source"](images)]
    results += [translations.siamese(images), noise.discriminator(noise.generator(torch.randn(2, 100, device="meta")))]
    for result in results:
        assert not [name for name in operations(result) if name.startswith(NOT_DETERMINISTIC)]


# ---- what `mini` changes


def test_the_published_runs_of_mini_are_what_they_were():
    "Descriptions from before the preset had a say, word for word: their runs keep their ids."
    unlabelled = dict(identity=None, metric=None)
    adam = dict(momentum=0.5, weight_decay=0.0)
    cyclegan = dict(
        method=dict(kind="cyclegan", target="duke", identity=0.5),
        batch=dict(images=4, instances=2),
        objective=unlabelled,
        schedule=dict(epochs=15.0, warmup=0, kind="linear", flat=7.5),
        optimiser=adam,
    )
    longer = dict(cyclegan, start=cyclegan, schedule=dict(epochs=5.0, warmup=0, kind="linear"))
    stargan = dict(
        method=dict(kind="stargan"),
        data="duke",
        batch=dict(images=8, instances=2),
        objective=unlabelled,
        schedule=dict(epochs=20.0, warmup=0, kind="linear", flat=10.0),
        optimiser=adam,
    )
    assert describe(MINI.resolved(CYCLEGAN)) == cyclegan
    assert describe(MINI.resolved(LONGER)) == longer
    assert describe(MINI.resolved(STARGAN)) == stargan
    spgan = dict(longer, method=dict(cyclegan["method"], similarity=2.0))
    assert describe(MINI.resolved(SPGAN)) == spgan


def test_pairs_of_real_images_are_another_edition():
    real = described("spgan-ladder", "spgan-real")
    assert describe(MINI.resolved(real))["method"]["edition"] == 2  # both domains have the pair


def test_to_resolve_twice_changes_nothing():
    for preset in (MINI, FULL):
        for experiment in (*all_generators(), Experiment(generator=SPGAN, start=Experiment())):
            resolved = preset.resolved(experiment)
            assert preset.resolved(resolved) == resolved
            assert validate(Experiment, describe(resolved), "") == resolved


def test_an_experiments_own_values_win():
    method = dict(kind="cyclegan", target="duke", identity=2.0)
    own = SPGAN.model_copy(update=dict(batch=Batch(images=7, instances=2), method=validate_method(method)))
    for preset in (MINI, FULL):
        assert preset.resolved(own).method.identity == 2
        assert preset.resolved(own).batch.images == 7


def validate_method(values):
    return Experiment(method=values, objective=dict(identity="none", metric="none")).method


def test_documented_networks_are_a_row_at_mini():
    documented = MINI.resolved(described("spgan-ladder", "cyclegan-documented"))
    assert documented.method.documented and documented.method.identity == 5
    assert not MINI.resolved(CYCLEGAN).method.documented


def test_an_identity_loss_wants_a_batch_of_four():
    with pytest.raises(ConfigurationError, match="batch: images = 1, instances = 4: expected images of two identities"):
        validate(Experiment, dict(batch=dict(images=1)), "row")


def test_rows_say_where_mini_has_stand_ins():
    for slug in ("spgan-ladder", "spgan-sweeps", "ptgan"):
        table = load_table(slug)
        for name, experiment in table.experiments.items():
            of = experiment if experiment.method.generates else experiment.generator
            stand_in = of is not None and not MINI.resolved(of).method.documented
            assert ("(stand-in at mini)" in table.names[name]) == stand_in, name


# ---- every documented network trains, and its images have the size that re-ID wants

RECIPE = [name for name in type(FULL).model_fields if name.startswith(("cyclegan_", "stargan_"))]
RECIPE = [name for name in RECIPE if name != "cyclegan_blocks"] + ["gan_structure", "gan_enlarge"]


@pytest.fixture(scope="module")
def small_full(tmp_path_factory):
    "The recipe of `full`, networks and images of `smoke`."
    recipe = {name: getattr(FULL, name) for name in RECIPE}
    store = str(tmp_path_factory.mktemp("store"))
    return load_preset("smoke").model_copy(update=dict(recipe, store=store, device="cpu", gan_steps=1))


@pytest.mark.parametrize("experiment", [SPGAN, PTGAN, STARGAN, DCGAN], ids=["spgan", "ptgan", "stargan", "dcgan"])
def test_documented_networks_train(small_full, experiment):
    archive = Archive(small_full, published=False)
    record = run(experiment, small_full, archive=archive)
    assert record["steps"] > 0 and all(np.isfinite(value) for value in record["final"].values())
    assert record["experiment"]["method"]["documented"] is True
    method = load_trained(record, experiment, small_full, archive=archive)
    scale = small_full.resolved(experiment).image_scale
    assert method.image == image_size(small_full, scale)  # of crops: images are decoded larger
    images = images_of_generator(experiment, experiment.data, small_full, seed=0, archive=archive)
    real = open_data(experiment.data, small_full, "train")
    assert images.size == small_full.image_size == real.size
    assert images[np.arange(4)].std() > 0
