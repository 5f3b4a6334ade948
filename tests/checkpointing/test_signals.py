import os
import signal
import subprocess
import sys

import pytest

from sizemix.checkpointing import signals as module
from sizemix.checkpointing.signals import Interrupted, StopSignals


@pytest.fixture
def signals():
    own = StopSignals(signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
    own.install()
    yield own
    own.restore()


def send(number):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_outside_training_a_signal_ends_the_run_at_once(signals, number, code):
    with pytest.raises(Interrupted) as raised:
        send(number)
    assert raised.value.exit_code == code
    assert not raised.value.on_all_ranks


def test_in_training_the_first_is_noted_and_announced_and_the_second_ends_at_once(signals, monkeypatch, capfd):
    monkeypatch.setattr(module, "_ONE_WISH_SECONDS", 0)
    signals.wait_for_step("stopping")
    send(signal.SIGTERM)
    assert signals.received is signal.SIGTERM
    assert capfd.readouterr().err == "\nstopping\n"
    with pytest.raises(Interrupted, match="SIGINT"):
        send(signal.SIGINT)


def test_slurms_sigterm_does_not_make_one_forget_the_time_limit_that_it_announced(signals, monkeypatch):
    monkeypatch.setattr(module, "_ONE_WISH_SECONDS", 0)
    signals.wait_for_step(None)
    send(signal.SIGUSR1)
    with pytest.raises(Interrupted, match="SIGUSR1"):
        send(signal.SIGTERM)


def test_a_signal_that_a_launcher_repeats_is_one_wish(signals, capfd):
    signals.wait_for_step("stopping")
    for _ in range(3):
        send(signal.SIGINT)
    assert signals.received is signal.SIGINT
    assert capfd.readouterr().err == "\nstopping\n"


def test_a_signal_behind_the_last_step_ends_the_run_before_the_evaluation(signals):
    signals.wait_for_step(None)
    send(signal.SIGTERM)
    with pytest.raises(Interrupted, match="SIGTERM"):
        signals.stop_waiting()


def test_a_run_that_is_ending_cannot_be_interrupted_any_more(signals):
    with pytest.raises(Interrupted):
        send(signal.SIGTERM)
    send(signal.SIGTERM)
    send(signal.SIGINT)


def test_a_forked_process_does_not_act_for_its_parent(signals):
    child = os.fork()
    if child == 0:
        send(signal.SIGTERM)
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_the_handlers_from_before_come_back():
    before = signal.getsignal(signal.SIGTERM)
    own = StopSignals(signal.SIGTERM)
    own.install()
    own.restore()
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_signal_waits_for_a_program_that_has_no_handlers_yet():
    program = """
import os, signal
from sizemix.checkpointing.signals import Interrupted, StopSignals, hold_back, let_through
hold_back()
os.kill(os.getpid(), signal.SIGINT)
signals = StopSignals(signal.SIGINT)
signals.install()
try:
    let_through()
except Interrupted as error:
    raise SystemExit(error.exit_code)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (130, "")
