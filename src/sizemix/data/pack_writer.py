"""Makes a pack from a folder of photos; killed at any time and started again, it goes on to the same bytes.

Threads encode the photos, which are written in the order of their paths (data/pack_files.py). The index comes last and
makes the folder a pack.
"""

import hashlib
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from tqdm import tqdm

from sizemix.data.folder import BrokenFilesError, find_files, readable_files, refuse_many_broken, why_broken
from sizemix.data.pack_encoding import EncodedPhoto, encode_photo
from sizemix.data.pack_files import PackFiles, claimed
from sizemix.data.pack_format import INDEX_FILE, VERSION, Index, write_index
from sizemix.data.prefetch import prefetched
from sizemix.data.splits import SPLITS, SplitFile
from sizemix.errors import UserError
from sizemix.runs.tables import write_csv

BROKEN_FILE = "broken.csv"
_SHARD_BYTES = 2**30


@dataclass(frozen=True)
class Packed:
    """What has been packed.

    Attributes:
        photos: how many.
        classes: how many.
        lossless: how many of the photos have the very pixels of their files.
        source_bytes: of their files.
        bytes: of the pack.
        broken: files that were left out, with the reason.
        seconds: that it took since it was last begun.
    """

    photos: int
    classes: int
    lossless: int
    source_bytes: int
    bytes: int
    broken: Mapping[str, str]
    seconds: float


def write_pack(
    source: Path,
    destination: Path,
    *,
    quality: int,
    jpegtran: str | None,
    val_dir: str | None,
    test_dir: str | None,
    allow_broken: bool,
    num_threads: int,
    shard_bytes: int = _SHARD_BYTES,
) -> Packed:
    """Packs a folder of photos, or goes on with what an interrupted process has left.

    Args:
        source: a folder for each class, or train/, val/ and test/ with such folders in each.
        destination: the pack; a new or empty folder, or one that packing has begun.
        quality: of the JPEGs that are encoded.
        jpegtran: the program that keeps a JPEG's very pixels; None: there is none.
        val_dir: where validation files stand beside train/; None: nowhere.
        test_dir: where test files stand beside train/; None: nowhere.
        allow_broken: go on with over 1 % (and more than 10) broken files.
        num_threads: that encode.
        shard_bytes: of a shard at most, unless a single photo is larger.

    Raises:
        UserError: of the source what data=folder says; too many broken files; a destination that holds something else.
        DiskFullError: no room; once there is, packing can go on.
    """
    started = time.monotonic()
    files = find_files(source, val_dir=val_dir, test_dir=test_dir)
    sizes = [_size_and_time(source / file.path) for file in files]
    job = {
        "version": VERSION,
        "files": hashlib.sha256(repr((files, sizes)).encode(errors="surrogateescape")).hexdigest(),
        "quality": quality,
        "jpegtran": None if jpegtran is None else _version_of(jpegtran),
        "shard_bytes": shard_bytes,
    }
    refuse = partial(_refuse_many_broken, destination, source, number=len(files))
    with claimed(destination, job), closing(PackFiles(destination, shard_bytes)) as pack:
        encode = _Encoder(source, quality, jpegtran)
        broken = _pack(files, pack, encode, num_threads=num_threads, refuse=None if allow_broken else refuse)
        readable = readable_files(source, files, broken, val_dir=val_dir, test_dir=test_dir)
        lengths = pack.shard_lengths
        index = _index(readable, pack.photos, name=source.resolve().name, quality=quality, shard_bytes=lengths)
        if broken:
            _write_broken(destination, broken)
        write_index(index, destination)
    return Packed(
        photos=len(index.photos),
        classes=len(index.class_names),
        lossless=int(index.photos["lossless"].sum()),
        source_bytes=sum(size for file, (size, _) in zip(files, sizes, strict=True) if file.path not in broken),
        bytes=sum(lengths) + (destination / INDEX_FILE).stat().st_size,
        broken=broken,
        seconds=time.monotonic() - started,
    )


def _pack(
    files: Sequence[SplitFile],
    pack: PackFiles,
    encode: Callable[[SplitFile], EncodedPhoto | str],
    *,
    num_threads: int,
    refuse: Callable[[Mapping[str, str]], None] | None,
) -> dict[str, str]:
    """Encodes the files that are not in the pack yet.

    Args:
        files: all of them.
        pack: takes them.
        encode: from a file to its photo, or to the reason why it cannot be read.
        num_threads: that encode.
        refuse: sees the broken files whenever there is one more; None: there may be any number.

    Returns:
        The broken ones, with the reason.
    """
    done, rest = files[: len(pack.entries)], files[len(pack.entries) :]
    broken = {file.path: entry for file, entry in zip(done, pack.entries, strict=True) if isinstance(entry, str)}
    if refuse is not None:
        refuse(broken)
    made = prefetched(rest, encode, num_threads=num_threads)
    bar = tqdm(desc="Packing", initial=len(done), total=len(files), unit="photo", disable=None)
    with closing(made), bar:
        for file, encoded in zip(rest, made, strict=True):
            pack.write(encoded)
            bar.update()
            if isinstance(encoded, str):
                broken[file.path] = encoded
                if refuse is not None:
                    refuse(broken)
    pack.save()
    return broken


class _Encoder:
    """From a file to what the pack holds of it, or to the reason why it cannot be read."""

    def __init__(self, source: Path, quality: int, jpegtran: str | None) -> None:
        self._source = source
        self._quality = quality
        self._jpegtran = jpegtran

    def __call__(self, file: SplitFile) -> EncodedPhoto | str:
        path = self._source / file.path
        try:
            return encode_photo(path.read_bytes(), quality=self._quality, jpegtran=self._jpegtran)
        except (UserError, MemoryError):
            raise
        except Exception as error:  # whatever one of Pillow's readers raises on bytes that are not what they seem
            return why_broken(error, path)


def _size_and_time(path: Path) -> tuple[int, int]:
    """Of a file; zeros where it cannot be looked at, which its reading will say."""
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_size, found.st_mtime_ns


def _version_of(jpegtran: str) -> str:
    """What the program says of itself, as other versions may write other bytes."""
    try:
        done = subprocess.run([jpegtran, "-version"], input=b"", capture_output=True)
    except OSError as error:
        raise UserError(f"expected to run {jpegtran}, got: {error}; mend it, or remove it from the path.") from error
    return done.stderr.decode(errors="replace").strip()


def _refuse_many_broken(folder: Path, source: Path, broken: Mapping[str, str], *, number: int) -> None:
    """Ends where so many files are broken that something is wrong with the data, and lists them."""
    try:
        refuse_many_broken(broken, number=number, root=source, option="--allow-broken")
    except BrokenFilesError as error:
        _write_broken(folder, broken)
        raise UserError(f"{error} Those found so far are listed in {folder / BROKEN_FILE}.") from error


def _write_broken(folder: Path, broken: Mapping[str, str]) -> None:
    write_csv(folder / BROKEN_FILE, ("path", "reason"), broken.items())


def _index(
    files: Sequence[SplitFile], photos: NDArray[Any], *, name: str, quality: int, shard_bytes: Sequence[int]
) -> Index:
    """The index of the readable files, whose photos do not know their class and split yet."""
    class_names = tuple(sorted({file.class_name for file in files}))
    numbers = {class_name: number for number, class_name in enumerate(class_names)}
    labelled = photos.copy()
    labelled["label"] = [numbers[file.class_name] for file in files]
    labelled["split"] = [SPLITS.index(file.split) for file in files]
    return Index(name, quality, class_names, shard_bytes, [file.path for file in files], labelled)
