import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from sizemix.cli.export import main
from sizemix.data.preprocessing import Preprocessing
from sizemix.errors import UserError
from sizemix.inference.exporting import onnx_file, timm_folder, torch_program
from sizemix.inference.exporting.checking import check
from sizemix.inference.exporting.export import FORMATS, export
from sizemix.inference.exporting.program import traced
from sizemix.inference.exporting.subject import Subject, taken_sizes
from sizemix.inference.loading import load
from sizemix.models.backbone import build_backbone

# Reads images.npz beside the exports, and answers without sizemix.
_WITHOUT_US = """
import json, sys
sys.modules["sizemix"] = None
import numpy as np, onnxruntime, timm, torch
folder = sys.argv[1]
session = onnxruntime.InferenceSession(f"{folder}/onnx/model.onnx")
told = session.get_modelmeta().custom_metadata_map
assert json.loads(told["label_names"]) == json.load(open(f"{folder}/onnx/config.json"))["label_names"]
assert {"mean", "std", "input_size", "interpolation", "crop_pct"} <= set(told)
nets = {
    "timm": timm.create_model(f"local-dir:{folder}/timm", pretrained=True).eval(),
    "onnx": lambda images: torch.from_numpy(session.run(None, {"images": images.numpy()})[0]),
    "torch": torch.export.load(f"{folder}/torch/model.pt2").module(),
}
images = np.load(f"{folder}/images.npz")
with torch.no_grad():
    answers = {f"{kind} {size}": net(torch.from_numpy(images[size])) for kind, net in nets.items() for size in images}
np.savez(f"{folder}/answers.npz", **answers)
"""


def answers_without_us(folder, images):
    """What the exports in a folder say of images by size, asked of a process that cannot import sizemix."""
    np.savez(folder / "images.npz", **{str(size): value.numpy() for size, value in images.items()})
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _WITHOUT_US, str(folder)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return {name: torch.from_numpy(value) for name, value in np.load(folder / "answers.npz").items()}


def random_images(*sizes, batch=3):
    generator = torch.Generator().manual_seed(1)
    return {size: torch.randn(batch, 3, size, size, generator=generator) for size in sizes}


def test_without_sizemix_all_formats_answer_as_the_run_does_at_several_sizes(photo_run, photos, tmp_path):
    checked = {
        kind: export(photo_run.path, format=kind, image_size=96, out=tmp_path / kind).checked for kind in FORMATS
    }
    for one in checked.values():
        assert {64, 96, 128, 192} <= set(one.image_sizes), "128 px were not evaluated"
    classifier = load(photo_run.path, image_size=96)
    shown = torch.stack([classifier.transform(path) for path in sorted(photos.rglob("*.jpg"))[:5]])
    images = {96: shown, **random_images(64, 128, 160)}
    found = answers_without_us(tmp_path, images)
    assert len(found) == len(FORMATS) * len(images)
    for kind in FORMATS:
        for size in images:
            with torch.no_grad():
                expected = classifier(images[size])
            assert torch.equal(found[f"{kind} {size}"].argmax(1), expected.argmax(1))
            assert torch.allclose(found[f"{kind} {size}"], expected, atol=1e-4)
        told = json.loads((tmp_path / kind / "config.json").read_text())
        assert told["pretrained_cfg"]["input_size"] == [3, 96, 96]
        assert told["pretrained_cfg"]["fixed_input_size"] is False
        assert told["sizemix"]["not_for_px"] == sorted(checked[kind].refused)
        assert told["sizemix"]["checked_at_px"] == sorted(checked[kind].image_sizes)
        assert told["label_names"] == list(classifier.class_names)
        assert told["pretrained_cfg"]["mean"] == list(classifier.preprocessing.mean)


def test_each_size_has_its_own_statistics_baked_in(small_run, tmp_path):
    images = random_images(12, 16, 20)
    answers = []
    for size in (12, 20):
        done = export(small_run.path, format="onnx", image_size=size, out=tmp_path / f"{size}")
        session = onnxruntime.InferenceSession(done.folder / "model.onnx")
        classifier = load(small_run.path, image_size=size)
        for shown in (*images.values(), torch.randn(2, 3, 16, 24)):  # the last is no square
            (found,) = session.run(None, {"images": shown.numpy()})
            with torch.no_grad():
                assert np.allclose(found, classifier(shown), atol=1e-4)
            answers.append(found)
    assert not np.allclose(answers[0], answers[len(images) + 1], atol=1e-2)


