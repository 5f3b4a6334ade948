"""Cuts a JPEG to the part that a crop needs, without decoding anything.

A JPEG's image data are blocks of pixels (MCUs, 8 or 16 pixels wide and high) from left to right and top to bottom,
each coded as a difference from the one before. Behind a restart marker that begins anew. Where every row of MCUs has
markers at the same places, the photo falls into tiles, and any rectangle of tiles is a JPEG too: its bytes strung
together, with its own width and height in the header and its markers numbered anew.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Region = tuple[int, int, int, int]  # left, top, right, bottom

_START, _END = b"\xff\xd8", b"\xff\xd9"
_BASELINE, _EXTENDED, _START_OF_SCAN, _RESTART_INTERVAL, _FIRST_RESTART = 0xC0, 0xC1, 0xDA, 0xDD, 0xD0
_OTHER_FRAMES = frozenset(range(0xC2, 0xD0)) - {0xC4, 0xC8, 0xCC}
_BLOCK = 8
_LARGEST_FACTOR = 4  # of sampling, as the standard has it


@dataclass(frozen=True)
class Tiling:
    """How a JPEG falls into tiles.

    Attributes:
        width: of the JPEG, pixels.
        height: of the JPEG, pixels.
        mcu_width: pixels.
        mcu_height: pixels, which is also a tile's height.
        interval: MCUs between two restart markers, a tile's width.
        size_at: where in the JPEG height and width stand, two bytes each.
        header_bytes: before the image data.
    """

    width: int
    height: int
    mcu_width: int
    mcu_height: int
    interval: int
    size_at: int
    header_bytes: int

    def __post_init__(self) -> None:
        if min(self.width, self.height, self.mcu_width, self.mcu_height, self.interval, self.size_at) < 1:
            raise ValueError(f"expected sizes of at least 1, got {self}")
        if max(self.width, self.height) >= 2**16:
            raise ValueError(f"expected sides of less than 65536 pixels, got {self.width} x {self.height}")
        if self.header_bytes < self.size_at + 4 or -(-self.width // self.mcu_width) % self.interval:
            raise ValueError(f"expected a header that is long enough and whole tiles in every row, got {self}")

    @property
    def columns(self) -> int:
        """Tiles beside each other."""
        return -(-self.width // (self.mcu_width * self.interval))

    @property
    def rows(self) -> int:
        """Tiles above each other."""
        return -(-self.height // self.mcu_height)

    def tiles(self, region: Region, denominator: int) -> Region:
        """The tiles, by number, that show a region of pixels exactly, decoded at 1 / denominator of the sides.

        Where colours are stored at a half or a quarter of the resolution, decoders smooth them over a pixel of theirs;
        the margin also keeps them from taking a cut for an image too narrow to smooth.
        """
        left, top, right, bottom = region
        if not (0 <= left < right <= self.width and 0 <= top < bottom <= self.height):
            raise ValueError(f"expected a region of {self.width} x {self.height} pixels, got {region}")
        across, down = self.mcu_width * self.interval, self.mcu_height
        factors = (self.mcu_width // _BLOCK, self.mcu_height // _BLOCK)
        beside, above = (2 * factor * denominator if factor > 1 else 0 for factor in factors)
        return (
            max(0, left - beside) // across,
            max(0, top - above) // down,
            min(self.columns, (right + beside - 1) // across + 1),
            min(self.rows, (bottom + above - 1) // down + 1),
        )

    def pixels(self, tiles: Region) -> Region:
        """Where some tiles are in the JPEG, pixels."""
        left, top, right, bottom = tiles
        across, down = self.mcu_width * self.interval, self.mcu_height
        return left * across, top * down, min(self.width, right * across), min(self.height, bottom * down)


def tiling(data: bytes) -> Tiling:
    """Reads a JPEG's header.

    Raises:
        ValueError: no JPEG, not one of the plain kind, or its restart markers do not make tiles.
    """
    frame: tuple[int, int, int, int, int] | None = None
    interval = 0
    for kind, at, end in _segments(data):
        if kind in (_BASELINE, _EXTENDED):
            frame = (at + 1, *_frame(data[at:end]))
        elif kind in _OTHER_FRAMES:
            raise ValueError(f"expected a baseline JPEG, got one of kind {kind:#x}")
        elif kind == _RESTART_INTERVAL:
            interval = int.from_bytes(data[at:end])
        elif kind == _START_OF_SCAN:
            if frame is None or not interval:
                raise ValueError("expected a frame header and a restart interval before the image data, got none")
            size_at, width, height, mcu_width, mcu_height = frame
            return Tiling(width, height, mcu_width, mcu_height, interval, size_at, end)
    raise ValueError("expected image data, got none")


def interval_starts(data: bytes, layout: Tiling) -> NDArray[np.int64]:
    """Where each tile's bytes begin, row by row, and where the JPEG ends: (rows x columns + 1,).

    Raises:
        ValueError: other markers than there should be.
    """
    values = np.frombuffer(data, np.uint8)
    number = layout.rows * layout.columns
    marked = layout.header_bytes + np.flatnonzero(values[layout.header_bytes : -1] == 0xFF)
    marked = marked[values[marked + 1] != 0]  # a zero behind it says that it is a byte of the image
    expected = _FIRST_RESTART + np.arange(number) % 8
    expected[-1] = _END[1]
    if len(marked) != number or (values[marked + 1] != expected).any() or marked[-1] + 2 != len(data):
        raise ValueError(f"expected {number} tiles, each with its marker, got {len(marked)} markers")
    return np.concatenate([[layout.header_bytes], marked + 2])


def cut_jpeg(data: memoryview, layout: Tiling, starts: NDArray[np.int64], tiles: Region) -> NDArray[np.uint8]:
    """The JPEG of some tiles alone.

    Args:
        data: the JPEG.
        layout: of the JPEG.
        starts: see interval_starts.
        tiles: left, top, right, bottom, by number.

    Raises:
        ValueError: the JPEG is not as layout and starts say.
    """
    left, top, right, bottom = tiles
    if not (0 <= left < right <= layout.columns and 0 <= top < bottom <= layout.rows):
        raise ValueError(f"expected some of {layout.columns} x {layout.rows} tiles, got {tiles}")
    if len(starts) != layout.rows * layout.columns + 1 or len(data) < layout.header_bytes:
        raise ValueError(f"expected {layout.rows} x {layout.columns} tiles and their end, got {len(starts)} places")
    firsts = starts[:-1].reshape(layout.rows, layout.columns)[top:bottom, left]
    ends = starts[1:].reshape(layout.rows, layout.columns)[top:bottom, left:right]
    rows = zip(firsts.tolist(), ends[:, -1].tolist(), strict=True)
    pieces = [data[: layout.header_bytes], *(data[start:end] for start, end in rows)]
    made = np.frombuffer(bytearray().join(pieces), np.uint8)
    moved = np.cumsum(ends[:, -1] - firsts) + layout.header_bytes - ends[:, -1]
    markers = (ends + moved[:, None]).ravel() - 2
    whole = len(made) == markers[-1] + 2 and layout.header_bytes <= markers.min() and markers.max() < len(made) - 1
    if not whole or (made[markers] != 0xFF).any():
        raise ValueError("expected a marker behind every tile, got something else")
    made[markers + 1] = _FIRST_RESTART + np.arange(len(markers)) % 8
    made[-1] = _END[1]
    first_x, first_y, end_x, end_y = layout.pixels(tiles)
    sides = struct.pack(">HH", end_y - first_y, end_x - first_x)
    made[layout.size_at : layout.size_at + 4] = np.frombuffer(sides, np.uint8)
    return made


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Kind, start and end of the content of each of the header's segments."""
    if data[:2] != _START:
        raise ValueError("expected a JPEG, got other bytes")
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            raise ValueError(f"expected a marker at byte {at}, got {data[at]:#x}")
        kind, size = data[at + 1], int.from_bytes(data[at + 2 : at + 4])
        if size < 2 or at + 2 + size > len(data):
            raise ValueError(f"expected a whole segment at byte {at}, got one of {size} bytes")
        yield kind, at + 4, at + 2 + size
        at += 2 + size


def _frame(content: bytes) -> tuple[int, int, int, int]:
    """Width, height, and width and height of an MCU, of a frame header."""
    if len(content) < 6 or len(content) != 6 + 3 * content[5] or not content[5]:
        raise ValueError(f"expected a frame header, got {len(content)} bytes")
    factors = [divmod(factor, 16) for factor in content[7::3]]
    if not all(1 <= factor <= _LARGEST_FACTOR for both in factors for factor in both):
        raise ValueError(f"expected sampling factors from 1 to {_LARGEST_FACTOR}, got {factors}")
    across, down = (max(both) for both in zip(*factors, strict=True)) if len(factors) > 1 else (1, 1)
    return int.from_bytes(content[3:5]), int.from_bytes(content[1:3]), across * _BLOCK, down * _BLOCK
