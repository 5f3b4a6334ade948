"""The README's library example, run as it stands there."""

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import sizemix

_README = Path(__file__).parents[2] / "README.md"
_HOW_TO = Path(__file__).parents[2] / "docs" / "how-to-extend.md"


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
        sizes = [(int(row["epoch"]), int(row["image_size"])) for row in csv.DictReader(file)]
    assert sorted(set(sizes)) == [(0, 16), (1, 20), (2, 28)]
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["data"], summary["class_names"]) == ("stripes", ["lying", "standing"])
    assert summary["curve"][1]["top1_recalibrated"] > 0.9


def test_every_public_name_is_there_and_importing_the_package_is_light():
    assert all(getattr(sizemix, name) for name in sizemix.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = sizemix.nonsense
    program = "import sys, sizemix; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)
