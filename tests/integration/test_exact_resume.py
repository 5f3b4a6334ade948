"""A run that stops at any step and goes on ends with the same weights, images, sizes and augmentations."""

from dataclasses import dataclass, field

import pytest
import pytorch_lightning as pl
import torch

from sizemix.data.batches import InMemoryBatches
from sizemix.runs.folder import RunFolder
from sizemix.training.assembly import assemble
from sizemix.training.run import fit

_SMALL = (
    "data.train_images=60",
    "data.num_workers=0",
    "sizes.image_sizes=[8,12,16]",
    "sizes.shares=[0.4,0.3,0.3]",
    "sizes.base_size=12",
    "model.name=resnet8_cifar",
    "model.drop_path_rate=0.3",
    "recipe.base_batch_size=12",
    "evaluation.eval_sizes=[8]",
    "trainer.max_epochs=3",
    "trainer.log_every_n_steps=1",
    "trainer.enable_progress_bar=false",
    "trainer.accelerator=cpu",
    "+trainer.limit_val_batches=1",
    "checkpoint.every_steps=1",
)


_TRAIN = InMemoryBatches.train


class KilledError(Exception):
    """Stands for the end of a process."""


class KillAt(pl.Callback):
    """Ends training before a step, when the checkpoint of the step before has been written."""

    def __init__(self, step):
        self.step = step

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == self.step:
            raise KilledError


@dataclass
class Outcome:
    weights: dict[str, torch.Tensor] = field(default_factory=dict)
    requests: list[tuple[object, ...]] = field(default_factory=list)
    losses: list[str] = field(default_factory=list)


def run(folder, config, monkeypatch, *, kill_at=None):
    """Starts or continues a run; returns what is left of it."""
    outcome = Outcome()

    def recording(self, request):
        keys = tuple(request.indices.tolist()), tuple(request.passes.tolist())
        outcome.requests.append((request.item, request.image_size, request.num_repeats, *keys))
        return _TRAIN(self, request)

    monkeypatch.setattr(InMemoryBatches, "train", recording)
    assembled = assemble(config, folder)
    if kill_at is not None:
        assembled.trainer.callbacks.append(KillAt(kill_at))
    try:
        fit(assembled, folder)
    except KilledError:
        return outcome
    outcome.weights = {name: value.clone() for name, value in assembled.model.state_dict().items()}
    outcome.losses = [(row["step"], row["train/loss"]) for row in assembled.metrics.rows if "train/loss" in row]
    return outcome


@pytest.mark.parametrize(
    ("micro_batches", "options"),
    [(1, ()), (2, ("augment=strong", "recipe.averaging_half_life=0.5", "training.imbalance=oversample"))],
    ids=["plain", "two micro-batches, strong augmentation, averaged weights"],
)
def test_killed_at_any_step_and_resumed_it_ends_the_same(compose, tmp_path, monkeypatch, micro_batches, options):
    config = compose(*_SMALL, f"trainer.accumulate_grad_batches={micro_batches}", *options)
    whole = run(RunFolder(tmp_path / "whole"), config, monkeypatch)
    steps = (whole.requests[-1][0] + 1) // micro_batches
    assert steps >= 15
    for kill_at in range(1, steps):
        folder = RunFolder(tmp_path / str(kill_at))
        first = run(folder, config, monkeypatch, kill_at=kill_at)
        second = run(folder, config, monkeypatch)
        served = first.requests[: kill_at * micro_batches] + second.requests
        assert served == whole.requests, f"other batches when killed at step {kill_at}"
        assert second.losses == whole.losses, f"other rows of metrics.csv when killed at step {kill_at}"
        differing = [name for name, value in whole.weights.items() if not torch.equal(value, second.weights[name])]
        assert not differing, f"other weights when killed at step {kill_at}"


def test_a_run_killed_twice_ends_the_same(compose, tmp_path, monkeypatch):
    config = compose(*_SMALL)
    whole = run(RunFolder(tmp_path / "whole"), config, monkeypatch)
    folder = RunFolder(tmp_path / "killed")
    run(folder, config, monkeypatch, kill_at=4)
    run(folder, config, monkeypatch, kill_at=11)
    last = run(folder, config, monkeypatch)
    assert all(torch.equal(value, last.weights[name]) for name, value in whole.weights.items())


@pytest.mark.parametrize(
    "options",
    [("training.train_only=head",), ("training.train_only=head_and_last_norm", "training.train_only_part=0.4")],
    ids=["all of the run", "its last epochs"],
)
def test_what_does_not_train_stays_frozen_in_an_epoch_that_goes_on(compose, tmp_path, monkeypatch, options):
    config = compose(*_SMALL, *options)
    whole = run(RunFolder(tmp_path / "whole"), config, monkeypatch)
    last_epoch = whole.requests[-1][0] - 2
    run(RunFolder(tmp_path / "killed"), config, monkeypatch, kill_at=last_epoch)
    resumed = run(RunFolder(tmp_path / "killed"), config, monkeypatch)
    differing = [name for name, value in whole.weights.items() if not torch.equal(value, resumed.weights[name])]
    assert not differing
