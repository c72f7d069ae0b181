"Trained weights: what a file holds, what each preset's networks start from, and that nothing of it is lost."

import os
import pickle
import subprocess
import sys
from itertools import product

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torchvision.models import get_model, resnet18, resnet50

from reidnb.cli import main
from reidnb.core.configuration import ConfigurationError
from reidnb.models.backbones import new_backbone
from reidnb.models.blocks import add_parts, make_network
from reidnb.models.branches import BranchNet
from reidnb.models.configuration import PUBLISHED_BLOCKS, Branches, Embedding, RatioHead, Size
from reidnb.models.embedding import EmbeddingNet
from reidnb.models.ratio import RatioNet
from reidnb.models.weights import DOWNLOADS, download, published_name
from reidnb.models.weights_options import Source, published_source
from reidnb.runs.doctor import missing_requirements, starting_points, weights_of
from reidnb.runs.presets import load_preset
from reidnb.runs.weight_files import describe_weight_file, read_weight_file

MINI = Size(width=16, blocks=(1, 1, 2, 1), stem="3x3", residual_gamma=0.25)
HRNET = Embedding(backbone="timm/hrnet_w18", last_stride=2)


@pytest.fixture(scope="module")
def plain():
    "torchvision's ResNet-18, for which a test is quick."
    torch.manual_seed(0)
    return resnet18().state_dict()


class Harmful:
    "A pickle that would make a folder."

    def __reduce__(self):
        return os.mkdir, ("harmed",)


def test_code_in_a_pickle_is_not_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "harm.pth").write_bytes(pickle.dumps(Harmful(), protocol=2))
    torch.save({"model": Harmful()}, tmp_path / "wrapped.pth")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pth")
    for name, called in (
        ("harm", "posix.mkdir"),
        ("wrapped", "posix.mkdir"),
        ("module", "torch.nn.modules.linear.Linear"),
    ):
        assert main(["weights", f"{name}.pth"]) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1 and f"it calls {called}, which was not run" in lines[0]
    assert not (tmp_path / "harmed").exists()


@pytest.mark.parametrize("wrappers", [(), ("model",), ("state_dict",), ("net",), ("model", "state_dict")])
@pytest.mark.parametrize("prefix", ["", "module.", "module.base.", "backbone."])
def test_checkpoints_are_unwrapped(tmp_path, wrappers, prefix):
    tensors = {"conv1.weight": torch.rand(2, 3), "fc.bias": torch.rand(2)}
    content = {f"{prefix}{name}": tensor for name, tensor in tensors.items()}
    for key in reversed(wrappers):
        content = {key: content, "epoch": 120, "optimizer": {"state": {0: {"step": torch.ones(1)}}}}
    torch.save(content, tmp_path / "old.pth")
    file = read_weight_file(tmp_path / "old.pth")
    assert file.wrappers == list(wrappers) and "".join(file.prefixes) == prefix
    assert file.tensors.keys() == tensors.keys()
    assert all(torch.equal(file.tensors[name], tensors[name]) for name in tensors)


def test_a_pth_file_is_converted(tmp_path, plain):
    torch.save({"net": {f"module.{name}": tensor for name, tensor in plain.items()}}, tmp_path / "old.pth")
    new = tmp_path / "new.safetensors"
    assert main(["weights", str(tmp_path / "old.pth"), "--to", str(new)]) == 0
    converted = load_file(new)
    assert converted.keys() == plain.keys() and all(torch.equal(converted[name], plain[name]) for name in plain)
    net = make_network(Embedding(backbone="resnet18"), Size(weights=str(new)))
    assert torch.equal(net.layer4[1].conv2.weight, plain["layer4.1.conv2.weight"])


def test_a_file_says_what_it_holds(tmp_path, plain):
    torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in plain.items()}}, tmp_path / "r18.pth")
    lines = describe_weight_file(tmp_path / "r18.pth")
    assert "122 tensors, 11.70 million numbers, 46.8 MB" in lines[0]
    said = ["wrapped in state_dict", "prefixes module. stripped", "left out fc.weight, fc.bias"]
    assert lines[1:] == [*said, "fits resnet18, and the same with more in its blocks"]
    save_file(
        {name: tensor for name, tensor in plain.items() if name != "layer1.0.bn1.bias"}, tmp_path / "less.safetensors"
    )
    last = describe_weight_file(tmp_path / "less.safetensors")[-1]
    assert "no backbone; nearest is resnet18 (1 missing, the first layer1.0.bn1.bias)" in last


