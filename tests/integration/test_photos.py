"""The practitioner's path: a folder of photos, weights from elsewhere, one command."""

import json
import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
import yaml

from sizemix.cli import pack, train
from sizemix.runs.folder import RunFolder
from sizemix.training import run
from sizemix.training.assembly import assemble

_TOOL = Path(__file__).parents[2] / "tools" / "make_photos.py"
_TINY = (
    "data=folder",
    "data.num_workers=2",
    "data.size_multiple=16",
    "model=timm",
    "model.name=test_resnet",
    "sizes.image_sizes=[32,48]",
    "sizes.shares=[0.5,0.5]",
    "sizes.base_size=48",
    "recipe.base_batch_size=8",
    "evaluation.eval_sizes=[32,48]",
    "evaluation.batch_size=8",
    "trainer.max_epochs=1",
    "trainer.log_every_n_steps=1",
    "trainer.enable_progress_bar=false",
    "trainer.accelerator=cpu",
)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Four shapes, twelve photos each, in several formats and orientations; two files are broken."""
    folder = tmp_path_factory.mktemp("made") / "photos"
    runpy.run_path(str(_TOOL))["make_photos"](folder, images_per_class=12, broken=2, rng=np.random.default_rng(0))
    return folder


@pytest.fixture
def carried_out(compose, photos):
    def start(path, *overrides):
        folder = RunFolder.create(path, compose(*_TINY, f"data.root={photos}", *overrides))
        run.carry_out(folder)
        return json.loads(folder.summary_file.read_text())

    return start


def test_photos_of_all_kinds_train_and_broken_ones_are_listed(carried_out, tmp_path, capsys):
    summary = carried_out(tmp_path / "run")
    assert summary["data"] == "photos"
    assert summary["class_names"] == ["circle", "cross", "square", "triangle"]
    assert summary["files"] == {"broken": 2, "unreadable": []}
    assert summary["preprocessing"]["mean"] == [0.5, 0.5, 0.5], "timm's configuration of this network"
    assert len((tmp_path / "run" / "broken.csv").read_text().splitlines()) == 1 + 2
    assert len((tmp_path / "run" / "split.csv").read_text().splitlines()) == 1 + 48
    assert len((tmp_path / "run" / "per_class.csv").read_text().splitlines()) == 1 + 2 * 4
    shown = capsys.readouterr().out
    assert "Left out 2 broken files" in shown
    assert "triangle" in shown


def test_a_file_that_breaks_after_the_check_is_replaced_and_counted(carried_out, compose, photos, tmp_path):
    mine = tmp_path / "mine"
    shutil.copytree(photos, mine)
    overrides = (*_TINY, f"data.root={mine}")
    folder = RunFolder.create(tmp_path / "run", compose(*overrides))
    assemble(folder.config(), folder)  # checks the files and writes split.csv
    rows = folder.split_csv.read_text().splitlines()
    trained, tested = ([row.split(",")[0] for row in rows if row.endswith(f",{split}")] for split in ("train", "test"))
    for path in (*trained[:2], tested[0]):
        (mine / path).write_bytes(b"")
    run.carry_out(folder)
    summary = json.loads(folder.summary_file.read_text())
    assert summary["files"]["unreadable"] == sorted([*trained[:2], tested[0]])
    assert {point["num_images"] for point in summary["curve"]} == {len(tested) - 1}, "a substitute is no test image"


@pytest.mark.parametrize(
    "overrides",
    [
        ["augment=strong", "training.imbalance=oversample", "recipe.averaging_half_life=0.5"],
        ["recipe=finetune", "recipe.base_batch_size=8", "training.imbalance=class_weights", "augment=color"],
        ["training.train_only=norms", "training.early_stopping_patience=1"],
        ["data.crop_reference_size=48", "data.crop_scale=[0.3,0.9]", "trainer.max_time=00:01:00:00"],
    ],
)
def test_options_of_the_practitioners_path_carry_a_run_to_its_end(carried_out, tmp_path, overrides):
    summary = carried_out(tmp_path / "run", *overrides)
    assert [point["image_size"] for point in summary["curve"]] == [32, 48]
    assert summary["trained"]["steps"] == summary["plan"]["steps"]
    assert summary["trained"]["stopped_early"] is False


def test_training_a_part_leaves_the_rest_alone(compose, photos, tmp_path):
    config = compose(*_TINY, f"data.root={photos}", "training.train_only=head", "recipe.optimizer.weight_decay=0.1")
    folder = RunFolder.create(tmp_path / "run", config)
    assembled = assemble(folder.config(), folder)
    before = {name: value.clone() for name, value in assembled.model.net.state_dict().items()}
    run.fit(assembled, folder)
    changed = {name for name, value in assembled.model.net.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"fc.weight", "fc.bias"}


def test_early_stopping_and_a_time_limit_end_a_run_that_says_so(carried_out, tmp_path, capsys):
    never_better = ("recipe.optimizer.lr=0", "training.early_stopping_patience=1", "trainer.max_epochs=9")
    summary = carried_out(tmp_path / "patience", *never_better)
    steps_an_epoch = summary["plan"]["steps"] / 9
    assert summary["trained"]["steps"] == pytest.approx(2 * steps_an_epoch, abs=2)
    assert summary["trained"]["stopped_early"] is True
    assert "Stopped early, after step" in capsys.readouterr().out
    summary = carried_out(tmp_path / "time", "trainer.max_epochs=500", "trainer.max_time=00:00:00:01")
    assert summary["trained"]["steps"] < summary["plan"]["steps"] / 10


def test_a_run_of_photos_that_is_cut_off_goes_on_to_the_same_weights(compose, photos, tmp_path):
    class KilledError(Exception):
        """Stands for the end of the process."""

    class KillAt(pl.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if trainer.global_step == 4:
                raise KilledError

    weights = []
    for name in ("whole", "killed"):
        options = ("data.num_workers=0", "checkpoint.every_steps=1", "augment=strong", "recipe.averaging_half_life=0.5")
        folder = RunFolder.create(tmp_path / name, compose(*_TINY, f"data.root={photos}", *options))
        assembled = assemble(folder.config(), folder)
        if name == "killed":
            assembled.trainer.callbacks.append(KillAt())
            with pytest.raises(KilledError):
                run.fit(assembled, folder)
            (photos / "circle" / "later.png").write_bytes(next((photos / "circle").glob("*.png")).read_bytes())
            assembled = assemble(folder.config(), folder)
        run.fit(assembled, folder)
        weights.append(assembled.model.state_dict())
    (photos / "circle" / "later.png").unlink()
    assert any(name.startswith("averaged.") for name in weights[0])
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


@pytest.fixture
def command(monkeypatch, tmp_path):
    """The command, with the run in this process instead of one of its own, which takes seconds to start."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train.py"])
    monkeypatch.setattr(train, "_become", lambda folder: run.main([str(folder.path)]))
    return lambda *arguments: train.main(arguments)