def test_our_own_network_says_what_timm_needs_to_know_of(small_run, tmp_path, capsys):
    assert main([str(small_run.path), "--format", "timm", "--out", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    assert "import timm, sizemix.models  # timm alone knows no resnet20_cifar" in shown
    names: dict[str, object] = {}
    exec(shown.split("\n", 1)[1], names)
    images = random_images(16)[16]
    assert torch.allclose(names["net"](images), load(small_run.path)(images), atol=1e-5)


def test_the_card_tells_accuracy_cost_training_and_how_to_load(small_run, tmp_path, capsys):
    assert main([str(small_run.path), "--format", "torch", "--image-size", "16", "--out", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    assert f"Written: {tmp_path}/out/README.md, config.json, model.pt2, for 16 px (checked at 12, 14, 15, 16," in shown
    assert len(shown.splitlines()) == 5
    card = (tmp_path / "out" / "README.md").read_text()
    for part in ("library_name: pytorch", "Fashion-MNIST", "| **16 px** |", "12 px 5", "opt sgd", "random weights",
                 'torch.export.load("model.pt2")', "for another size export again", "of 12 to 20 px, at"):  # fmt: skip
        assert part in card
    assert str(tmp_path) not in card


def test_it_goes_into_the_run_at_the_advised_size_and_is_replaced_by_itself_alone(copied):
    advised = json.loads(copied.summary_file.read_text())["advice"]["image_size"]
    folder = export(copied.path, format="timm").folder
    assert folder == copied.path / "export" / f"timm-{advised}"
    assert export(copied.path, format="timm").folder == folder
    assert sorted(path.name for path in folder.parent.iterdir()) == [folder.name], "nothing is left beside it"
    assert all(path.stat().st_mode & 0o044 for path in folder.iterdir())
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"which holds notes.txt; give another"):
        export(copied.path, format="timm")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--image-size", "14"], "evaluation.eval_sizes=[14]'` makes them"),
        (["--image-size", "0"], "--image-size: expected a positive number of pixels, got 0"),
        (["--out", "taken"], "which holds config.json; give another"),
        (["--out", "file"], "which is a file"),
        (["--out", "file/below"], "--out: expected a folder to write to"),
    ],
)
def test_mistakes_are_sentences(small_run, tmp_path, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "config.json").write_text("{}")
    (tmp_path / "file").touch()
    assert main([str(small_run.path), "--format", "torch", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_a_run_that_is_none_and_one_that_has_not_finished_are_refused(copied, tmp_path, capsys):
    copied.summary_file.unlink()
    for run, said in ((tmp_path / "nothing", "expected a run folder"), (copied.path, "expected a finished run")):
        assert main([str(run), "--format", "torch"]) == 2
        assert said in capsys.readouterr().err


def test_a_network_of_ones_own_is_no_timm_folder(copied, monkeypatch):
    config = copied.config()
    config.model._target_ = "sizemix.models.resnet_cifar.resnet20_cifar"
    del config.model.drop_path_rate, config.model.kwargs, config.model.name
    copied.save_config(config)
    with pytest.raises(UserError, match=r"a network that timm builds, got .*; take --format torch or onnx"):
        export(copied.path, format="timm", trust_target=True)
    assert not list(copied.path.glob("export/*"))


def test_without_the_extra_the_command_says_what_to_install(small_run, monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert main([str(small_run.path), "--format", "onnx", "--out", str(tmp_path / "out")]) == 2
    assert "--format onnx needs onnxruntime; pip install sizemix[onnx]." in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


class _Fixed(nn.Module):
    """Takes 32 px alone, as a position embedding of one length does."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 8, stride=8)
        self.position = nn.Parameter(torch.randn(1, 8, 4, 4))
        self.head = nn.Linear(8, 2)

    def forward(self, images):
        return self.head((self.conv(images) + self.position).relu().mean((2, 3)))


class _Branching(_Fixed):
    """Takes every size, but decides by it."""

    def forward(self, images):
        features = self.conv(images)
        return self.head(features.mean((2, 3)) if images.shape[2] > 40 else features.amax((2, 3)))


@pytest.mark.parametrize(("net", "image_sizes"), [(_Fixed(), (32,)), (_Branching(), (32, 64, 96))])
def test_a_network_that_cannot_have_dynamic_sizes_is_exported_for_one(net, image_sizes, tmp_path):
    seen = Preprocessing((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    config = OmegaConf.create({"model": {"_target_": "mine"}})
    subject = Subject(
        net.eval(), 32, image_sizes, "mine", False, seen, ("a", "b"), config, {"name": "mine", "data": "nothing"}
    )
    found = traced(subject)
    assert found.fixed_input_size
    assert found.checked.image_sizes == (32,)
    assert onnx_file.write_onnx(subject, tmp_path).image_sizes == (32,)
    told = json.loads((tmp_path / "config.json").read_text())
    assert told["pretrained_cfg"]["fixed_input_size"] is True


class _Pooled(nn.Module):
    """The mean of more than 20 x 20 features, the largest of fewer."""

    def forward(self, features):
        return features.mean((2, 3)) if features.shape[2] > 20 else features.amax((2, 3))


def test_a_size_that_torch_cannot_follow_does_not_take_the_others_away(tmp_path):
    seen = Preprocessing((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    config, summary = OmegaConf.create({"model": {"_target_": "mine"}}), {"name": "mine", "data": "nothing"}
    net = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), _Pooled(), nn.Linear(4, 2)).eval()
    subject = Subject(net, 64, (64, 32, 96), "mine", False, seen, ("a", "b"), config, summary)
    found = traced(subject)
    assert (found.fixed_input_size, found.checked.image_sizes) == (False, (64, 96))
    assert onnx_file.write_onnx(subject, tmp_path).image_sizes == (64, 96)
    assert str(replace(found.checked, refused=(32,))).endswith("is allowed; not for 32 px")


def test_onnx_has_no_conditions_and_is_tried_where_torchs_program_refuses(tmp_path):
    """Pooling with ceil_mode, as in resnet10t: torch traces it for multiples alone."""
    net = build_backbone("test_resnet", num_classes=2).eval().requires_grad_(False)
    seen = Preprocessing((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    config, summary = OmegaConf.create({"model": {"_target_": "mine"}}), {"name": "mine", "data": "nothing"}
    subject = Subject(net, 64, (64, 49, 96), "mine", False, seen, ("a", "b"), config, summary)
    assert torch_program.write_program(subject, tmp_path).image_sizes == (64, 96)
    assert onnx_file.write_onnx(subject, tmp_path).image_sizes == (64, 49, 96)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    told = json.loads(session.get_modelmeta().custom_metadata_map["sizemix"])
    assert (told["checked_at_px"], told["not_for_px"]) == ([49, 64, 96], [])


class _PooledBetween(nn.Module):
    """As above, of 40 to 45 features alone."""

    def forward(self, features):
        between = 40 <= features.shape[2] <= 45
        return features.amax((2, 3)) if between else features.mean((2, 3))


def test_sizes_between_those_of_the_evaluation_are_tried_and_what_is_not_followed_there_is_told(tmp_path):
    net = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), _PooledBetween(), nn.Linear(4, 2)).eval()
    image_sizes = taken_sizes(net, 64, (32, 64, 96), name="mine")
    assert image_sizes == (64, 32, 96, 49, 48, 81, 80)
    seen = Preprocessing((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    config, summary = OmegaConf.create({"model": {"_target_": "mine"}}), {"name": "mine", "data": "nothing"}
    subject = Subject(net, 64, image_sizes, "mine", False, seen, ("a", "b"), config, summary)
    for write in (onnx_file.write_onnx, torch_program.write_program):
        assert 81 not in write(subject, tmp_path).image_sizes
        told = json.loads((tmp_path / "config.json").read_text())["sizemix"]
        assert 81 in told["not_for_px"]
        assert set(told["checked_at_px"]) | set(told["not_for_px"]) == set(image_sizes)


class _Patches(_Fixed):
    """Takes multiples of 8 alone, as networks of patches do."""

    def forward(self, images):
        assert images.shape[2] % 8 == 0
        return self.head(self.conv(images).relu().mean((2, 3)))


def test_a_size_between_is_one_that_the_network_takes():
    assert taken_sizes(_Patches(), 32, (32, 64), name="mine") == (32, 64, 96, 48, 80)
    assert taken_sizes(_Fixed(), 32, (32,), name="mine") == (32,)


def test_an_export_that_disagrees_is_refused():
    net = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert check(net, net, (8, 16), name="it").largest_difference == 0
    for wrong in (0.01, float("nan")):
        with pytest.raises(UserError, match=r"expected it to agree .* at 8 px; nothing is written"):
            check(net, lambda images, wrong=wrong: net(images) + wrong, (8,), name="it")


def test_what_fails_leaves_the_earlier_export_as_it_was(copied, monkeypatch):
    folder = export(copied.path, format="timm").folder
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def fails(*_, **__):
        raise OSError(5, "gone", "disk")

    monkeypatch.setattr(timm_folder, "save_for_hf", fails)
    assert main([str(copied.path), "--format", "timm"]) == 2
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert os.listdir(folder.parent) == [folder.name]
