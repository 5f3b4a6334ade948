"""A logger may fail; the run may not."""

from contextlib import nullcontext
from threading import Event

import pytest
from pytorch_lightning.loggers.logger import Logger

from sizemix.checkpointing.signals import Interrupted, signal
from sizemix.errors import UserError
from sizemix.loggers.guarded import GuardedLogger, opened


class Noting(Logger):
    """Notes what it is given; raises an error at everything once it has one."""

    name, version = "noting", ""

    def __init__(self):
        super().__init__()
        self.rows, self.error = [], None

    def log_metrics(self, metrics, step=None):
        if self.error is not None:
            raise self.error
        self.rows.append((dict(metrics), step))

    def log_hyperparams(self, params, *args, **kwargs):
        pass


class Place:
    """The service of a logger: notes with which exit code it is closed."""

    def __init__(self):
        self.closed, self.refusal, self.error = [], None, None

    def open(self):
        if self.refusal is not None:
            raise self.refusal

    def show_plan(self, picture):
        pass

    def show_evaluation(self, evaluation, files):
        pass

    def close(self, exit_code):
        self.closed.append(exit_code)
        if self.error is not None:
            raise self.error


@pytest.fixture
def noting():
    return Noting()


@pytest.fixture
def place():
    return Place()


@pytest.fixture
def guarded(noting, place):
    return GuardedLogger(noting, place, images_seen=lambda step: 10 * (step + 1))


def test_every_row_says_how_many_images_were_seen(guarded, noting):
    guarded.log_metrics({"train/loss": 0.5}, step=4)
    assert noting.rows == [({"train/loss": 0.5, "images_seen": 50.0}, 4)]


def test_a_logger_that_fails_is_told_once_and_left_alone(guarded, noting, capsys):
    noting.error = OSError("No space\nleft on device.")
    for step in range(3):
        guarded.log_metrics({"train/loss": 0.5}, step=step)
    noting.error = None
    guarded.log_metrics({"train/loss": 0.5}, step=3)
    assert noting.rows == []
    assert capsys.readouterr().err == (
        "sizemix: Noting failed (OSError: No space left on device); the run goes on without it, and its folder has "
        "every figure.\n"
    )


def test_a_signal_is_no_failure(guarded, noting):
    noting.error = Interrupted(signal.SIGTERM, on_all_ranks=True)
    with pytest.raises(Interrupted):
        guarded.log_metrics({}, step=0)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (None, 0),
        (RuntimeError("loss is nan"), 1),
        (UserError("too large"), 1),
        (KeyboardInterrupt(), 1),
        (SystemExit(1), 1),
        (Interrupted(signal.SIGTERM, on_all_ranks=True), 143),
    ],
)
def test_it_is_closed_once_however_the_run_ends(guarded, place, error, code):
    ending = nullcontext() if error is None else pytest.raises(type(error))
    with ending, opened([guarded], required=True):
        if error is not None:
            raise error
    guarded.close(1)  # as the end of another rank may do, from its thread
    assert place.closed == [code]


def test_an_interrupted_run_does_not_wait_for_a_service_that_does_not_answer(guarded, place, monkeypatch):
    monkeypatch.setattr("sizemix.loggers.guarded._SOON_SECONDS", 0.1)
    monkeypatch.setattr(place, "close", lambda exit_code: Event().wait())
    with pytest.raises(Interrupted), opened([guarded], required=True):
        raise Interrupted(signal.SIGUSR1, on_all_ranks=True)


def test_what_it_still_holds_is_handed_over_after_a_failure(guarded, noting, place):
    noting.error = OSError("lost")
    with opened([guarded], required=True):
        guarded.log_metrics({}, step=0)
    assert place.closed == [0]


def test_a_failure_at_the_end_does_not_take_the_place_of_what_ended_the_run(guarded, place, capsys):
    place.error = TimeoutError("no answer")
    with pytest.raises(RuntimeError, match="loss is nan"), opened([guarded], required=True):
        raise RuntimeError("loss is nan")
    assert "TimeoutError: no answer" in capsys.readouterr().err


def test_a_new_run_ends_where_it_cannot_connect_and_one_that_has_trained_goes_on(guarded, noting, place, capsys):
    place.refusal = UserError("W&B says no")
    with pytest.raises(UserError, match="W&B says no"), opened([guarded], required=True):
        raise AssertionError("it must not begin")
    with opened([guarded], required=False):
        guarded.log_metrics({}, step=0)
    assert noting.rows == place.closed == []
    assert "UserError: W&B says no" in capsys.readouterr().err
