"""The files of a pack that is being made: shards, a journal of what is safely in them, and who may write.

Every so often what is written is forced to disk and then entered into the journal; what stands behind the journal's
last entry is removed when packing goes on.
"""

import json
import os
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from sizemix.data.pack_encoding import Copy, EncodedPhoto
from sizemix.data.pack_format import INDEX_FILE, PHOTO, bytes_of, shard_name
from sizemix.errors import UserError
from sizemix.runs.atomic import full_disk_named, remove_partial_files, write_atomically
from sizemix.runs.lock import take_lock

_JOB_FILE, _JOURNAL_FILE, _LOCK_FILE = "packing.json", "packing.journal", "packing.lock"
_SECONDS_BETWEEN_ENTRIES = 2.0


class PackFiles:
    """Shards and journal of a pack that is being made, from where they were left.

    Args:
        folder: of the pack.
        shard_bytes: of a shard at most, unless a single photo is larger.

    Attributes:
        entries: for each file so far, its photo's row of the index as bytes, or why it is broken.
    """

    def __init__(self, folder: Path, shard_bytes: int) -> None:
        self._folder = folder
        self._most = shard_bytes
        self._journal = folder / _JOURNAL_FILE
        self.entries = _read_journal(self._journal)
        self._saved = len(self.entries)
        last = next((entry for entry in reversed(self.entries) if isinstance(entry, bytes)), None)
        self._number, self._length = (0, 0) if last is None else _end(last)
        self._remove_shards_behind()
        self._shard = self._open_shard()
        self._saved_at = time.monotonic()

    @property
    def photos(self) -> NDArray[Any]:
        """Rows of the index, without class and split, of all photos so far."""
        return np.frombuffer(b"".join(entry for entry in self.entries if isinstance(entry, bytes)), PHOTO)

    @property
    def shard_lengths(self) -> list[int]:
        """Of all shards so far."""
        whole = [(self._folder / shard_name(number)).stat().st_size for number in range(self._number)]
        return [*whole, self._length]

    def write(self, encoded: EncodedPhoto | str) -> None:
        """Appends a photo, or notes why there is none."""
        self.entries.append(encoded if isinstance(encoded, str) else self._append(encoded))
        if time.monotonic() - self._saved_at > _SECONDS_BETWEEN_ENTRIES:
            self.save()

    def save(self) -> None:
        """Forces all that is written to disk, then says so in the journal."""
        lines = [_journal_line(entry) for entry in self.entries[self._saved :]]
        with full_disk_named(self._folder):
            _force(self._shard)
            with self._journal.open("ab") as journal:
                journal.write(b"".join(lines))
                _force(journal)
        self._saved, self._saved_at = len(self.entries), time.monotonic()

    def close(self) -> None:
        """Writes nothing more; what is not saved will be made anew."""
        with suppress(OSError):  # a full disk, which has been named
            self._shard.close()

    def _append(self, photo: EncodedPhoto) -> bytes:
        stored = [copy.stored for copy in photo.copies]
        length = sum(map(len, stored))
        if self._length and self._length + length > self._most:
            self._begin_shard()
        place = (self._length, self._number, 0, 0, photo.orientation, photo.lossless, 0)
        with full_disk_named(self._folder):
            self._shard.write(b"".join(stored))
        self._length += length
        copies = (_copy_row(copy, data) for copy, data in zip(photo.copies, stored, strict=True))
        return np.array((*place, *copies), PHOTO).tobytes()

    def _begin_shard(self) -> None:
        with full_disk_named(self._folder):
            _force(self._shard)
            self._shard.close()
        self._number, self._length = self._number + 1, 0
        self._shard = self._open_shard()

    def _open_shard(self) -> IO[bytes]:
        return (self._folder / shard_name(self._number)).open("ab")

    def _remove_shards_behind(self) -> None:
        """Removes what was written behind the journal's last entry."""
        for file in self._folder.glob("photos-*.bin"):
            if file.name > shard_name(self._number):
                file.unlink()
        last = self._folder / shard_name(self._number)
        if last.exists():
            os.truncate(last, self._length)


def _copy_row(copy: Copy, stored: bytes) -> tuple[int, ...]:
    layout = copy.layout
    of_layout = (layout.header_bytes, layout.size_at, layout.interval, layout.mcu_width, layout.mcu_height)
    return (len(stored), zlib.crc32(stored), layout.width, layout.height, *of_layout)


def _end(entry: bytes) -> tuple[int, int]:
    """Shard of a photo, and where in it the photo ends."""
    photo = np.frombuffer(entry, PHOTO)
    return int(photo["shard"][0]), int(photo["offset"][0] + bytes_of(photo)[0])


def _journal_line(entry: bytes | str) -> bytes:
    return json.dumps({"photo": entry.hex()} if isinstance(entry, bytes) else {"broken": entry}).encode() + b"\n"


def _read_journal(path: Path) -> list[bytes | str]:
    """The entries that are whole; a last one that is not is cut off."""
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    entries: list[bytes | str] = []
    length = 0
    for line in lines:
        try:
            entry = json.loads(line)
            entries.append(bytes.fromhex(entry["photo"]) if "photo" in entry else str(entry["broken"]))
        except (ValueError, KeyError, TypeError):
            break
        if not line.endswith(b"\n"):
            entries.pop()
            break
        length += len(line)
    if path.exists():
        os.truncate(path, length)
    return entries


def _force(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


@contextmanager
def claimed(folder: Path, job: Mapping[str, Any]) -> Iterator[None]:
    """Keeps others out of the folder while a job is done in it; a job that is done leaves no trace of it."""
    _check_destination(folder, job)
    lock = take_lock(folder / _LOCK_FILE)
    if lock is None:
        raise UserError(f"{folder}: another process is packing into it; wait for its end, or end it.")
    try:
        _check_destination(folder, job)  # another process may have finished meanwhile
        remove_partial_files(folder)
        write_atomically(folder / _JOB_FILE, lambda file: file.write(json.dumps(job).encode()))
        yield
        for name in (_JOB_FILE, _JOURNAL_FILE, _LOCK_FILE):  # a pack without a job is whole whatever else is left
            (folder / name).unlink(missing_ok=True)
    finally:
        lock.release()


def _check_destination(folder: Path, job: Mapping[str, Any]) -> None:
    """Refuses a folder that holds something else than the beginning of this very job.

    Raises:
        UserError: what it holds.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"expected a folder to pack into, got the file {folder}; choose another name.")
    if not folder.exists() or not any(file.name != _LOCK_FILE for file in folder.iterdir()):
        return
    try:
        begun = json.loads((folder / _JOB_FILE).read_bytes())
    except FileNotFoundError:
        what = "a whole pack" if (folder / INDEX_FILE).exists() else "other files"
        raise UserError(
            f"expected a new or empty folder to pack into, got {folder} with {what}; choose another."
        ) from None
    except ValueError:
        begun = None
    if begun != job:
        odd = ", ".join(name for name in job if begun is None or begun.get(name) != job[name])
        raise UserError(
            f"{folder}: expected to go on packing what was begun, got a difference in {odd}; pack it as before, or "
            f"remove {folder}."
        )
