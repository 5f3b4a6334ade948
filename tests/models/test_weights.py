import argparse
import json
import time

import huggingface_hub
import pytest
import torch
from safetensors.torch import save_file

from sizemix.data.preprocessing import Preprocessing
from sizemix.errors import UserError
from sizemix.models.backbone import build_backbone, preprocessing_of
from sizemix.models.weights import read_weights

NAME = "test_resnet"


@pytest.fixture
def trained():
    torch.manual_seed(1)
    net = build_backbone(NAME, num_classes=5)
    for value in net.state_dict().values():
        value += torch.rand_like(value.float()).to(value.dtype)
    return net


def loaded(path, *, num_classes=5, name=NAME):
    return build_backbone(name, num_classes=num_classes, checkpoint=path)


def same(a, b, *, but=()):
    theirs, ours = a.state_dict(), b.state_dict()
    assert theirs.keys() == ours.keys()
    return all(torch.equal(theirs[key], ours[key]) for key in theirs if key not in but)


def run_checkpoint(net, **more):
    state = {f"net.{key}": value for key, value in net.state_dict().items()} | {"val_loss.value": torch.zeros(())}
    architecture = {"name": NAME, "kwargs": {}, "drop_path_rate": 0.0}
    return {"state_dict": state, "architecture": architecture, "epoch": 3, **more}


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin"])
@pytest.mark.parametrize("key", [None, "state_dict", "model", "state_dict_ema"])
def test_weights_are_read_plain_or_under_a_usual_key(tmp_path, trained, suffix, key):
    state = trained.state_dict()
    torch.save(
        state if key is None else {key: state, "epoch": 3, "args": argparse.Namespace(lr=1)}, tmp_path / f"w{suffix}"
    )
    assert same(trained, loaded(tmp_path / f"w{suffix}"))


def test_weights_are_read_from_safetensors(tmp_path, trained):
    save_file(trained.state_dict(), tmp_path / "w.safetensors")
    assert same(trained, loaded(tmp_path / "w.safetensors"))


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "_orig_mod.module."])
def test_names_of_compiled_and_distributed_networks_are_understood(tmp_path, trained, prefix):
    torch.save({prefix + key: value for key, value in trained.state_dict().items()}, tmp_path / "w.pth")
    assert same(trained, loaded(tmp_path / "w.pth"))


def test_a_runs_own_names_are_kept_as_they_are(tmp_path):
    layer = torch.nn.Linear(2, 3)
    state = {f"net.module.{key}": value for key, value in layer.state_dict().items()}
    torch.save({"state_dict": state, "architecture": {"name": NAME}}, tmp_path / "last.ckpt")
    assert list(read_weights(tmp_path / "last.ckpt").tensors) == ["module.weight", "module.bias"]


def test_a_folder_in_timms_style_brings_its_preprocessing(tmp_path, trained):
    save_file(trained.state_dict(), tmp_path / "model.safetensors")
    source = {"mean": [0.1, 0.2, 0.3], "std": [1.0, 1.0, 1.0], "interpolation": "bilinear", "crop_pct": 0.8}
    (tmp_path / "config.json").write_text(json.dumps({"architecture": NAME, "pretrained_cfg": source}))
    net = loaded(tmp_path)
    assert same(trained, net)
    assert preprocessing_of(net) == Preprocessing((0.1, 0.2, 0.3), (1.0, 1.0, 1.0), "bilinear", 0.8)