def test_weights_of_another_run_are_fine_tuned_by_default(carried_out, command, photos, tmp_path, capfd):
    carried_out(tmp_path / "first", "data.train_images=20")
    arguments = [*_TINY, f"data.root={photos}", "model.checkpoint=first"]
    assert command(*arguments, "recipe.base_batch_size=8", "hydra.run.dir=second") == 0
    assert "using recipe=finetune" in capfd.readouterr().out
    config = yaml.safe_load((tmp_path / "second" / "config.yaml").read_text())
    assert config["model"]["checkpoint"] == str(tmp_path / "first"), "resumed from anywhere"
    assert config["recipe"]["optimizer"]["layer_decay"] == 0.75
    assert command(*arguments, "recipe=adamw", "recipe.base_batch_size=8", "hydra.run.dir=third") == 0
    assert "finetune" not in capfd.readouterr().out


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.root=nowhere"], "data.root: expected a folder with a folder for each class, got "),
        (["data=folder"], "expected a value for data.root, got none"),
        (["model.checkpoint=nowhere.pth"], "nowhere.pth, which does not exist"),
        (["data.val_fraction=1.5"], "data.val_fraction: expected a number from 0 to 0.99, got 1.5"),
        (["training.train_only=body"], "training.train_only: expected one of null, head, head_and_last_norm, norms"),
        (["training.imbalance=both"], "training.imbalance: expected one of null, class_weights, oversample"),
        (["augment.rand_augment={strength: 3}"], "augment.rand_augment: expected num_ops and magnitude, got strength"),
        (["trainer.max_time=soon"], "trainer.max_time: expected days:hours:minutes:seconds"),
    ],
)
def test_a_mistake_is_answered_in_one_sentence(command, photos, capfd, overrides, message):
    root = [] if overrides == ["data=folder"] else [f"data.root={photos}"]
    assert command(*_TINY, *root, *overrides) == 2
    answers = [line for line in capfd.readouterr().err.splitlines() if line.startswith("sizemix: ")]
    assert len(answers) == 1
    assert message in answers[0]


def test_a_pack_trains_like_the_folder_that_it_was_made_from(command, photos, tmp_path, capfd):
    """From the command line: sizemix pack, then sizemix train with data=pack."""
    assert pack.main([str(photos), "packed"]) == 0
    said = capfd.readouterr().out
    assert "48 photos of 4 classes" in said
    assert "2 broken files are left out" in said
    options = ("data=pack", *_TINY[1:], "data.root=packed", "hydra.run.dir=run")
    assert command(*options) == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["data"] == "photos"
    assert summary["class_names"] == ["circle", "cross", "square", "triangle"]
    assert summary["files"] == {"broken": 0, "unreadable": []}
    assert [point["image_size"] for point in summary["curve"]] == [32, 48]
    assert len((tmp_path / "run" / "split.csv").read_text().splitlines()) == 1 + 48
