"""One photo file to its pixels, decoded no larger than asked for.

Plain JPEGs go through libjpeg-turbo (simplejpeg), which lets other threads run meanwhile; everything else through
Pillow. Either way a photo is refused, by an exception, rather than shown in part, in grey or in black.
"""

import io
import re
import struct
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from sizemix.data.jpeg_cut import Region

TURNED = (5, 6, 7, 8)  # the EXIF orientations that swap width and height
_ORIENTATION_TAG, _ONE_SHORT = 0x0112, (3, 1)
_APP1, _START_OF_SCAN = 0xE1, 0xDA
_PLAIN = ("YCbCr", "Gray", "RGB")  # what libjpeg turns into RGB in the one way that there is
# libjpeg-turbo's words for image data that is cut off or altered. About its other complaints Pillow has the last word.
_DAMAGED = re.compile("Premature end|Corrupt JPEG data")

Image.init()
# What Pillow reads by itself; for PostScript it would start another program with whatever the file says.
FORMATS = sorted(set(Image.OPEN) - {"EPS"})

# A photo of over 89 million pixels is refused before it takes memory, like any broken file.
warnings.filterwarnings("error", category=Image.DecompressionBombWarning)


class Decoded(NamedTuple):
    """Pixels of a photo, or of a part of it that holds what was asked for.

    Attributes:
        pixels: (height, width, 3) uint8, as stored, not turned.
        denominator: they are those of the photo at 1 / denominator of its sides.
        left: where in that they begin.
        top: where in that they begin.
    """

    pixels: NDArray[np.uint8]
    denominator: int
    left: int = 0
    top: int = 0


class Photo(Protocol):
    """A photo whose header has been read."""

    @property
    def width(self) -> int:
        """Of the upright photo, pixels."""

    @property
    def height(self) -> int:
        """Of the upright photo, pixels."""

    @property
    def orientation(self) -> int:
        """How the photo is to be turned, in EXIF's numbers: from 1, as it is stored, to 8."""

    def pixels(self, denominator: int, region: Region | None = None) -> Decoded:
        """Decodes the photo at 1 / denominator of its sides (1, 2, 4 or 8), or larger where its format has no such way.

        Args:
            denominator: of the scale.
            region: left, top, right, bottom of the part that is needed, as stored, at that scale; None: all of it.
        """


def open_photo(path: str) -> Photo:
    """Reads a file, and what its header says.

    Raises:
        Exception: whatever one of Pillow's readers raises on a file that is no image.
    """
    with open(path, "rb", buffering=0) as file:
        data = file.read()
    return photo_of(data)


def photo_of(data: bytes) -> Photo:
    """The same, of a file's bytes."""
    return (_jpeg(data) if data.startswith(b"\xff\xd8\xff") else None) or _ByPillow(data)


def photo_size(path: Path) -> tuple[int, int]:
    """Width and height of the upright photo, from its header alone."""
    with Image.open(path, formats=FORMATS) as image:
        turned = _turned_by_us(image) in TURNED
        return (image.height, image.width) if turned else image.size


