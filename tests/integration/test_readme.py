"""The examples of the README and the how-tos, run as they stand there."""

import csv
import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sizemix
from sizemix.runs.folder import RunFolder
from sizemix.training import run
from sizemix.training.assembly import assemble

_README = Path(__file__).parents[2] / "README.md"
_HOW_TO = Path(__file__).parents[2] / "docs" / "how-to-extend.md"
_PHOTOS = Path(__file__).parents[2] / "docs" / "how-to-own-photos.md"


def test_the_library_example_trains(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    _, example = re.findall(r"```python\n(.*?)```", _README.read_text(), flags=re.DOTALL)
    names: dict[str, object] = {"__name__": "example"}
    exec(example, names)
    trainer, scheduler = names["trainer"], names["scheduler"]
    assert trainer.global_step == scheduler.planned.num_steps > 100
    assert trainer.callback_metrics["train/image_size"] in (20, 28, 36)
    assert trainer.callback_metrics["val/top1"] > 0.5


def test_the_network_of_a_run_is_loaded_and_switched_as_the_readme_says(small_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    loading, _ = re.findall(r"```python\n(.*?)```", _README.read_text(), flags=re.DOTALL)
    for theirs, ours in {"outputs/<date>/<time>-<name>": str(small_run.path), "160": "12", "224": "20"}.items():
        assert theirs in loading
        loading = loading.replace(theirs, ours)
    for name in ("cat.jpg", "dog.jpg"):
        Image.new("RGB", (40, 30), "white").save(tmp_path / name)
    names: dict[str, object] = {}
    exec(loading, names)
    assert names["logits"].shape == (1, 10)
    assert names["classifier"].image_size == 20


def test_schedule_model_and_data_of_ones_own_train_as_the_how_to_says(tmp_path):
    for name, text in re.findall(r"`([\w/]+\.(?:py|yaml))`.*?```\w+\n(.*?)```", _HOW_TO.read_text(), flags=re.DOTALL):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
        assert len(text.splitlines()) < 20
    assert sum(1 for _ in tmp_path.rglob("*.*")) == 6
    (command,) = re.findall(r"^    sizemix (train --config-dir .*)$", _HOW_TO.read_text(), flags=re.MULTILINE)
    options = ["trainer.max_epochs=3", "hydra.run.dir=run", "trainer.accelerator=cpu"]  # else as it stands there
    done = subprocess.run(
        [sys.executable, "-m", "sizemix.cli.main", *command.split(), *options],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    with (tmp_path / "run" / "plan.csv").open(newline="") as file:
        rows = [
            (int(row["epoch"]), int(row["image_size"]), int(row["global_batch_size"])) for row in csv.DictReader(file)
        ]
    assert sorted(set(rows)) == [(0, 16, 196), (1, 20, 125), (2, 28, 64)], "B+, as its file says"
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["data"], summary["class_names"]) == ("stripes", ["lying", "standing"])
    assert summary["curve"][1]["top1_recalibrated"] > 0.9


@pytest.fixture
def photo_run(compose, tmp_path, monkeypatch):
    """A run of photos in outputs/mine, and its datamodule."""
    monkeypatch.chdir(tmp_path)
    make_photos = runpy.run_path(str(_PHOTOS.parents[1] / "tools" / "make_photos.py"))["make_photos"]
    make_photos(tmp_path / "photos", images_per_class=16, broken=0, rng=np.random.default_rng(0))
    options = (
        *("data=folder", "data.root=photos", "data.test_fraction=0.5", "data.num_workers=0"),
        *("model=timm", "model.name=test_resnet", "sizes=fixed", "sizes.base_size=32", "evaluation.eval_sizes=[32]"),
        *("recipe=adamw", "recipe.base_batch_size=8", "trainer.max_epochs=6", "data.crop_scale=[0.5,1]"),
        *("trainer.accelerator=cpu", "trainer.enable_progress_bar=false"),
    )
    folder = RunFolder.create("outputs/mine", compose(*options))
    run.carry_out(folder)
    assembled = assemble(folder.config(), folder)
    assembled.datamodule.trainer = assembled.trainer
    return folder, assembled.datamodule


def test_the_deployed_network_is_as_accurate_as_the_runs_curve_says(photo_run, capsys):
    folder, datamodule = photo_run
    (example,) = re.findall(r"```python\n(.*?)```", _PHOTOS.read_text(), flags=re.DOTALL)
    test = datamodule.dataset.test
    photos = [f"photos/{name}" for name in test.paths]
    for theirs, ours in {
        "image_size=160": "image_size=32",
        "outputs/<date>/<time>-resnet50-mixed": "outputs/mine",
        '["photo.jpg"]': repr(photos),
    }.items():
        assert theirs in example
        example = example.replace(theirs, ours)
    names: dict[str, object] = {}
    capsys.readouterr()
    exec(example, names)
    assert len(capsys.readouterr().out.splitlines()) == len(photos)
    found = names["classifier"].predict(photos)
    top1 = sum(one.class_number == target for one, target in zip(found, test.targets, strict=True)) / len(photos)
    (point,) = json.loads(folder.summary_file.read_text())["curve"]
    assert point["top1"] != point["top1_recalibrated"], "the example tells them apart"
    assert top1 == pytest.approx(point["top1_recalibrated"])


def test_every_public_name_is_there_and_importing_the_package_is_light():
    assert all(getattr(sizemix, name) for name in sizemix.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = sizemix.nonsense
    program = "import sys, sizemix; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)
