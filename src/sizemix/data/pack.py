"""A pack as a data set: photos of which only the part that a crop needs is read and decoded.

Photos are read with os.pread, not mapped into memory: a file that is cut off while a run reads it is then an exception
and not the end of the process, and threads that wait for a disk do not hold the others up. The system's page cache is
shared by all processes either way.
"""

import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from tqdm import tqdm

from sizemix.data.crops import RandomResizedCrop
from sizemix.data.jpeg_cut import Region, Tiling, cut_jpeg, interval_starts, tiling
from sizemix.data.pack_format import COPIES, Index, read_index, shard_name
from sizemix.data.photo_sets import PhotoDataset, photo_dataset, with_held_out
from sizemix.data.photos import TURNED, Decoded
from sizemix.data.prefetch import prefetched
from sizemix.data.splits import SPLITS, SplitFile, read_split
from sizemix.errors import UserError

# Less than of files: the filter that halves a pack's copies is nearer to antialiasing than the decoder's own way.
PACK_GAP = 1.33


def pack(
    *,
    root: str,
    name: str | None = None,
    val_fraction: float = 0.1,
    test_fraction: float = 0.1,
    group_pattern: str | None = None,
    split_seed: int = 0,
    split_file: str | None = None,
    train_images: int | None = None,
    crop_scale: tuple[float, float] = (0.08, 1.0),
    crop_aspect: tuple[float, float] = (3 / 4, 4 / 3),
    crop_reference_size: int | None = None,
    decode_gap: float = PACK_GAP,
) -> PhotoDataset:
    """Photos that `sizemix pack` has packed.

    Splits that the packed folder had are kept; those that it had not are held out, as data=folder would.

    Args:
        root: the pack.
        name: what reports call the data; None: the packed folder's name.
        val_fraction: of the photos, held out for validation where there is no such split.
        test_fraction: of the photos, held out for the test where there is no such split.
        group_pattern: regular expression on file names; files with the same match stay in one split.
        split_seed: seed of the held-out parts; not the run's, so that runs stay comparable.
        split_file: split.csv of another run, of the folder too, taken as it is.
        train_images: use only so many training images, equally many of each class; None uses all.
        crop_scale: least and greatest part of a photo's area that training shows.
        crop_aspect: least and greatest width / height of that part.
        crop_reference_size: see RandomResizedCrop.reference_size.
        decode_gap: pixels decoded for each pixel of a crop, at least, where less than all are.

    Raises:
        UserError: no pack, or one that is truncated or altered, by file and offset.
    """
    opened = PackedPhotos(read_index(Path(root)), Shards(Path(root)))
    if split_file is not None:
        files = read_split(Path(split_file))
    else:
        fractions = {"val": val_fraction, "test": test_fraction}
        files = with_held_out(opened.files, fractions, seed=split_seed, group_pattern=group_pattern)
    return photo_dataset(
        files,
        opened.of_paths,
        name=name or opened.index.name,
        crop=RandomResizedCrop((crop_scale[0], crop_scale[1]), (crop_aspect[0], crop_aspect[1]), crop_reference_size),
        decode_gap=decode_gap,
        train_images=train_images,
        broken={},
        contents=f"pack {opened.index.checksum}",
    )


def faults(root: Path, *, num_threads: int) -> tuple[int, list[str]]:
    """Checks and decodes every byte of a pack.

    Args:
        root: the pack.
        num_threads: that decode.

    Returns:
        The number of photos, and what is wrong with each that is damaged, by file and offset.

    Raises:
        UserError: no pack, or one whose index or shards are truncated or altered.
    """
    photos = PackedPhotos(read_index(root), Shards(root))

    def fault(index: int) -> str | None:
        try:
            photos.open(index).check()
        except (ValueError, OSError) as error:
            return f"{photos.index.paths[index]}: {error}"
        return None

    checked = prefetched(range(len(photos)), fault, num_threads=num_threads)
    bar = tqdm(checked, desc="Verifying", total=len(photos), unit="photo", disable=None)
    return len(photos), [found for found in bar if found is not None]


@dataclass(frozen=True)
class PackedPhotos:
    """Photos of a pack.

    Attributes:
        index: of the pack.
        shards: of the pack.
        rows: (num_photos,) which of its photos, in which order; None: all.
    """

    index: Index
    shards: "Shards"
    rows: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.index.photos if self.rows is None else self.rows)

    def name(self, index: int) -> str:
        """Its path, and where in the pack it is."""
        row = self._row(index)
        photo = self.index.photos[row]
        return f"{self.index.paths[row]} ({shard_name(photo['shard'])} at offset {photo['offset']})"

    def open(self, index: int) -> "PackedPhoto":
        """What the index says of it."""
        return PackedPhoto(self.shards, self.index.photos[self._row(index)])

    def size(self, index: int) -> tuple[int, int]:
        """Width and height of the upright photo."""
        photo = self.open(index)
        return photo.width, photo.height

    @property
    def paths(self) -> Sequence[str]:
        """One a photo."""
        return self.index.paths if self.rows is None else [self.index.paths[row] for row in self.rows]

    @property
    def files(self) -> list[SplitFile]:
        """The photos with their classes and the splits that they were packed with."""
        photos, names = self.index.photos, self.index.class_names
        return [
            SplitFile(path, names[label], SPLITS[split])
            for path, label, split in zip(self.index.paths, photos["label"], photos["split"], strict=True)
        ]

    def subset(self, rows: Sequence[int]) -> "PackedPhotos":
        """Only those photos, in that order."""
        chosen = np.asarray(rows, dtype=np.int64)
        return replace(self, rows=chosen if self.rows is None else self.rows[chosen])

    def of_paths(self, paths: Sequence[str]) -> "PackedPhotos":
        """The photos with these paths.

        Raises:
            UserError: one that is not in the pack.
        """
        places = {path: row for row, path in enumerate(self.index.paths)}
        missing = next((path for path in paths if path not in places), None)
        if missing is not None:
            raise UserError(f"data.split_file: expected files that are in the pack {self.shards.root}, got {missing}.")
        return replace(self, rows=np.array([places[path] for path in paths], dtype=np.int64))

    def _row(self, index: int) -> int:
        return index if self.rows is None else int(self.rows[index])