@pytest.mark.parametrize("model", [Embedding(se=True, ibn="a"), Embedding(ibn="b"), HRNET], ids=["se-a", "b", "hrnet"])
def test_layouts_are_recognised(tmp_path, model):
    net = make_network(model, Size())
    if model.of_timm:
        tensors = net.net.state_dict()
    else:
        tensors = {published_name(name): tensor for name, tensor in net.state_dict().items()}
    save_file(tensors, tmp_path / "net.safetensors")
    name = dict(a="se_ibn_a_resnet50", b="ibn_b_resnet50").get(model.ibn, "hrnet_w18")
    assert f" {name}," in describe_weight_file(tmp_path / "net.safetensors")[-1]


def test_files_that_are_no_weights_are_refused_in_a_line(tmp_path, capsys):
    (tmp_path / "text.pth").write_text("nothing")
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    (tmp_path / "there.safetensors").write_bytes(b"")
    torch.save({"weight": torch.ones(2)}, tmp_path / "one.pth")
    for arguments, reason in (
        (["nowhere.pth"], "no such file"),
        ([str(tmp_path / "text.pth")], "text.pth"),
        ([str(tmp_path / "empty.pth")], "no tensors; expected tensors by name, or under state_dict"),
        ([str(tmp_path / "one.pth"), "--to", str(tmp_path / "there.safetensors")], "name of a new file"),
    ):
        assert main(["weights", *arguments]) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1 and reason in lines[0]


def test_a_pth_file_names_the_command_that_converts_it(tmp_path, plain):
    torch.save(plain, tmp_path / "r18.pth")
    with pytest.raises(ConfigurationError, match="'reidnb weights .*r18.pth --to NEW.safetensors' converts"):
        make_network(Embedding(backbone="resnet18"), Size(weights=str(tmp_path / "r18.pth")))


def test_a_folder_serves_each_backbone_and_a_file_only_its_own(tmp_path, plain):
    save_file(plain, tmp_path / "resnet18.safetensors")
    torch.manual_seed(1)
    save_file(resnet50().state_dict(), tmp_path / "resnet50.safetensors")
    for backbone in ("resnet18", "resnet50"):
        make_network(Embedding(backbone=backbone), Size(weights=str(tmp_path)))
    with pytest.raises(ConfigurationError, match="resnet101.safetensors: no such file"):
        make_network(Embedding(backbone="resnet101"), Size(weights=str(tmp_path)))
    one = Size(weights=str(tmp_path / "resnet50.safetensors"))
    with pytest.raises(ConfigurationError, match="for resnet18: its tensors do not fit"):
        make_network(Embedding(backbone="resnet18"), one)
    size = Size(blocks=(3, 4, 6, 3), weights=str(tmp_path))
    ratio = RatioNet(RatioHead(depth=4), size)  # a published ResNet-18, whatever the main network's depth
    assert torch.equal(ratio.net.layer4[1].conv2.weight, plain["layer4.1.conv2.weight"])
    assert len(RatioNet(RatioHead(), one).net.layer1) == 2  # a file holds the main network: random weights


def test_se_from_nothing_starts_as_before():
    torch.manual_seed(0)
    net = make_network(Embedding(se=True), MINI)
    assert torch.equal(net.layer1[0].bn3[0].weight, torch.full((64,), 0.5))
    assert float(net.layer1[0].bn3[1].fc2.weight.detach().abs().sum()) > 0


def test_what_does_not_apply_to_timm_is_refused():
    net = EmbeddingNet(HRNET, MINI.model_copy(update=dict(blocks=(1, 1, 1, 1))))
    images = torch.randn(2, 3, 64, 32)
    assert net(images)["bn"].shape == (2, 512)
    with pytest.raises(ConfigurationError, match="kernels of timm's networks"):
        net(images, dilation=torch.ones(2))
    with pytest.raises(ConfigurationError, match="expected a residual network"):
        BranchNet(HRNET, Branches(), MINI)


def test_offline_a_download_is_refused_in_a_line(monkeypatch):
    def offline(*_, **__):
        raise OSError("<urlopen error [Errno -3] Temporary failure in name resolution>\nmore")

    monkeypatch.setattr("torch.hub.load_state_dict_from_url", offline)
    monkeypatch.setattr("timm.create_model", offline)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    for options in (dict(), dict(se=True), dict(ibn="a")):
        source = published_source(Embedding(**options))
        with pytest.raises(ConfigurationError, match="could not be downloaded .*; go online once, or put") as error:
            make_network(Embedding(**options), Size(weights="imagenet"))
        assert "\n" not in str(error.value) and str(source) in str(error.value)
    with pytest.raises(ConfigurationError, match="hrnet_w18.safetensors into a folder"):
        download(Source("timm", "hrnet_w18", ""), "hrnet_w18")


