"""When a state is saved, and what is logged with it, with a trainer that is nothing but numbers."""

from types import SimpleNamespace

import pytest
import torch

from sizemix.checkpointing.last import LastCheckpoint


class Logger:
    """Keeps the rows."""

    def __init__(self):
        self.rows = []

    def log_metrics(self, row, step):
        self.rows.append((step, row))

    def write(self):
        pass


@pytest.fixture
def saving(tmp_path, monkeypatch):
    """Trains an epoch of eight steps of a second each; returns the saved steps and the rows of both loggers."""

    def train(*, world_size=1, at_the_end=None, **intervals):
        clock, saved, metrics, other = [0.0], [], Logger(), Logger()
        monkeypatch.setattr("time.monotonic", lambda: clock[0])
        last = LastCheckpoint(
            tmp_path / "last.ckpt",
            previous=tmp_path / "previous.ckpt",
            metrics=metrics,
            check=lambda trainer: None,
            log_every_steps=5,
            **({"every_steps": None, "every_minutes": None} | intervals),
        )
        logged = {"train/loss": 0.5, "val/top1@8": 0.9, "throughput/elapsed_seconds": 7.0}
        trainer = SimpleNamespace(
            world_size=world_size,
            accumulate_grad_batches=1,
            num_training_batches=9,
            should_stop=False,
            current_epoch=0,
            logged_metrics={name: torch.tensor(value) for name, value in logged.items()},
            loggers=[metrics, other],
            strategy=SimpleNamespace(broadcast=lambda value: value),
        )
        trainer.save_checkpoint = lambda *_, **__: saved.append(trainer.global_step)
        for batch in range(8):
            clock[0] += 1.0
            trainer.global_step = batch + 1
            last.on_train_batch_end(trainer, None, None, None, batch)
            if trainer.global_step == at_the_end:
                last.save_within_epoch(trainer, at_the_end=True)
                break
        return saved, metrics.rows, other.rows

    return train


def test_one_process_looks_at_the_clock_at_every_step_and_several_at_logged_ones(saving):
    assert saving(every_minutes=3 / 60)[0] == [3, 6]
    assert saving(every_minutes=3 / 60, world_size=2)[0] == [5]


def test_a_saved_step_is_logged_with_its_own_figures_alone(saving):
    saved, rows, others = saving(every_steps=5)
    assert (saved, others) == ([5], [])
    assert rows == [(4, {"epoch": 0, "train/loss": 0.5})]


def test_the_step_that_a_run_ends_with_goes_to_all_loggers(saving):
    saved, rows, others = saving(at_the_end=5)
    assert saved == [5]
    assert rows == others == [(4, {"epoch": 0, "train/loss": 0.5})]