class Shards:
    """The shards of a pack, each opened once and for as long as this is kept.

    Args:
        root: the pack.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._open: dict[int, int] = {}

    def read(self, number: int, offset: int, length: int) -> bytes:
        """Bytes of a shard; any thread may ask.

        Raises:
            ValueError: there are not so many, by file and offset.
        """
        descriptor = self._open.get(number)
        if descriptor is None:
            opened = os.open(self.root / shard_name(number), os.O_RDONLY)
            descriptor = self._open.setdefault(number, opened)
            if descriptor != opened:  # another thread was quicker
                os.close(opened)
        data = os.pread(descriptor, length, offset)
        if len(data) != length:
            found = offset + len(data)
            raise ValueError(f"{shard_name(number)}: expected {offset + length} bytes, got its end at offset {found}")
        return data

    def __del__(self) -> None:
        for descriptor in self._open.values():
            os.close(descriptor)


class PackedPhoto:
    """A photo of a pack.

    Args:
        shards: of the pack.
        entry: of the index.
    """

    def __init__(self, shards: Shards, entry: Any) -> None:
        self._shards = shards
        self._offset, self._shard, _, _, self.orientation, _, _, *self._copies = entry.item()
        _, _, width, height, *_ = self._copies[0]
        self.width, self.height = (height, width) if self.orientation in TURNED else (width, height)

    def pixels(self, denominator: int, region: Region | None = None) -> Decoded:
        """Decodes the tiles that the region needs, of the smallest copy that has them at this scale.

        Raises:
            ValueError: the pack is truncated or altered here, by file and offset.
        """
        number = min(denominator.bit_length(), len(COPIES)) - 1
        within = denominator >> number
        layout, starts, jpeg = self._copy(number)
        if region is None:
            tiles = (0, 0, layout.columns, layout.rows)
        else:
            left, top, right, bottom = (edge * within for edge in region)
            tiles = layout.tiles((left, top, min(right, layout.width), min(bottom, layout.height)), within)
        left, top, right, bottom = layout.pixels(tiles)
        pixels = _decoded(cut_jpeg(jpeg, layout, starts, tiles), right - left, bottom - top, within)
        return Decoded(pixels, denominator, left // within, top // within)

    def check(self) -> None:
        """Reads, checks and decodes all of it.

        Raises:
            ValueError: the pack is truncated or altered here, by file and offset.
        """
        for number in range(len(COPIES)):
            layout, starts, jpeg = self._copy(number)
            data = bytes(jpeg)
            try:
                if tiling(data) != layout or not np.array_equal(interval_starts(data, layout), starts):
                    raise ValueError("expected the tiles that the index says")
                _decoded(np.frombuffer(data, np.uint8), layout.width, layout.height, 1)
            except ValueError as error:
                raise ValueError(f"{shard_name(self._shard)} at offset {self._offset}: {error}") from error

    def _copy(self, number: int) -> tuple[Tiling, NDArray[np.int64], memoryview]:
        """Layout and bytes of a copy, and where its tiles begin."""
        offset = self._offset + sum(copy[0] for copy in self._copies[:number])
        length, checksum, width, height, header_bytes, size_at, interval, mcu_width, mcu_height = self._copies[number]
        data = self._shards.read(self._shard, offset, length)
        if zlib.crc32(data) != checksum:
            raise ValueError(f"{shard_name(self._shard)}: expected other bytes from {offset} to {offset + length}")
        layout = Tiling(width, height, mcu_width, mcu_height, interval, size_at, header_bytes)
        num_tiles = layout.rows * layout.columns
        if 2 * num_tiles > length:
            raise ValueError(f"{shard_name(self._shard)}: expected {num_tiles} tiles at {offset}, got fewer bytes")
        starts = np.empty(num_tiles + 1, np.int64)
        starts[0] = header_bytes
        np.cumsum(np.frombuffer(data, "<u2", num_tiles), out=starts[1:])
        starts[1:] += header_bytes
        return layout, starts, memoryview(data)[2 * num_tiles :]


def _decoded(jpeg: NDArray[np.uint8], width: int, height: int, denominator: int) -> NDArray[np.uint8]:
    """Decodes a JPEG of these sides."""
    # simplejpeg takes the smallest scale that keeps these: the very 1 / denominator.
    least = {"min_width": -(-width // denominator), "min_height": -(-height // denominator)}
    pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(jpeg, **(least if denominator > 1 else {}))
    return pixels
