"""Where a signal ends training, with a trainer that is nothing but numbers."""

import signal
from types import SimpleNamespace

import pytest

from sizemix.checkpointing.signals import BY_WEIGHT, Interrupted, StopSignals
from sizemix.checkpointing.stopping import StopBehindStep

_EPOCH_STEPS, _LOG_EVERY = 8, 3


class Saves:
    """In place of LastCheckpoint."""

    def __init__(self):
        self.steps = []

    def save_within_epoch(self, trainer, *, at_the_end):
        assert at_the_end, "the run ends with it"
        self.steps.append(trainer.global_step)


class Strategy:
    """Several ranks, one of which has got a signal or none; counts what they ask each other."""

    root_device = "cpu"

    def __init__(self, other_rank):
        self.messages = 0
        self._other_rank = other_rank

    def reduce(self, number, reduce_op):
        assert reduce_op == "max"
        self.messages += 1
        return max(int(number), BY_WEIGHT.index(self._other_rank) if self._other_rank else -1)


def train(*, world_size=1, micro_batches=1, received=None, other_rank=0):
    """Trains an epoch; returns the exception that ended it, the steps that were saved, and the messages sent."""
    signals, saves, strategy = StopSignals(), Saves(), Strategy(other_rank)
    callback = StopBehindStep(signals, saves, log_every_steps=_LOG_EVERY)
    trainer = SimpleNamespace(
        world_size=world_size,
        accumulate_grad_batches=micro_batches,
        num_training_batches=_EPOCH_STEPS * micro_batches,
        global_step=0,
        should_stop=False,
        strategy=strategy,
    )
    signals.received = received
    ended = None
    try:
        for batch in range(trainer.num_training_batches):
            trainer.global_step = (batch + 1) // micro_batches
            callback.on_train_batch_end(trainer, None, None, None, batch)
        callback.on_train_epoch_end(trainer, None)
    except Interrupted as error:
        ended = error
    return ended, saves.steps, strategy.messages


@pytest.mark.parametrize("micro_batches", [1, 2])
def test_one_rank_saves_behind_the_whole_step(micro_batches):
    ended, saved, messages = train(received=signal.SIGTERM, micro_batches=micro_batches)
    assert (ended.exit_code, ended.on_all_ranks) == (143, True)
    assert saved == [1]
    assert not messages


@pytest.mark.parametrize("who", [{"received": signal.SIGINT}, {"other_rank": signal.SIGINT}], ids=["we", "they"])
def test_several_ranks_stop_at_the_next_step_that_is_logged_whoever_got_the_signal(who):
    ended, saved, messages = train(world_size=2, **who)
    assert (ended.exit_code, ended.on_all_ranks) == (130, True)
    assert saved == [_LOG_EVERY]
    assert messages == 1


def test_ranks_ask_each_other_only_at_logged_steps_and_at_the_epochs_end():
    ended, saved, messages = train(world_size=2)
    assert (ended, saved) == (None, [])
    assert messages == _EPOCH_STEPS // _LOG_EVERY + 1


@pytest.mark.parametrize(
    ("one", "other", "agreed"),
    [
        (signal.SIGINT, signal.SIGTERM, signal.SIGTERM),
        (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR1),  # or the job would not be put back into the queue
        (signal.SIGUSR1, signal.SIGTERM, signal.SIGUSR1),
    ],
)
def test_ranks_with_different_signals_agree_on_one(one, other, agreed):
    ended, _, _ = train(world_size=2, received=one, other_rank=other)
    assert ended.number is agreed
