"""Ends a run everywhere when one of its processes ends, with one sentence that says which and why.

Every rank holds a connection to rank 0. An exception travels over it in words; a process that is killed says nothing
more, but the system closes its connection, and keepalive notices a machine that is gone. Collectives would notice
neither: NCCL's wait for half an hour.
"""

import json
import multiprocessing
import os
import queue
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener
from subprocess import Popen, TimeoutExpired
from typing import Any, NoReturn

from sizemix.errors import UserError

_GRACE_SECONDS = 1.0
_TEARDOWN_SECONDS = 20.0
_JOIN_SECONDS = 600.0
_FAREWELL_SECONDS = 30.0
_WISH_SECONDS = 10.0


class Lifeline:
    """This process's connection to the run's other ranks; a run of one process has none.

    Args:
        rank: of this process.
        world_size: ranks of the run.

    Attributes:
        remedy: what a user can do when the run has ended, told with the reason.
        last_wish: carried out where this process is left from a thread, if it does not take long.
    """

    def __init__(self, rank: int = 0, *, world_size: int = 1) -> None:
        self.rank = rank
        self.world_size = world_size
        self.remedy = ""
        self.last_wish: Callable[[], None] = lambda: None
        self._connections: dict[int, Connection[Any, Any]] = {}
        self._processes: dict[int, Popen[Any]] = {}
        self._shared: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._complete = threading.Event()  # all ranks have joined
        self._ending = threading.Lock()  # taken once, by whoever tells how the run ended

    def host(self, address: tuple[str, int], *, key: bytes, world_size: int) -> int:
        """Lets the other ranks join, as rank 0.

        Returns:
            The port.

        Raises:
            UserError: the port is taken.
        """
        self.world_size = world_size
        try:
            listener = Listener(address, backlog=world_size, authkey=key)
        except OSError as error:
            raise UserError(
                f"expected port {address[1]} to be free on rank 0's machine, got: {error.strerror}; set MASTER_PORT."
            ) from error
        threading.Thread(target=self._admit, args=(listener,), daemon=True).start()
        return int(listener.address[1])

    @classmethod
    def join(
        cls,
        rank: int,
        *,
        world_size: int,
        address: tuple[str, int],
        key: bytes,
        patience_seconds: float = _JOIN_SECONDS,
    ) -> "Lifeline":
        """Connects to rank 0.

        Raises:
            UserError: no answer in time, or that of another run.
        """
        lifeline = cls(rank, world_size=world_size)
        connection = _connect(address, key, patience_seconds)
        connection.send_bytes(json.dumps(rank).encode())
        lifeline._follow(0, connection)
        return lifeline

    def watch(self, processes: Sequence[Popen[Any]]) -> None:
        """Tells how further ranks ended that rank 0 has started itself, those that had not joined yet too."""
        self._processes = dict(enumerate(processes, start=1))
        threading.Thread(target=self._watch, daemon=True).start()

    def share(self, text: str) -> None:
        """Sends a text to all ranks, as rank 0.

        Raises:
            UserError: a rank has not joined.
        """
        if not self._complete.wait(_JOIN_SECONDS):
            joined = 1 + len(self._connections)
            raise UserError(f"expected {self.world_size} processes, got {joined} in {_JOIN_SECONDS:.0f} s; start all.")
        self._tell({"shared": text})

    def receive(self) -> str | None:
        """The text that rank 0 shares; None where it has finished without one."""
        return self._shared.get()

    def fail(self, reason: str, code: int) -> None:
        """Ends the other ranks, as this one cannot go on.

        Not at once: where a rank has been killed, the others fail as well, and its end is what should be told. This
        process then ends in here, also where that takes long. Of a mistake that all ranks notice, rank 0 speaks.
        """
        if self.world_size == 1:
            return
        time.sleep(_GRACE_SECONDS if self.rank == 0 else 2 * _GRACE_SECONDS)
        # Behind an exception, Lightning may wait for a device that waits for the other ranks.
        deadline = threading.Timer(_TEARDOWN_SECONDS, self._leave, [code])
        deadline.daemon = True
        deadline.start()
        if self.rank:
            self._tell({"failed": reason, "code": code})
        elif self._ending.acquire(blocking=False):
            self._bid_farewell({"end": code})
            self._end_those_not_joined()
        else:
            threading.Event().wait()  # for the thread that has told another rank's end, and leaves this process

    def finish(self) -> None:
        """Tells the other ranks that this one has ended as it should."""
        if self.rank == 0:
            self._ending.acquire(blocking=False)
        self._bid_farewell({"finished": True})

    def wait_for_own(self) -> None:
        """Waits for the ranks that this process has started, so that none outlives it."""
        deadline = time.monotonic() + _FAREWELL_SECONDS
        for process in self._processes.values():
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except TimeoutExpired:
                process.kill()

    def _bid_farewell(self, message: dict[str, Any]) -> None:
        if self.rank == 0 and self.world_size > 1 and not self._processes:
            self._complete.wait(_FAREWELL_SECONDS)  # who joins too late would wait for nobody
        self._tell(message)

    def _tell(self, message: dict[str, Any]) -> None:
        for connection in list(self._connections.values()):
            with suppress(OSError):
                connection.send_bytes(json.dumps(message).encode())

    def _admit(self, listener: Listener) -> None:
        with listener:
            while len(self._connections) < self.world_size - 1:
                with suppress(OSError, EOFError, AuthenticationError, ValueError):  # a stranger
                    connection = listener.accept()
                    self._follow(int(connection.recv_bytes()), connection)
        self._complete.set()

    def _follow(self, rank: int, connection: "Connection[Any, Any]") -> None:
        _keep_alive(connection)
        os.register_at_fork(after_in_child=connection.close)  # a worker must not hold it open for its parent
        self._connections[rank] = connection
        threading.Thread(target=self._listen, args=(rank, connection), daemon=True).start()

    def _listen(self, rank: int, connection: "Connection[Any, Any]") -> None:
        try:
            while True:
                match json.loads(connection.recv_bytes()):
                    case {"shared": text}:
                        self._shared.put(text)
                    case {"failed": reason, "code": code}:
                        self._end(rank, reason, code)
                    case {"end": code}:
                        _exit(code)
                    case {"finished": True}:
                        self._shared.put(None)
                        return
        except (EOFError, OSError):
            self._end(rank, self._fate(rank), 1)

    def _watch(self) -> None:
        while len(self._connections) < self.world_size - 1:
            time.sleep(_GRACE_SECONDS)
            for rank, process in self._processes.items():
                if process.poll() is not None and rank not in self._connections:
                    self._end(rank, self._fate(rank), 1)

    def _fate(self, rank: int) -> str:
        process = self._processes.get(rank)
        if process is None:
            return "its process was killed or its machine lost"
        code = process.wait()
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

    def _end(self, rank: int, reason: str, code: int) -> None:
        """Ends the run because of another rank."""
        if not self._ending.acquire(blocking=False):
            return
        if self.rank == 0:
            self._tell({"end": code})
            self._end_those_not_joined()
        if self.rank == 0 or self.rank == 1:  # where rank 0 is gone, one of the others speaks
            say(f"\nsizemix: rank {rank} ended: {reason}{self.remedy}")
        self.wait_for_own()
        self._leave(code)

    def _leave(self, code: int) -> NoReturn:
        wish = threading.Thread(target=self.last_wish, daemon=True)
        wish.start()
        wish.join(_WISH_SECONDS)
        _exit(code)

    def _end_those_not_joined(self) -> None:
        """They are still starting: they hear nothing, and would wait for a rank 0 that is gone."""
        for rank, process in self._processes.items():
            if rank not in self._connections:
                process.kill()


