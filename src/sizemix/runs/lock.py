"""Keeps two processes from writing one folder."""

import fcntl
import os
from pathlib import Path


class Lock:
    """A lock on a file, held until it is released or this process ends.

    A POSIX lock: unlike flock's, it does not pass to forked processes, which may outlive a killed parent by seconds.

    Args:
        descriptor: of the open and locked file.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def release(self) -> None:
        """Lets others take it."""
        os.close(self._descriptor)


def take_lock(file: Path) -> Lock | None:
    """Locks a file, which is made where it does not exist, and stays there; None: another process holds it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # which of the two is the system's choice
        os.close(descriptor)
        return None
    return Lock(descriptor)
