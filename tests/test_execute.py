"`run` leaves a record and `score` leaves scores, at preset smoke."

import time
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from reidnb.augmentation.configuration import Augmentation
from reidnb.catalogue.experiment import Experiment
from reidnb.data.batches import contiguous_labels
from reidnb.data.generated import colour_statistics
from reidnb.data.samples import DataError
from reidnb.data.unlabelled import mask_store
from reidnb.evaluation.configuration import Protocol
from reidnb.losses.attributes_options import Attributes
from reidnb.losses.objective import Objective
from reidnb.methods.base import as_array, as_tensor
from reidnb.models.configuration import AttributeHeads, Bottleneck, Embedding
from reidnb.runs.datasets import data_fingerprint, image_folder, open_data, run_id
from reidnb.runs.execute import (
    WEIGHTS,
    context_of,
    generated_images_for,
    load_trained,
    prepare,
    run,
    run_and_score,
    score,
    train,
    trained_tensors,
)
from reidnb.runs.presets import Preset, load_preset
from reidnb.runs.records import Archive
from reidnb.training.checkpoints import CheckpointError

BASELINE = Experiment()
RETRIEVAL = Protocol()
UNLABELLED = dict(identity="none", metric="none")


class Store(NamedTuple):
    "A preset with a store of its own."

    preset: Preset
    archive: Archive

    @classmethod
    def at(cls, folder) -> "Store":
        preset = load_preset("smoke").model_copy(update=dict(store=str(folder)))
        return cls(preset, Archive(preset, published=False))

    def run(self, experiment, name="", seed=0) -> dict:
        return run(experiment, self.preset, seed, name=name, archive=self.archive)

    def scores(self, experiment, protocol=RETRIEVAL, name="", seed=0) -> dict:
        scored = run_and_score(experiment, self.preset, seed, protocols=[protocol], name=name, archive=self.archive)
        return scored[0]

    def loaded(self, experiment):
        "The trained method of a run."
        return load_trained(self.run(experiment), experiment, self.preset, archive=self.archive)

    def tensors(self, experiment) -> dict:
        "Trained tensors of a run."
        return trained_tensors(self.run(experiment), self.archive)

    def generated(self, experiment):
        "Images that the experiment's generator makes for it."
        return generated_images_for(experiment, self.preset, 0, archive=self.archive)

    def prepared(self, experiment, **context):
        "A method and its batches before the first step."
        return prepare(context_of(experiment, self.preset, **context))

    def images(self, name):
        "Training images of a data set."
        return open_data(name, self.preset, "train")


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    return Store.at(tmp_path_factory.mktemp("store"))


def generator(kind, **experiment) -> Experiment:
    "A run that learns to generate images."
    optimiser, schedule = dict(momentum=0.5, weight_decay=0.0), dict(epochs=20, warmup=0)
    return Experiment(method=kind, objective=UNLABELLED, optimiser=optimiser, schedule=schedule, **experiment)


def translator() -> Experiment:
    return generator(dict(kind="cyclegan", target="duke"))


def pixels(count, preset) -> torch.Tensor:
    "Random images."
    return torch.randn(count, 3, *preset.image_size, generator=torch.Generator().manual_seed(0))


# ---- a run


def test_a_run_in_another_store_gives_the_same_scores_to_the_last_bit(store, tmp_path):
    first = store.scores(BASELINE, name="baseline")
    second = Store.at(tmp_path).scores(BASELINE, name="baseline")
    assert first["summary"] == second["summary"] and first["ap"] == second["ap"]


def test_a_run_with_a_record_is_not_run_again(store):
    first = store.scores(BASELINE, name="baseline")
    began = time.perf_counter()
    assert store.scores(BASELINE, name="baseline") == first
    assert time.perf_counter() - began < 1
    assert store.archive.read(first["run"])["run"] == first["run"]


def test_another_seed_gives_other_scores(store):
    assert store.scores(BASELINE, seed=1)["ap"] != store.scores(BASELINE)["ap"]


def test_a_later_protocol_tests_the_weights_that_were_saved(store):
    record = store.run(BASELINE)
    protocol = Protocol(data="partial_ilids", distance="euclidean")
    later = score(record, BASELINE, protocol, preset=store.preset, archive=store.archive)
    assert later["queries"] == store.preset.ilids_identities and later["run"] == record["run"]


