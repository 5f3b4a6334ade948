from types import SimpleNamespace

import pytest

from sizemix.callbacks.time_limit import TimeLimit


class Strategy:
    """Rank 0 of several; counts what the ranks ask each other."""

    def __init__(self):
        self.messages = 0

    def broadcast(self, value):
        self.messages += 1
        return value


def train(*, micro_batches=1, world_size=1, out_of_time_at=0, log_every_steps=3):
    """Trains eight steps; returns the batches behind which the trainer was told to stop, and the messages sent."""
    trainer = SimpleNamespace(
        accumulate_grad_batches=micro_batches, world_size=world_size, should_stop=False, strategy=Strategy()
    )
    time = SimpleNamespace(time_remaining=lambda: out_of_time_at - trainer.batch)
    callback = TimeLimit(time, log_every_steps=log_every_steps)
    stopped = []
    for trainer.batch in range(8 * micro_batches):
        trainer.global_step = (trainer.batch + 1) // micro_batches
        callback.on_train_batch_end(trainer, None, None, None, trainer.batch)
        stopped += [trainer.batch] if trainer.should_stop else []
    return stopped, trainer.strategy.messages


@pytest.mark.parametrize("out_of_time_at", [4, 5])
def test_training_stops_behind_a_whole_step(out_of_time_at):
    stopped, _ = train(micro_batches=2, out_of_time_at=out_of_time_at)
    assert stopped[0] == 5


def test_training_goes_on_while_there_is_time():
    assert train(out_of_time_at=100)[0] == []


def test_several_ranks_ask_for_the_time_only_at_logged_steps():
    stopped, messages = train(world_size=2, out_of_time_at=3)
    assert stopped[0] == 5
    assert messages == 2
