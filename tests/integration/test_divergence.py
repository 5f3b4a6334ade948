"""A run whose loss or weights are no numbers any more ends with a sentence and keeps the checkpoint from before."""

import re

import pytest
import torch

from sizemix.callbacks.throughput import Throughput
from sizemix.runs.folder import RunFolder
from sizemix.training import run

_SMALL = (
    "data.train_images=60",
    "data.num_workers=0",
    "sizes.image_sizes=[8,12]",
    "sizes.shares=[0.5,0.5]",
    "sizes.base_size=12",
    "recipe.base_batch_size=12",
    "evaluation.eval_sizes=[8]",
    "evaluation.calibration_images=24",
    "trainer.max_epochs=3",
    "trainer.enable_progress_bar=false",
    "trainer.accelerator=cpu",
    "+trainer.limit_val_batches=1",
)


@pytest.fixture
def begin(compose, tmp_path):
    return lambda *options: RunFolder.create(tmp_path / "run", compose(*_SMALL, *options))


@pytest.fixture
def poisoned(monkeypatch):
    """Makes a weight nan in a hook of a step."""

    def arrange(hook, *, step):
        def poison(self, trainer, *_):
            if trainer.global_step == step:
                with torch.no_grad():
                    trainer.lightning_module.net.fc.bias[0] = torch.nan

        monkeypatch.setattr(Throughput, hook, poison)

    return arrange


def weights(file):
    return torch.load(file, weights_only=True)["state_dict"]


def test_a_loss_of_nan_ends_the_run_at_the_next_logged_step(begin, poisoned, capfd, monkeypatch):
    folder = begin("trainer.log_every_n_steps=4", "checkpoint.every_steps=3")
    poisoned("on_train_batch_start", step=6)  # the third epoch would begin with step 10
    assert run.main([str(folder.path)]) == 2
    (sentence,) = capfd.readouterr().err.strip().splitlines()
    message = r"sizemix: expected finite numbers in training, got a loss of nan or inf in step 6 \((8|12) px, learning "
    assert re.match(message + r"rate 0\.\d+\); start a new run with a lower recipe\.optimizer\.lr", sentence)
    saved = torch.load(folder.last_checkpoint, weights_only=True)
    assert saved["global_step"] == 6
    for file in folder.checkpoints.iterdir():
        assert all(value.isfinite().all() for value in weights(file).values())
    monkeypatch.undo()
    assert run.main([str(folder.path)]) == 0, "what has not diverged goes on from there"
    assert "Continuing" in capfd.readouterr().out


def test_weights_of_nan_reach_neither_validation_nor_a_checkpoint(begin, poisoned, capfd):
    folder = begin("trainer.log_every_n_steps=50", "trainer.max_epochs=1")
    poisoned("on_train_batch_end", step=5)  # the last of the epoch
    assert run.main([str(folder.path)]) == 2
    assert "got weights of nan or inf in step 4 (" in capfd.readouterr().err
    assert not folder.checkpoints.exists()


def test_a_learning_rate_that_is_far_too_high_ends_the_run(begin, capfd):
    folder = begin("recipe.optimizer.lr=1.0e+30", "recipe.gradient_smoothing=false")
    assert run.main([str(folder.path)]) == 2
    assert "lower recipe.optimizer.lr" in capfd.readouterr().err
    assert not folder.finished


def test_a_run_folder_that_cannot_be_written_is_named(begin, capfd):
    folder = begin()
    folder.lock_file.mkdir()
    assert run.main([str(folder.path)]) == 2
    error = capfd.readouterr().err
    assert error == f"sizemix: {folder.path}: expected a folder that can be written, got: Is a directory.\n"
