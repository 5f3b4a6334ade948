"""Files that are either whole or not there."""

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from sizemix.errors import DiskFullError

_FULL = (errno.ENOSPC, errno.EDQUOT)
_SUFFIX = ".partial"
_PARTIAL = re.compile(r"\..+-[a-z0-9_]{8}\.partial")  # what mkstemp makes of the prefix and suffix below


def write_atomically(path: Path, write: Callable[[IO[bytes]], object], *, previous: Path | None = None) -> None:
    """Writes a file beside its place, forces it to disk and renames it: a reader never sees half of it.

    Args:
        path: where the file goes; what stands there is replaced.
        write: writes the content to the open file.
        previous: where the replaced file goes, in the same folder; None keeps it nowhere.

    Raises:
        DiskFullError: no room for it; the old file stays.
    """
    with full_disk_named(path):
        _write(path, write, previous)


@contextmanager
def full_disk_named(path: Path) -> Iterator[None]:
    """Around whatever writes a file.

    Raises:
        DiskFullError: no room for it.
    """
    try:
        yield
    except Exception as error:
        full = next((cause for cause in _causes(error) if isinstance(cause, OSError) and cause.errno in _FULL), None)
        if full is None:
            raise
        free = _free_bytes(path.parent)
        raise DiskFullError(
            f"{path}: expected room on its disk, got: {full.strerror} ({free / 2**20:,.1f} MiB free); make room."
        ) from error


def remove_partial_files(folder: Path) -> None:
    """Removes what writes have left that were killed, in a folder in which nobody writes now."""
    for file in folder.glob(f".*{_SUFFIX}"):
        if _PARTIAL.fullmatch(file.name):
            file.unlink(missing_ok=True)


def _write(path: Path, write: Callable[[IO[bytes]], object], previous: Path | None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-", suffix=_SUFFIX)
    try:
        with os.fdopen(descriptor, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        if previous is not None and path.exists():
            os.replace(path, previous)  # whole until the next line has put the new one into place
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and those behind it: torch's writer reports one of its own."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _free_bytes(folder: Path) -> int:
    """On the disk of a folder that may not exist yet."""
    existing = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    return shutil.disk_usage(existing).free