def test_a_run_folder_brings_its_last_checkpoint_and_preprocessing(tmp_path, trained):
    (tmp_path / "config.yaml").touch()
    with pytest.raises(UserError, match=r"has no last\.ckpt yet"):
        loaded(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    told = {"mean": [0.1, 0.2, 0.3], "std": [1.0, 1.0, 1.0], "interpolation": "bilinear", "crop_ratio": 1.0}
    torch.save(run_checkpoint(trained, preprocessing=told), tmp_path / "checkpoints" / "last.ckpt")
    net = loaded(tmp_path)
    assert same(trained, net)
    assert preprocessing_of(net) == Preprocessing((0.1, 0.2, 0.3), (1.0, 1.0, 1.0), "bilinear", 1.0)


def test_averaged_weights_are_preferred(tmp_path, trained):
    averaged = build_backbone(NAME, num_classes=5)
    contents = run_checkpoint(trained)
    contents["state_dict"] |= {f"averaged.{key}": value for key, value in averaged.state_dict().items()}
    torch.save(contents, tmp_path / "last.ckpt")
    assert same(averaged, loaded(tmp_path / "last.ckpt"))


@pytest.mark.parametrize("name", [NAME, "test_vit", "deit_tiny_distilled_patch16_224", "resnet20_cifar"])
def test_other_classes_keep_the_backbone_and_bring_a_new_head(tmp_path, name):
    trained = build_backbone(name, num_classes=5)
    torch.save(trained.state_dict(), tmp_path / "w.pth")
    net = loaded(tmp_path / "w.pth", num_classes=3, name=name)
    heads = net.pretrained_cfg["classifier"]
    heads = [heads] if isinstance(heads, str) else heads
    assert same(trained, net, but={f"{head}.{kind}" for head in heads for kind in ("weight", "bias")})
    assert all(net.get_submodule(head).out_features == 3 for head in heads)
    image_size = net.pretrained_cfg["input_size"][-1]
    assert net(torch.randn(2, 3, image_size, image_size)).shape == (2, 3)


def test_a_checkpoint_without_a_head_gets_one(tmp_path, trained):
    trained.reset_classifier(0)
    torch.save(trained.state_dict(), tmp_path / "w.pth")
    net = loaded(tmp_path / "w.pth", num_classes=3)
    assert torch.equal(net.conv1[0].weight, trained.conv1[0].weight)
    assert net.fc.out_features == 3


def test_a_position_embedding_of_another_size_is_resampled(tmp_path):
    trained = build_backbone("test_vit", num_classes=5, kwargs={"img_size": 64})
    torch.save(trained.state_dict(), tmp_path / "w.pth")
    net = loaded(tmp_path / "w.pth", name="test_vit")
    assert torch.equal(trained.head.weight, net.head.weight)
    assert net.pos_embed.shape[1] == (160 // 16) ** 2 + 1


def test_the_weights_are_not_kept_a_second_time(tmp_path, trained):
    torch.save(trained.state_dict(), tmp_path / "w.pth")
    net = loaded(tmp_path / "w.pth")
    assert "state_dict" not in net.pretrained_cfg
    assert net.default_cfg is net.pretrained_cfg


@pytest.mark.parametrize("name", ["resnet20_cifar", "test_vit", "convnext_atto", "swin_tiny_patch4_window7_224"])
def test_the_weights_of_another_network_are_refused_by_name(tmp_path, trained, name):
    torch.save(run_checkpoint(trained), tmp_path / "last.ckpt")
    message = rf"expected the weights of {name}, got those of test_resnet in .*missing .* more.*set model\.name"
    with pytest.raises(UserError, match=message) as refused:
        loaded(tmp_path / "last.ckpt", name=name)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 500


def test_weights_of_another_shape_are_named(tmp_path):
    wide = build_backbone("test_vit", num_classes=5, kwargs={"mlp_ratio": 2})
    torch.save(wide.state_dict(), tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"of another shape blocks\.0\.mlp\.fc1\.weight, .* more"):
        loaded(tmp_path / "w.pth", name="test_vit")


def test_a_wrong_argument_is_not_taken_for_a_wrong_checkpoint(tmp_path, trained):
    torch.save(trained.state_dict(), tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"test_resnet cannot be built with \{'depth': 3\}"):
        build_backbone(NAME, num_classes=5, kwargs={"depth": 3}, checkpoint=tmp_path / "w.pth")


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_a_truncated_file_is_named(tmp_path, trained, name):
    save = save_file if name.endswith("safetensors") else torch.save
    save(trained.state_dict(), tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=rf"expected a whole checkpoint, got .*{name}, which cannot be read .* again"):
        loaded(tmp_path / name)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match=r"got .*nothing\.pth, which does not exist"):
        loaded(tmp_path / "nothing.pth")


def test_a_folder_of_something_else_is_named(tmp_path):
    with pytest.raises(UserError, match=r"got the folder .* with neither"):
        loaded(tmp_path)


@pytest.mark.parametrize("text", ["", "hello", "weights\n" * 100])
def test_what_is_no_checkpoint_is_refused_in_a_sentence(tmp_path, text):
    (tmp_path / "w.pth").write_text(text)
    with pytest.raises(UserError, match=r"model\.checkpoint: expected .* got .*w\.pth"):
        loaded(tmp_path / "w.pth")


class Harmful:
    def __reduce__(self):
        return (print, ("code in a checkpoint ran",))


def test_code_in_a_checkpoint_never_runs(tmp_path, capsys):
    torch.save({"state_dict": Harmful()}, tmp_path / "w.pth")
    with pytest.raises(UserError, match="holds code, and code in a checkpoint is never run"):
        loaded(tmp_path / "w.pth")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("contents", [{"epoch": 3, "weights": {}}, {}, {"state_dict": {}, "architecture": {}}])
def test_a_dictionary_without_weights_is_refused(tmp_path, contents):
    torch.save(contents, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"expected weights by name in .*w\.pth, got"):
        loaded(tmp_path / "w.pth")


def test_published_weights_and_a_checkpoint_together_are_refused():
    with pytest.raises(UserError, match="expected pretrained=true or a checkpoint, got both"):
        build_backbone(NAME, num_classes=5, pretrained=True, checkpoint="w.pth")


def test_a_network_without_published_weights_says_so():
    with pytest.raises(UserError, match=r"timm has no published weights for resnet20_cifar; give model\.checkpoint"):
        build_backbone("resnet20_cifar", num_classes=5, pretrained=True)


def test_without_a_network_a_download_soon_ends_in_a_sentence(tmp_path, monkeypatch):
    def unreachable():
        raise ConnectionError("no route")

    monkeypatch.setattr(huggingface_hub, "get_session", unreachable)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    started = time.perf_counter()
    with pytest.raises(UserError, match=r"expected to download resnet18's weights, got .*give model\.checkpoint=FILE"):
        build_backbone("resnet18", num_classes=5, pretrained=True)
    assert time.perf_counter() - started < 5
    assert not huggingface_hub.constants.HF_HUB_OFFLINE
