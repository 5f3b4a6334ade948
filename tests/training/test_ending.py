import signal

import pytest

from sizemix.checkpointing.signals import Interrupted, StopSignals
from sizemix.errors import DiskFullError, UserError
from sizemix.training.ending import Ending
from sizemix.training.lifeline import Lifeline


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (Interrupted(signal.SIGTERM, on_all_ranks=True), 143, "\nsizemix: interrupted; continue\n"),
        (Interrupted(signal.SIGINT, on_all_ranks=False), 130, "\nsizemix: interrupted; continue\n"),
        (DiskFullError("last.ckpt: no room; make room."), 1, "\nsizemix: last.ckpt: no room; make room; continue\n"),
        (UserError("expected 1, got 2."), 2, "sizemix: expected 1, got 2.\n"),
    ],
)
def test_what_nobody_has_to_mend_in_the_code_is_one_sentence(capsys, error, code, sentence):
    lifeline = Lifeline()
    lifeline.remedy = "; continue"
    assert Ending(lifeline, StopSignals()).tell(error) == code
    assert capsys.readouterr().err == sentence


def test_anything_else_has_a_traceback_too(capsys):
    assert Ending(Lifeline(), StopSignals()).tell(KeyError("name")) == 1
    errors = capsys.readouterr().err
    assert "KeyError: 'name'" in errors
    assert errors.endswith("sizemix: the run ended: KeyError: 'name'\n")


def test_only_the_first_end_is_told(capsys):
    ending = Ending(Lifeline(), StopSignals())
    assert ending.tell(UserError("the first.")) == ending.tell(KeyError("behind it")) == 2
    assert "behind it" not in capsys.readouterr().err