def test_a_published_record_without_weights_is_not_tested(tmp_path):
    "Its scores come from a training on another machine; one's own run is trained again (test_damage)."
    alone = Store.at(tmp_path)
    record = alone.run(BASELINE)
    (alone.archive.run_folder(record["run"]) / WEIGHTS).unlink()
    alone.archive.published, published = True, tmp_path / "published"
    alone.archive.local_folder.rename(published)
    alone.archive.folders = [alone.archive.local_folder, published]
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        score(record, BASELINE, Protocol(distance="euclidean"), preset=alone.preset, archive=alone.archive)


def test_attribute_classifiers_come_back_in_the_order_of_their_training(store):
    experiment = Experiment(model=Embedding(attributes=AttributeHeads()), objective=Objective(attributes=Attributes()))
    trained = train(context_of(experiment, store.preset), store.preset)
    sizes = trained.prepared.batches.attribute_sizes
    loaded = store.loaded(experiment)
    assert loaded.attribute_names == list(sizes) != sorted(sizes)
    images = pixels(4, store.preset)
    expected = trained.training.trained().eval().attributes(images)
    assert torch.equal(loaded.eval().attributes(images), expected)


# ---- images that another run generates


def test_translations_stand_in_the_place_of_the_source_row_by_row(store):
    experiment = Experiment(generator=translator())
    record = store.run(experiment, "translated")
    generated = store.generated(experiment)
    of_generator = store.run(experiment.generator)
    assert of_generator["experiment"]["method"]["kind"] == "cyclegan"
    assert of_generator["finished"] <= record["finished"]
    assert of_generator["run"] in str(generated.path)
    rows, method = np.arange(3), store.loaded(experiment.generator)
    source = as_tensor(store.images("market")[rows], "cpu")
    assert (generated[rows] == as_array(method.translate(source, "market"))).all()
    batch = store.prepared(experiment, generated=generated).batches[0]
    assert (as_array(batch["image"]) == generated[batch["row"].numpy()]).all()
    runs = {run_id(BASELINE, store.preset, 0), record["run"], run_id(experiment, store.preset, 1)}
    assert len(runs) == 3


def test_one_training_translates_in_both_directions(store):
    backwards = Experiment(data="duke", generator=translator())
    assert run_id(backwards.generator, store.preset, 0) == run_id(translator(), store.preset, 0)


def test_mean_colours_are_those_of_the_other_data(store):
    matched = store.prepared(Experiment(method=dict(kind="supervised", match_colours="duke"))).batches.store
    difference = colour_statistics(matched) - colour_statistics(store.images("duke"))
    assert np.abs(difference).max() < 12  # colours are clipped


def test_images_from_noise_stand_beside_real_ones(store):
    experiment = Experiment(
        method=dict(kind="lsro", share=0.5), generator=generator("dcgan"), objective=Objective(metric=None)
    )
    batch = store.prepared(experiment, generated=store.generated(experiment)).batches[0]
    assert len(batch["target"]) == len(batch["image"]) // 2
    assert store.run(experiment, "lsro")["final"]["identity"] > 0


def test_camera_styles_stand_beside_the_target(store):
    experiment = Experiment(
        method=dict(kind="hhl", target="duke", sampling="clustered"),
        generator=generator("stargan", data="duke"),
        model=Embedding(bnneck=False, bottleneck=Bottleneck(dim=1024, slope=0.0, dropout=0.5)),
        objective=Objective(metric=None),
    )
    record = store.run(experiment, "styles")
    cameras = store.images("duke").samples["camid"].nunique()
    start = store.tensors(BASELINE)
    batch = store.prepared(experiment, generated=store.generated(experiment), start=start).batches[0]
    identities, counts = np.unique(batch["triplet_label"], return_counts=True)
    assert len(identities) == 2 and set(counts) == {8}  # of identities with five images each (003, line 158)
    assert len(np.unique(batch["row"])) == 16 and len(np.unique(batch["label"])) > 4  # no groups of four
    assert store.generated(experiment).shape[1] == cameras
    assert record["final"]["triplets"] > 0
    moved = store.scores(experiment, Protocol(data="duke", task="change", change="style"))
    assert 0 <= moved["summary"]["distance"] < 2


def test_camera_styles_in_closed_form_need_no_generator(store):
    model = Embedding(bnneck=False, bottleneck=Bottleneck(dim=1024, slope=0.0, dropout=0.5))
    cameras = store.images("duke").samples["camid"].nunique()
    for styles in ("colours", "copies"):
        method = dict(kind="hhl", target="duke", triplets="C", styles=styles)
        batch = store.prepared(Experiment(method=method, model=model, objective=Objective(metric=None))).batches[0]
        assert batch["styles"].shape[:2] == (len(batch["target"]), cameras)
        difference = (batch["styles"].float() - batch["target"][:, None].float()).abs().amax((2, 3, 4))
        assert (difference.amin(1) == 0).all() and (difference.amax(1) > 0).all() == (styles == "colours")


