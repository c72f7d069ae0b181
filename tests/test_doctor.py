"The doctor: which presets can run, and what the others lack."

from reidnb.runs.doctor import examine, missing_requirements
from reidnb.runs.presets import load_preset


def test_mini_is_ready_on_any_machine():
    assert any(line.startswith("preset mini ") and "ready" in line for line in examine())
    assert missing_requirements(load_preset("mini"), gpu=False) == []


def test_full_needs_market_and_a_gpu():
    full = load_preset("full").model_copy(update=dict(data_root="nowhere"))
    assert full.weights == "imagenet"
    assert any("Market-1501" in sentence for sentence in missing_requirements(full, gpu=True))
    assert any("GPU" in sentence for sentence in missing_requirements(full, gpu=False))


def test_a_lost_weights_file_is_named():
    preset = load_preset("mini").model_copy(update=dict(weights="lost.safetensors"))
    assert "file" in missing_requirements(preset, gpu=False)[0]