@dataclass(frozen=True)
class _Jpeg:
    """A JPEG in grey or colours, of eight bits."""

    data: bytes
    width: int
    height: int
    orientation: int

    def pixels(self, denominator: int, region: Region | None = None) -> Decoded:
        turned = self.orientation in TURNED
        width, height = (self.height, self.width) if turned else (self.width, self.height)
        # simplejpeg takes the smallest scale that keeps these: the very 1 / denominator.
        least = {"min_width": -(-width // denominator), "min_height": -(-height // denominator)}
        try:
            return Decoded(simplejpeg.decode_jpeg(self.data, **(least if denominator > 1 else {})), denominator)
        except ValueError as error:
            if _DAMAGED.search(str(error)):
                raise
            return _ByPillow(self.data).pixels(denominator)


def _jpeg(data: bytes) -> _Jpeg | None:
    """None where Pillow knows better."""
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        orientation = _orientation(data)
    except (ValueError, LookupError, struct.error):
        return None
    if colours not in _PLAIN:
        return None
    _refuse_bomb(width, height)
    if orientation in TURNED:
        width, height = height, width
    return _Jpeg(data, width, height, orientation)


class _ByPillow:
    """Any file that Pillow reads; the first picture of several."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._image = Image.open(io.BytesIO(data), formats=FORMATS)
        width, height = self._image.size
        _refuse_bomb(width, height)
        self.orientation = _turned_by_us(self._image)
        self.width, self.height = (height, width) if self.orientation in TURNED else (width, height)

    def pixels(self, denominator: int, region: Region | None = None) -> Decoded:
        if denominator > 1 and self._image.format in ("JPEG", "MPO"):
            width, height = self._image.size
            image = Image.open(io.BytesIO(self._data), formats=FORMATS)
            image.draft(None, (width // denominator, height // denominator))
            return Decoded(np.array(rgb(image)), denominator)
        return Decoded(np.array(rgb(self._image)), 1)


def _orientation(data: bytes) -> int:
    """What a JPEG's EXIF block says.

    Raises:
        LookupError, struct.error: it says so in another way than most, or in XMP alone: a matter for Pillow.
    """
    for kind, block in _blocks(data):
        if kind == _APP1 and block.startswith(b"Exif\0\0"):
            orientation = _exif_orientation(block[6:])
            if orientation is not None:
                return orientation
        if kind == _APP1 and b"tiff:Orientation" in block:
            raise LookupError
    return 1


def _blocks(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Kind and content of the blocks that stand before a JPEG's image data."""
    at = 2
    while data[at + 1] != _START_OF_SCAN:
        if data[at] != 0xFF or data[at + 1] == 0xFF:
            raise LookupError
        size = int.from_bytes(data[at + 2 : at + 4])
        yield data[at + 1], data[at + 4 : at + 2 + size]
        at += 2 + size


def _exif_orientation(tiff: bytes) -> int | None:
    """The orientation in the first directory of a TIFF structure; None where it has none."""
    order = {b"II*\0": "<", b"MM\0*": ">"}[tiff[:4]]
    (start,) = struct.unpack_from(f"{order}I", tiff, 4)
    (entries,) = struct.unpack_from(f"{order}H", tiff, start)
    for at in range(start + 2, start + 2 + 12 * entries, 12):
        tag, form, number, value = struct.unpack_from(f"{order}HHIHxx", tiff, at)
        if tag == _ORIENTATION_TAG:
            if (form, number) != _ONE_SHORT:
                raise LookupError
            return _known(value)
    return None


def _turned_by_us(image: Image.Image) -> int:
    """The orientation of a file that Pillow has opened; it turns TIFFs by itself, and gives their upright size."""
    return 1 if image.format == "TIFF" else _known(image.getexif().get(_ORIENTATION_TAG))


def _known(orientation: object) -> int:
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1


def _refuse_bomb(width: int, height: int) -> None:
    most = Image.MAX_IMAGE_PIXELS
    if most is not None and width * height > most:
        raise Image.DecompressionBombError(f"expected at most {most} pixels, got {width} x {height}")


def rgb(image: Image.Image) -> Image.Image:
    """Three channels of eight bits, transparency on white."""
    if image.mode.startswith("I") or image.mode == "F":  # 16 bits and more: Pillow would clip, not scale
        levels = np.asarray(image, dtype=np.float64)
        if image.mode == "F" and levels.max(initial=0) <= 1:  # from 0 to 1, perhaps: nobody says what is white
            raise ValueError(f"expected levels up to 255 or 65535, got none above {levels.max(initial=0):.3g}")
        eight_bits = levels / 257 if levels.max(initial=0) > 255 else levels
        return Image.fromarray(eight_bits.round().clip(0, 255).astype(np.uint8)).convert("RGB")
    if "A" in image.mode or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")
