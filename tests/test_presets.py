"settings.ini: what the presets are, and one line for each mistake."

import pytest

from reidnb.catalogue.experiment import Experiment
from reidnb.catalogue.experiments import load_table
from reidnb.core.configuration import ConfigurationError
from reidnb.core.project import project_root
from reidnb.runs.datasets import run_id
from reidnb.runs.execute import context_of, training_plan
from reidnb.runs.presets import load_preset, preset_names


def test_presets_scale_from_a_laptop_to_the_documents_settings():
    mini, full = load_preset("mini"), load_preset("full")
    assert mini.data == "drawn"
    assert full.network_size("resnet50").blocks == (3, 4, 6, 3)
    assert full.learning_rate == 0.00035
    assert preset_names() == ["smoke", "mini", "mini-real", "full"]


def test_training_values_are_those_of_the_method():
    mini = load_preset("mini")
    generator = Experiment(method="dcgan", objective=dict(identity="none", metric="none"))
    generated = mini.training_values(generator)
    assert generated["network"] == {"width": mini.gan_width, "blocks": mini.gan_blocks}
    assert (generated["steps"], generated["learning_rate"]) == (mini.gan_steps, mini.gan_rate)
    assert mini.training_values(Experiment())["network"]["blocks"] == [1, 1, 2, 1]
    assert mini.training_values(Experiment(method="vpm"))["steps"] == mini.vpm_steps


def test_a_reduced_rate_is_the_presets():
    "Recipes that collapse in small networks train at 0.3 there, and at the documents' rate at full (004, line 22)."
    for slug, name in (("tricks-ladder", "standard"), ("tricks-ladder", "center"), ("vpm-first", "normal")):
        experiment = load_table(slug).experiments[name]
        assert experiment.schedule.rate == "reduced"
        rates = {preset: load_preset(preset).schedule_of(experiment).rate for preset in preset_names()}
        assert rates == {"smoke": 0.3, "mini": 0.3, "mini-real": 0.3, "full": 1.0}


def test_a_named_rate_is_the_run_that_its_number_is():
    "Also where it stands in a run that another one starts from."
    mini = load_preset("mini")
    named, number = (Experiment(schedule=dict(rate=rate)) for rate in ("reduced", mini.reduced_rate))
    assert run_id(named, mini, 0) == run_id(number, mini, 0)
    assert run_id(Experiment(start=named), mini, 0) == run_id(Experiment(start=number), mini, 0)
    assert training_plan(context_of(named, mini), mini, 10).schedule == number.schedule


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("network_width = 16", "network_width = 0", "network_width = '0'"),
        ("[mini]", "[mini]\nnetwork_widht = 8", "unknown key 'network_widht' (did you mean 'network_width'?)"),
        ("blocks_resnet18 = 1 1 1 1", "blocks_resnet18 = 1 1 1", "four whole numbers"),
        ("data = drawn", "data = painted", "'drawn' or 'real'"),
        ("[mini]", "[mini]\nthis is no setting", "parsing"),
        ("reduced_rate = 0.3", "reduced_rate = 0", "reduced_rate = '0'"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, old, new, message):
    assert message in complaint(tmp_path, old, new)


def test_a_mistake_names_its_section(tmp_path):
    assert "[smoke]" not in complaint(tmp_path, "[mini]", "[mini]\nnetwork_width = 0")


def test_an_unknown_preset_names_the_nearest(tmp_path):
    assert "did you mean 'mini'" in complaint(tmp_path, name="minni")


def complaint(folder, old="", new="", name="mini") -> str:
    "The error that an edited copy of settings.ini gets."
    text = (project_root() / "settings.ini").read_text()
    assert old in text
    file = folder / "settings.ini"
    file.write_text(text.replace(old, new))
    with pytest.raises(ConfigurationError) as error:
        load_preset(name, file)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_folders_come_from_the_environment_first(tmp_path, monkeypatch):
    file = tmp_path / "settings.ini"
    file.write_text((project_root() / "settings.ini").read_text())
    monkeypatch.setenv("REIDNB_STORE", "elsewhere")
    monkeypatch.delenv("REIDNB_DATA_ROOT", raising=False)
    preset = load_preset("mini", file)
    assert preset.store == str(tmp_path / "elsewhere")
    assert preset.data_root == str(tmp_path / "data" / "real")


def test_no_clone_is_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("REIDNB_HOME", str(tmp_path))
    with pytest.raises(ConfigurationError, match="no clone of reidnb here"):
        project_root()