def test_sgd_trains_where_a_preset_does_not_replace_it(store):
    sgd = dict(algorithm="sgd", rate=0.05, nesterov=True, backbone_rate=0.1)
    experiment = Experiment(optimiser=sgd)
    preset = store.preset.model_copy(update=dict(replace_sgd=False))
    as_documented = Store(preset, Archive(preset, published=False))
    record, replaced = as_documented.run(experiment, "sgd"), store.run(experiment, "sgd")
    assert record["experiment"]["optimiser"]["algorithm"] == "sgd" and record["size"]["learning_rate"] == 0.05
    assert replaced["experiment"]["optimiser"] == dict(backbone_rate=0.1)
    assert replaced["size"]["learning_rate"] == preset.learning_rate and record["run"] != replaced["run"]
    assert record["final"]["rate"] / replaced["final"]["rate"] == pytest.approx(0.05 / preset.learning_rate, rel=1e-2)


# ---- pseudo-labels


def clustered(method="pseudo_labels", **changes) -> Experiment:
    "A run on clusters of the target's images, by the features of the baseline."
    method = dict(kind=method, target="duke", clustering="kmeans")
    return Experiment(**(dict(data="duke", start=BASELINE, method=method) | changes))


def test_each_round_of_pseudo_labels_starts_from_the_one_before(store):
    first_round = clustered()
    second_round = clustered(start=first_round)
    second = store.run(second_round, "round 2")
    first = store.run(first_round)
    for record in (first, second):  # clusters of a single image are left out
        assert record["pseudo"]["clusters"] == record["classes"] <= store.preset.clusters
    assert 0 < first["pseudo"]["ARI"] < 1
    assert second["finished"] >= first["finished"]
    prepared = store.prepared(second_round, start=store.tensors(first_round))
    assert all(abs(prepared.measures[name] - value) < 1e-4 for name, value in second["pseudo"].items())


def test_identities_of_the_source_keep_their_labels(store):
    joined = clustered(data="market_duke")
    batches = store.prepared(joined, start=store.tensors(BASELINE)).batches
    samples = store.images("market_duke").samples
    source = np.flatnonzero((samples["domain"] == "market").to_numpy())
    labels = dict(zip(batches.rows.tolist(), batches.labels.tolist()))
    assert [labels[row] for row in source] == contiguous_labels(samples.iloc[source]).tolist()
    assert batches.classes == store.preset.identities + store.run(clustered())["classes"]


@pytest.mark.parametrize(("method", "objective"), [("ssg", dict(identity="none")), ("dec", UNLABELLED)])
def test_other_methods_learn_from_clusters(store, method, objective):
    scores = store.scores(clustered(method, objective=objective), Protocol(data="duke"), name=method)
    assert 0 < scores["summary"]["mAP"] < 1


def test_too_few_clusters_for_a_batch_are_refused(store):
    method = clustered().method.model_copy(update=dict(clusters=0.05))
    few = clustered().model_copy(update=dict(method=method))
    message = "kmeans gives 2 clusters in the 80 images of duke, but a batch needs 4"
    with pytest.raises(DataError, match=message):
        store.prepared(few, start=store.tensors(BASELINE))


# ---- an ensemble, and masks


def test_an_ensemble_trains_nothing_and_has_the_vectors_of_its_members(store):
    members = (BASELINE, Experiment(repetition=1))
    ensemble = Experiment(method="ensemble", members=members)
    record = store.archive.read(store.scores(ensemble, name="two")["run"])
    assert record["steps"] == 0 and record["final"] == {}
    assert len(record["experiment"]["members"]) == 2
    images = pixels(3, store.preset)
    vectors = store.loaded(ensemble).eval().embed(images)
    for part, member in zip(vectors.chunk(2, 1), members):
        own = store.loaded(member).eval().embed(images)
        assert torch.allclose(part * 2**0.5, normalize(own), atol=1e-6)


def test_masks_travel_with_their_images_where_backgrounds_are_exchanged(store):
    experiment = Experiment(augmentation=Augmentation(background=0.5))
    assert store.run(experiment, "exchanged backgrounds")["run"] != run_id(BASELINE, store.preset, 0)
    batch = store.prepared(experiment).batches[1]
    content = data_fingerprint("market", store.preset)
    masks = mask_store(store.images("market"), str(image_folder(store.preset)), content)
    assert (batch["mask"][:, 0].numpy() == masks[batch["row"].numpy()][..., 0] / np.float32(255)).all()
