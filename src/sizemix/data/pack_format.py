"""The files of a pack, byte by byte as docs/pack.md has them: an index, and shards that hold the photos.

The index is written last, so a folder without one is no pack. It is read whole, checked against its checksum and then
trusted, but for what would make a reader of the shards leave them.
"""

import json
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sizemix.data.splits import SPLITS
from sizemix.errors import UserError
from sizemix.runs.atomic import write_atomically

INDEX_FILE = "index.bin"
VERSION = 1
COPIES = ("whole", "half", "quarter")  # of each photo, in the order in which they stand in the shard
_MAGIC = b"\x89SXPACK\n"
_HEAD = struct.Struct("<8sIIQ")  # magic, version, checksum of all that follows it, bytes of the JSON text

# Of a copy: what its bytes in the shard are, and how its JPEG falls into tiles (data/jpeg_cut.py).
COPY = np.dtype(
    [
        ("bytes", "<u4"),
        ("checksum", "<u4"),
        ("width", "<u4"),
        ("height", "<u4"),
        ("header_bytes", "<u2"),
        ("size_at", "<u2"),
        ("interval", "<u2"),
        ("mcu_width", "u1"),
        ("mcu_height", "u1"),
    ]
)
PHOTO = np.dtype(
    [
        ("offset", "<u8"),
        ("shard", "<u4"),
        ("label", "<u4"),
        ("split", "u1"),
        ("orientation", "u1"),
        ("lossless", "u1"),
        ("reserved", "u1"),
        *((name, COPY) for name in COPIES),
    ]
)


@dataclass(frozen=True)
class Index:
    """What a pack holds.

    Attributes:
        name: of the data.
        quality: of the JPEGs that were encoded for the pack.
        class_names: one name a class.
        shard_bytes: length of each shard.
        paths: one a photo, relative to the packed folder, with slashes.
        photos: (num_photos,) of PHOTO.
        checksum: of all this; None before it is written.
    """

    name: str
    quality: int
    class_names: Sequence[str]
    shard_bytes: Sequence[int]
    paths: Sequence[str]
    photos: NDArray[Any]
    checksum: int | None = None


def shard_name(number: int) -> str:
    """The file of a shard."""
    return f"photos-{number:05}.bin"


def bytes_of(photos: NDArray[Any]) -> NDArray[np.int64]:
    """How long each photo is in its shard."""
    lengths: NDArray[np.int64] = np.sum([photos[name]["bytes"] for name in COPIES], axis=0, dtype=np.int64)
    return lengths


def write_index(index: Index, folder: Path) -> None:
    """Makes the folder a pack.

    Raises:
        DiskFullError: no room for it.
    """
    about = {
        "name": index.name,
        "quality": index.quality,
        "classes": list(index.class_names),
        "splits": list(SPLITS),
        "shard_bytes": list(index.shard_bytes),
        "photos": len(index.photos),
    }
    text = json.dumps(about).encode()
    content = text + index.photos.tobytes() + "\0".join(index.paths).encode(errors="surrogateescape")
    rest = struct.pack("<Q", len(text)) + content
    data = _HEAD.pack(_MAGIC, VERSION, zlib.crc32(rest), len(text)) + content
    write_atomically(folder / INDEX_FILE, lambda file: file.write(data))


def read_index(folder: Path) -> Index:
    """The index of a pack whose shards are as long as they should be.

    Raises:
        UserError: no pack, one of another version, or an altered or truncated file, by name and offset.
    """
    file = folder / INDEX_FILE
    try:
        data = file.read_bytes()
    except OSError as error:
        photos = folder.is_dir() and any(entry.is_dir() for entry in folder.iterdir())
        remedy = f"photos are data=folder, or packed by sizemix pack {folder} DEST" if photos else "look for its name"
        reason = error.strerror
        raise UserError(
            f"data.root: expected a pack, that is a folder with {INDEX_FILE}, got {folder} ({reason}); {remedy}."
        ) from error
    try:
        index = _parsed(data)
    except (ValueError, KeyError, TypeError, struct.error, OverflowError, RecursionError) as error:
        raise UserError(f"{file}: {_sentence(error)}; copy or make the pack anew.") from error
    for number, length in enumerate(index.shard_bytes):
        _check_shard(folder / shard_name(number), length)
    return index


def _parsed(data: bytes) -> Index:
    if len(data) < _HEAD.size:
        raise ValueError(f"expected at least {_HEAD.size} bytes, got {len(data)}")
    magic, version, checksum, text_bytes = _HEAD.unpack_from(data)
    if magic != _MAGIC:
        raise ValueError("expected the index of a pack, got other bytes at offset 0")
    if version != VERSION:
        raise ValueError(f"expected version {VERSION} of the format, got {version} at offset 8")
    if zlib.crc32(memoryview(data)[_HEAD.size - 8 :]) != checksum:
        raise ValueError(f"expected bytes of checksum {checksum:#010x} from offset {_HEAD.size - 8} on, got others")
    about = json.loads(data[_HEAD.size : _HEAD.size + text_bytes])
    photos_at = _HEAD.size + text_bytes
    photos = np.frombuffer(data, PHOTO, count=about["photos"], offset=photos_at)
    names = data[photos_at + photos.nbytes :].decode(errors="surrogateescape")
    index = Index(
        name=str(about["name"]),
        quality=int(about["quality"]),
        class_names=tuple(str(name) for name in about["classes"]),
        shard_bytes=tuple(int(length) for length in about["shard_bytes"]),
        paths=names.split("\0") if names else [],
        photos=photos,
        checksum=checksum,
    )
    _check(index, about)
    return index


def _check(index: Index, about: Mapping[str, Any]) -> None:
    """Refuses what no writer would write."""
    photos = index.photos
    if about["splits"] != list(SPLITS) or len(index.paths) != len(photos) or not len(photos):
        raise ValueError(f"expected the splits {', '.join(SPLITS)} and a path for each of {len(photos)} photos")
    if photos["label"].max() >= len(index.class_names) or photos["split"].max() >= len(SPLITS):
        raise ValueError(f"expected labels below {len(index.class_names)} and splits below {len(SPLITS)}, got others")
    if photos["orientation"].min() < 1 or photos["orientation"].max() > 8:
        raise ValueError("expected orientations from 1 to 8, got others")
    if photos["shard"].max() >= len(index.shard_bytes):
        raise ValueError(f"expected {len(index.shard_bytes)} shards, got a photo in shard {photos['shard'].max()}")
    most = Image.MAX_IMAGE_PIXELS
    areas = photos["whole"]["width"].astype(np.uint64) * photos["whole"]["height"]
    if most is not None and areas.max() > most:
        raise ValueError(f"expected photos of at most {most} pixels, got one of {areas.max()}")
    ends = photos["offset"].astype(object) + bytes_of(photos)
    outside = np.flatnonzero(ends > np.array(index.shard_bytes, dtype=object)[photos["shard"]])
    if len(outside):
        raise ValueError(f"expected photos within their shards, got {index.paths[outside[0]]} beyond its shard's end")


def _check_shard(file: Path, length: int) -> None:
    try:
        found = file.stat().st_size
    except OSError as error:
        raise UserError(f"{file}: expected a shard of {length} bytes, got none ({error.strerror}).") from error
    if found < length:
        raise UserError(f"{file}: expected {length} bytes, got its end at offset {found}; copy or make the pack anew.")
    if found > length:
        raise UserError(f"{file}: expected {length} bytes, got {found - length} more from offset {length} on.")


def _sentence(error: Exception) -> str:
    return str(error) if isinstance(error, ValueError) and str(error).startswith("expected") else f"damaged ({error!r})"