def test_v1_is_the_first_version_and_what_it_changes_has_another_id():
    full = load_preset("full")
    assert published_source(Embedding(), full.weights).tag == "IMAGENET1K_V1"
    sizes = [full.network_size(name) for name in ("resnet50", "timm/hrnet_w18")]
    assert [size.edition for size in sizes] == [2, 2]
    assert load_preset("mini").network_size("resnet50").edition == 1
    assert len(starting_points()) == 25


def test_the_doctor_says_what_networks_start_from(tmp_path):
    full = load_preset("full")
    assert "imagenet weights ('reidnb weights'" in weights_of(full)
    (tmp_path / "resnet50.safetensors").write_bytes(b"")
    assert weights_of(full.model_copy(update=dict(weights=str(tmp_path)))).endswith("for resnet50")
    lost = full.model_copy(update=dict(weights="imagnet"))
    assert any("the weights imagnet" in sentence for sentence in missing_requirements(lost, gpu=True))


def test_plans_do_not_load_timm():
    probe = "import sys; from reidnb.cli import main; main(['weights']); main(['plan', 'contest-ensemble']); "
    probe += "print({'torch', 'timm'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.endswith("set()\n"), done.stderr


def test_a_record_says_what_was_loaded_and_a_test_needs_it_no_more(tmp_path):
    from reidnb.catalogue.experiment import Experiment
    from reidnb.evaluation.configuration import Protocol
    from reidnb.runs.execute import run, score
    from reidnb.runs.records import Archive

    smoke = load_preset("smoke").model_copy(update=dict(store=str(tmp_path), steps=1))
    torch.manual_seed(0)
    trained = make_network(Embedding(), smoke.network_size("resnet50")).state_dict()
    prefixed = {f"module.{name}": tensor for name, tensor in trained.items()}
    file = tmp_path / "resnet50.safetensors"
    save_file(prefixed | {"module.fc.bias": torch.ones(3)}, file)
    preset = smoke.model_copy(update=dict(weights=str(file)))
    experiment = Experiment(schedule=dict(rate=1e-9))
    record = run(experiment, preset, archive=Archive(preset, published=False))
    assert (
        record["weights"] == f"{file}; prefixes module. stripped; left out fc.bias"
        and record["size"]["network"]["edition"] == 2
    )
    moved = load_file(tmp_path / "runs" / record["run"] / "weights.safetensors")
    assert torch.allclose(moved["net.backbone.layer2.0.conv2.weight"], trained["layer2.0.conv2.weight"], atol=1e-5)
    file.unlink()
    scores = score(record, experiment, Protocol(), preset=preset, archive=Archive(preset, published=False))
    assert 0 < scores["summary"]["mAP"] <= 1


def ibn_net_layout(source):
    "Names and shapes of IBN-Net's files: linear gates without bias, and a classifier."
    backbone = source.network.removeprefix("se_")[: -len("_ibn_a")]
    net = new_backbone(Embedding(backbone=backbone), Size())
    add_parts(net, sorted(source.parts))
    tensors = {published_name(name): tensor for name, tensor in net.state_dict().items()}
    gates = {name for name in tensors if ".se.fc" in name}
    rest = {name: tensor for name, tensor in tensors.items() if name not in gates}
    linear = {n.replace("fc1", "fc.0").replace("fc2", "fc.2"): tensors[n] for n in gates if n.endswith("weight")}
    return rest | {n: tensor[:, :, 0, 0] for n, tensor in linear.items()} | {"fc.weight": torch.ones(1)}


def test_each_backbone_of_the_notes_takes_its_own_weights(monkeypatch):
    "On torch's meta device: names and shapes alone."
    monkeypatch.setitem(DOWNLOADS, "torchvision", lambda source: get_model(source.network).state_dict())
    monkeypatch.setitem(DOWNLOADS, "timm", lambda source: timm.create_model(source.network).state_dict())
    monkeypatch.setitem(DOWNLOADS, "IBN-Net", ibn_net_layout)
    with torch.device("meta"):
        for backbone, se, ibn in product(PUBLISHED_BLOCKS, (False, True), (None, "a", "b")):
            net = make_network(Embedding(backbone=backbone, se=se, ibn=ibn), Size(weights="imagenet"))
            assert net.channels in (512, 2048)
