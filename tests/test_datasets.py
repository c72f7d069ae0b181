"Data, batch and steps of an experiment under a preset."

from reidnb.catalogue.experiment import Experiment
from reidnb.runs.datasets import batch_images, data_fingerprint, total_steps
from reidnb.runs.presets import load_preset

SMOKE, MINI, FULL = (load_preset(name) for name in ("smoke", "mini", "full"))
LARGE = Experiment(batch=dict(images=128))


def test_a_larger_batch_takes_fewer_steps():
    "300 steps of 64 images stand for 120 epochs; a batch of 128 takes half as many steps, as in the documents."
    assert total_steps(Experiment(), MINI, 14) == 300
    assert total_steps(LARGE, MINI, 7) == 150
    assert batch_images(LARGE, MINI) == 128
    assert batch_images(Experiment(), SMOKE) == 16


def test_real_epochs_follow_the_data():
    assert total_steps(Experiment(), FULL, 200) == 24_000


def test_drawn_data_has_its_fingerprint_before_it_is_drawn(tmp_path):
    elsewhere = MINI.model_copy(update=dict(store=str(tmp_path)))
    fingerprint = data_fingerprint("market", elsewhere)
    assert data_fingerprint("market", MINI) == fingerprint != data_fingerprint("market", SMOKE)
    assert not any(tmp_path.iterdir())