def say(sentence: str) -> None:
    """Writes it to stderr in one piece: another thread of this process may be printing a traceback."""
    sys.stderr.write(f"{sentence}\n")
    sys.stderr.flush()


def _connect(address: tuple[str, int], key: bytes, patience_seconds: float) -> "Connection[Any, Any]":
    host, port = address
    deadline = time.monotonic() + patience_seconds
    while True:
        try:
            return Client(address, authkey=key)
        except AuthenticationError as error:
            raise UserError(
                f"expected this run's rank 0 at {host}:{port}, got another run; set MASTER_PORT."
            ) from error
        except (OSError, EOFError) as error:  # it listens a little later, or has ended
            if time.monotonic() > deadline:
                raise UserError(
                    f"expected rank 0 at {host}:{port}, got no answer in {patience_seconds:.0f} s; see why it ended."
                ) from error
            time.sleep(0.2)


def _keep_alive(connection: "Connection[Any, Any]") -> None:
    """Notices a machine that has gone within 40 seconds."""
    with socket.socket(fileno=os.dup(connection.fileno())) as handle:
        handle.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, seconds_or_times in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
            if hasattr(socket, option):  # macOS calls the first another name
                handle.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), seconds_or_times)


def _exit(code: int) -> NoReturn:
    """Leaves from a thread, past a main thread that waits in a collective."""
    for worker in multiprocessing.active_children():  # they would notice up to five seconds later
        worker.kill()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
