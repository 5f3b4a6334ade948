"""Two ranks in one process; leaving it is replaced by noting the exit code."""

import os
import queue
import signal
import socket
import subprocess
import sys
import threading

import pytest

from sizemix.errors import UserError
from sizemix.training import lifeline
from sizemix.training.lifeline import Lifeline

_KEY = b"of this run"


@pytest.fixture
def exits(monkeypatch):
    codes: queue.Queue[int] = queue.Queue()

    def note(code):
        codes.put(code)
        threading.Event().wait()  # the thread does nothing more

    monkeypatch.setattr(lifeline, "_exit", note)
    monkeypatch.setattr(lifeline, "_GRACE_SECONDS", 0.01)
    monkeypatch.setattr(lifeline, "_TEARDOWN_SECONDS", 1e6)
    return codes


@pytest.fixture
def ranks(exits):
    first = Lifeline()
    port = first.host(("127.0.0.1", 0), key=_KEY, world_size=2)
    return first, Lifeline.join(1, world_size=2, address=("127.0.0.1", port), key=_KEY)


def test_rank_0_shares_what_it_chose(ranks):
    ranks[0].share("outputs/a run")
    assert ranks[1].receive() == "outputs/a run"


def test_nothing_to_share_is_said_too(ranks):
    ranks[0].finish()
    assert ranks[1].receive() is None


def test_an_exception_is_told_by_rank_0_and_ends_both(ranks, exits, capfd):
    ranks[0].share("")
    ranks[0].remedy = "; continue"
    ranks[1].fail("it broke", 3)
    assert [exits.get(timeout=5), exits.get(timeout=5)] == [3, 3]
    assert capfd.readouterr().err == "\nsizemix: rank 1 ended: it broke; continue\n"


def test_a_rank_0_that_fails_behind_another_rank_says_nothing_more_however_long_the_others_take(
    ranks, exits, capfd, sleeper
):
    ranks[0].watch([sleeper])  # which rank 0 waits for before it leaves
    ranks[0].share("")
    ranks[1].fail("it broke", 3)
    assert exits.get(timeout=5) == 3, "rank 1 has left"
    failing = threading.Thread(target=ranks[0].fail, args=("its connection was closed", 1), daemon=True)
    failing.start()
    failing.join(0.3)
    assert failing.is_alive()
    sleeper.kill()
    assert exits.get(timeout=5) == 3, "with the code of the rank that failed first"
    assert capfd.readouterr().err == "\nsizemix: rank 1 ended: it broke\n"


def test_a_last_wish_is_carried_out_before_a_process_is_left_unless_it_takes_long(ranks, exits, monkeypatch):
    monkeypatch.setattr(lifeline, "_WISH_SECONDS", 0.1)
    ranks[0].share("")
    wished = threading.Event()

    def wish():
        wished.set()
        threading.Event().wait()

    ranks[0].last_wish = wish
    ranks[1].fail("it broke", 3)
    assert [exits.get(timeout=5), exits.get(timeout=5)] == [3, 3]
    assert wished.is_set()


def test_a_process_that_vanishes_ends_the_others(ranks, exits, capfd):
    ranks[0].share("")
    with socket.socket(fileno=os.dup(ranks[1]._connections[0].fileno())) as handle:
        handle.shutdown(socket.SHUT_RDWR)
    assert [exits.get(timeout=5), exits.get(timeout=5)] == [1, 1]
    assert "sizemix: rank 1 ended: its process was killed" in capfd.readouterr().err


def test_another_run_is_not_joined(ranks):
    first = Lifeline()
    port = first.host(("127.0.0.1", 0), key=b"of another run", world_size=2)
    with pytest.raises(UserError, match="got another run; set MASTER_PORT"):
        Lifeline.join(1, world_size=2, address=("127.0.0.1", port), key=_KEY)


def test_a_rank_0_that_does_not_answer_is_not_waited_for_forever():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(UserError, match="got no answer in 0 s"):
        Lifeline.join(1, world_size=2, address=("127.0.0.1", port), key=_KEY, patience_seconds=0)


def test_a_port_that_is_taken_is_named(ranks):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(UserError, match=f"expected port {port} to be free"):
            Lifeline().host(("127.0.0.1", port), key=_KEY, world_size=2)


def test_a_run_of_one_process_has_nobody_to_tell():
    alone = Lifeline()
    alone.fail("it broke", 1)
    alone.finish()


@pytest.fixture
def sleeper():
    """A process that does not end by itself."""
    process = subprocess.Popen(["sleep", "60"])
    yield process
    process.kill()
    process.wait()


def test_a_rank_that_is_still_starting_ends_with_rank_0(exits, sleeper):
    first = Lifeline()
    first.host(("127.0.0.1", 0), key=_KEY, world_size=2)
    first.watch([sleeper])
    first.fail("interrupted", 130)
    assert sleeper.wait(timeout=5) == -signal.SIGKILL


def test_a_rank_that_does_not_end_is_not_left_behind(monkeypatch, sleeper):
    monkeypatch.setattr(lifeline, "_FAREWELL_SECONDS", 0)
    first = Lifeline()
    first.watch([sleeper])
    first.wait_for_own()
    assert sleeper.wait(timeout=5) == -signal.SIGKILL


def test_a_sentence_is_one_write_so_that_no_traceback_gets_between_its_words_and_its_end(ranks, exits, monkeypatch):
    writes = []
    monkeypatch.setattr(sys.stderr, "write", writes.append)
    ranks[0].share("")
    ranks[1].fail("it broke", 3)
    assert [exits.get(timeout=5), exits.get(timeout=5)] == [3, 3]
    assert writes == ["\nsizemix: rank 1 ended: it broke\n"]
