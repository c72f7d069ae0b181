"settings.ini: what the presets are, and one line for each mistake."

import pytest

from reidnb.catalogue.experiment import Experiment
from reidnb.catalogue.experiments import load_table
from reidnb.core.configuration import ConfigurationError
from reidnb.core.project import project_root
from reidnb.runs.datasets import run_id
from reidnb.runs.execute import context_of, training_plan
from reidnb.runs.presets import load_preset, preset_names
from reidnb.runs.records import run_identity
from reidnb.training.configuration import Optimiser


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


def test_settings_of_one_method_count_for_its_runs_alone():
    mini, start = load_preset("mini"), Experiment(data="duke")
    method = dict(kind="pseudo_labels", target="duke")
    kmeans = Experiment(data="market", start=start, method=method | dict(target="market", clustering="kmeans"))
    dbscan = Experiment(data="market", start=start, method=method | dict(target="market"))
    assert mini.training_values(kmeans)["clusters"] == mini.clusters and "rho" not in mini.training_values(kmeans)
    assert mini.training_values(dbscan)["rho"] == mini.rho and "clusters" not in mini.training_values(dbscan)
    assert not {"rho", "clusters", "ssg_rate"} & set(mini.training_values(start))


@pytest.mark.parametrize("name", ["smoke", "mini"])
def test_clusters_follow_the_density_of_drawn_data(name):
    preset = load_preset(name)
    of_one_identity = (preset.images - 1) / (preset.identities * preset.images - 1)  # share of all pairs
    assert preset.rho / of_one_identity == pytest.approx(1.2, rel=0.02)
    assert preset.clusters == preset.identities


def test_pseudo_labels_at_full_are_those_of_the_sources():
    full = load_preset("full")
    assert (full.clusters, full.rho, full.ssg_rate) == (1000, 0.0016, 6e-5)
    for name in ("mini", "mini-real"):
        preset = load_preset(name)
        assert preset.ssg_rate / preset.learning_rate == pytest.approx(full.ssg_rate / full.learning_rate, rel=0.02)


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


def test_sgd_is_the_documents_or_replaced():
    "Under `full` IDE learns with the rate of 003:433; under `mini` Adam replaces SGD, and the run is the one that Adam trained."
    ide = load_table("ide").experiments["to-duke-ide-16"]
    mini, full = load_preset("mini"), load_preset("full")
    assert full.optimiser_of(ide) == ide.optimiser and ide.optimiser.algorithm == "sgd"
    assert full.rate_of(ide) * ide.schedule.rate == pytest.approx(0.001)
    assert mini.optimiser_of(ide) == Optimiser() and mini.rate_of(ide) == mini.learning_rate
    with_adam = ide.model_copy(update=dict(optimiser=Optimiser()))
    assert run_identity(ide, mini, "data", seed=0) == run_identity(with_adam, mini, "data", seed=0)
    assert run_identity(ide, full, "data", seed=0) != run_identity(with_adam, full, "data", seed=0)


def test_what_a_run_builds_on_is_resolved_too():
    ide = load_table("ide").experiments["to-duke-ide"]
    ensemble = Experiment(method="ensemble", members=(ide, ide), start=None)
    assert [member.optimiser for member in load_preset("mini").resolved(ensemble).members] == [Optimiser()] * 2
