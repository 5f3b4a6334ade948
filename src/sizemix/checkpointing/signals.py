"""Signals that end a run: when its step is whole while it trains, at once before and after.

Lightning's own handlers do not serve: on SIGTERM every rank starts a collective inside the handler, so that ranks that
are not signalled together hang, and the one for Slurm saves there, maybe in the middle of a step.
"""

import os
import signal
import time
from types import FrameType
from typing import Any

# Those that end a run, the weightiest last: behind the time limit that SIGUSR1 announces Slurm sends SIGTERM.
BY_WEIGHT = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)

# Ctrl-C reaches a process from the terminal and again from a launcher that passes it on: one wish, not two.
_ONE_WISH_SECONDS = 1.0


def hold_back() -> None:
    """Lets signals wait, also those to programs that this process starts or becomes, until they are let through.

    A program that has not installed its handlers yet would end without a sentence, or with a traceback.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, BY_WEIGHT)


def let_through() -> None:
    """Receives the signals that wait, and all that come from now on."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, BY_WEIGHT)


class Interrupted(BaseException):
    """A signal ends the run; no mistake, so nothing that handles those catches it.

    Args:
        number: of the signal.
        on_all_ranks: every rank has saved and ends with this same exception.

    Attributes:
        number: the same.
        on_all_ranks: the same.
    """

    def __init__(self, number: signal.Signals, *, on_all_ranks: bool) -> None:
        super().__init__(number.name)
        self.number = number
        self.on_all_ranks = on_all_ranks

    @property
    def exit_code(self) -> int:
        """As shells count: 130 for SIGINT, 143 for SIGTERM."""
        return 128 + self.number


class StopSignals:
    """This process's handlers; to be used in its main thread.

    Args:
        numbers: the signals that end the run.

    Attributes:
        received: the first that came while the run trained; None before.
    """

    def __init__(self, *numbers: signal.Signals) -> None:
        self.received: signal.Signals | None = None
        self._numbers = numbers
        self._process = os.getpid()
        self._before: dict[signal.Signals, Any] = {}
        self._received_at = 0.0
        self._waits = False
        self._ended = False
        self._announcement = b""

    def install(self) -> None:
        """From now on a signal ends the run at once, by an exception."""
        self._before = {number: signal.signal(number, self._receive) for number in self._numbers}

    def restore(self) -> None:
        """Brings back the handlers that stood before, as the run is over."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def wait_for_step(self, announcement: str | None) -> None:
        """From now on the first signal is only noted, and the second ends the run at once.

        Args:
            announcement: what the first one prints; None where another rank does.
        """
        self._waits = True
        self._announcement = b"" if announcement is None else f"\n{announcement}\n".encode()

    def stop_waiting(self) -> None:
        """From now on a signal ends the run at once again, one that has been noted now.

        Raises:
            Interrupted: one has.
        """
        self._waits = False
        if self.received is not None:
            self._end(self.received)

    def end(self) -> None:
        """From now on signals do nothing: the run is about to end in order, and a launcher may ask it to once more."""
        self._ended = True

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self._ended or os.getpid() != self._process:  # a worker in its first moments
            return
        if not self._waits:
            self._end(signal.Signals(number))
        if self.received is None:
            self.received, self._received_at = signal.Signals(number), time.monotonic()
            os.write(2, self._announcement)  # not print, as this may run in the middle of one
        elif time.monotonic() - self._received_at > _ONE_WISH_SECONDS:
            limit = self.received == signal.SIGUSR1  # behind which Slurm sends SIGTERM: the job must be queued again
            self._end(self.received if limit else signal.Signals(number))

    def _end(self, number: signal.Signals) -> None:
        self._ended = True
        raise Interrupted(number, on_all_ranks=False)
