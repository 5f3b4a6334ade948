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
import torch

import sizemix
from sizemix.runs.folder import RunFolder
from sizemix.training import run
from sizemix.training.assembly import assemble

_README = Path(__file__).parents[2] / "README.md"
_HOW_TO = Path(__file__).parents[2] / "docs" / "how-to-extend.md"
_PHOTOS = Path(__file__).parents[2] / "docs" / "how-to-own-photos.md"


def test_the_library_example_trains(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    (example,) = re.findall(r"```python\n(.*?)```", _README.read_text(), flags=re.DOTALL)
    names: dict[str, object] = {"__name__": "example"}
    exec(example, names)
    trainer, scheduler = names["trainer"], names["scheduler"]
    assert trainer.global_step == scheduler.planned.num_steps > 100
    assert trainer.callback_metrics["train/image_size"] in (20, 28, 36)
    assert trainer.callback_metrics["val/top1"] > 0.5


def test_schedule_model_and_data_of_ones_own_train_as_the_how_to_says(tmp_path):
    for name, text in re.findall(r"`([\w/]+\.(?:py|yaml))`.*?```\w+\n(.*?)```", _HOW_TO.read_text(), flags=re.DOTALL):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
        assert len(text.splitlines()) < 20
    assert sum(1 for _ in tmp_path.rglob("*.*")) == 6
    (command,) = re.findall(r"^    sizemix (train --config-dir .*)$", _HOW_TO.read_text(), flags=re.MULTILINE)
    options = ["trainer.max_epochs=3", "recipe.base_batch_size=10", "hydra.run.dir=run", "trainer.accelerator=cpu"]
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
    assert sorted(set(rows)) == [(0, 16, 31), (1, 20, 20), (2, 28, 10)], "B+, as its file says"
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


def test_the_deployed_network_is_the_runs_and_as_accurate_as_its_curve_says(photo_run, capsys):
    folder, datamodule = photo_run
    loading, recalibrating = re.findall(r"```python\n(.*?)```", _PHOTOS.read_text(), flags=re.DOTALL)
    for theirs, ours in {
        '"resnet50"': '"test_resnet"',
        "num_classes=2": "num_classes=4",
        "outputs/<date>/<time>-resnet50-mixed": "outputs/mine",
    }.items():
        assert theirs in loading
        loading = loading.replace(theirs, ours)
    test = list(datamodule.eval_batches("test", 32))
    calibration = datamodule.calibration_batches(32, num_images=12800, batch_size=8, augment=False)
    names = {"images": torch.cat([batch.images for batch in test]), "batches": (batch.images for batch in calibration)}
    capsys.readouterr()
    exec(loading, names)
    assert capsys.readouterr().out == f"{datamodule.preprocessing}\n"
    with torch.no_grad():
        exec(recalibrating, names)
        uncalibrated = names["net"](names["images"])

    trained = torch.load(folder.last_checkpoint, weights_only=True)["state_dict"]
    assert all(torch.equal(value, trained[f"net.{name}"]) for name, value in names["net"].state_dict().items())
    targets = torch.cat([batch.targets for batch in test])
    top1, recalibrated = ((logits.argmax(1) == targets).float().mean() for logits in (uncalibrated, names["logits"]))
    (point,) = json.loads(folder.summary_file.read_text())["curve"]
    assert point["top1"] != point["top1_recalibrated"], "the example tells them apart"
    assert (top1.item(), recalibrated.item()) == pytest.approx((point["top1"], point["top1_recalibrated"]))


def test_every_public_name_is_there_and_importing_the_package_is_light():
    assert all(getattr(sizemix, name) for name in sizemix.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = sizemix.nonsense
    program = "import sys, sizemix; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)
