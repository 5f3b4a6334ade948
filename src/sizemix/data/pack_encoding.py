"""One image file to what a pack holds of it: copies with whole, half and quarter sides, each a JPEG of tiles."""

import io
import subprocess
from dataclasses import dataclass
from functools import partial

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from sizemix.data.jpeg_cut import Tiling, interval_starts, tiling
from sizemix.data.photos import photo_of
from sizemix.errors import UserError

DENOMINATORS = (1, 2, 4)  # of the copies
_WIDEST_TILE = 48  # pixels; narrower tiles leave less to decode beside a crop, and have more markers
_MCU_WIDTH = {"444": 8, "422": 16, "420": 16, "440": 8, "411": 32, "Gray": 8}  # by what simplejpeg calls the sampling
_PILLOW_SAMPLING = {"444": "4:4:4", "422": "4:2:2", "420": "4:2:0"}


@dataclass(frozen=True)
class Copy:
    """A photo at a part of its sides.

    Attributes:
        data: a JPEG with a restart marker behind every tile.
        layout: its tiles.
    """

    data: bytes
    layout: Tiling

    @property
    def stored(self) -> bytes:
        """As a pack has it: the length of each tile, then the JPEG."""
        lengths = np.diff(interval_starts(self.data, self.layout))
        return lengths.astype("<u2").tobytes() + self.data


@dataclass(frozen=True)
class EncodedPhoto:
    """What a pack holds of an image file.

    Attributes:
        copies: at 1, 1 / 2 and 1 / 4 of the sides, sides rounded up.
        orientation: how they are to be turned, in EXIF's numbers.
        lossless: whether the first has the very pixels of the file.
    """

    copies: tuple[Copy, ...]
    orientation: int
    lossless: bool


def encode_photo(data: bytes, *, quality: int, jpegtran: str | None) -> EncodedPhoto:
    """Decodes a file, and makes its copies.

    Args:
        data: the file's bytes.
        quality: of the JPEGs that are encoded here.
        jpegtran: the program that puts markers into a JPEG without decoding it; None: there is none.

    Raises:
        UserError: jpegtran cannot be run.
        Exception: whatever one of Pillow's readers raises on a file that is no image, or a damaged one.
    """
    photo = photo_of(data)
    pixels = photo.pixels(1).pixels
    sampling = _sampling(data)
    whole = _with_markers(data, pixels, sampling, jpegtran) if jpegtran and sampling else None
    half = _halved(pixels)
    encode = partial(_encoded, quality=quality)
    copies = (whole or encode(pixels, sampling or "444"), encode(half, "444"), encode(_halved(half), "444"))
    return EncodedPhoto(copies, photo.orientation, lossless=whole is not None)


def _sampling(data: bytes) -> str | None:
    """How the colours of a JPEG in grey or YCbCr are stored; None: it is something else."""
    try:
        _, _, colours, sampling = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return None
    return sampling if colours in ("YCbCr", "Gray") and sampling in _MCU_WIDTH else None


def _with_markers(data: bytes, pixels: NDArray[np.uint8], sampling: str, jpegtran: str) -> Copy | None:
    """The very same coefficients, baseline and with markers; None: jpegtran complains, or the pixels are others."""
    interval = _interval(pixels.shape[1], _MCU_WIDTH[sampling])
    command = [jpegtran, "-copy", "none", "-optimize", "-restart", f"{interval}B"]
    try:
        done = subprocess.run(command, input=data, capture_output=True, process_group=0)  # where no Ctrl-C meets it
    except OSError as error:
        raise UserError(f"expected to run {jpegtran}, got: {error}; make room, or mend it.") from error
    if done.returncode < 0:
        raise UserError(f"expected {jpegtran} to finish, got its end by signal {-done.returncode}; pack again.")
    if done.returncode:
        return None
    try:
        copy = _copy(done.stdout)
        same = np.array_equal(simplejpeg.decode_jpeg(done.stdout), pixels)
    except ValueError:
        return None
    return copy if same else None


def _encoded(pixels: NDArray[np.uint8], sampling: str, *, quality: int) -> Copy:
    """Pixels (height, width, 3) as a JPEG; in grey where they are."""
    grey = (pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 0] == pixels[..., 2]).all()
    image = Image.fromarray(pixels[..., 0] if grey else pixels)
    kept = sampling if sampling in _PILLOW_SAMPLING else "444"
    options = {} if grey else {"subsampling": _PILLOW_SAMPLING[kept]}
    interval = _interval(pixels.shape[1], _MCU_WIDTH["Gray" if grey else kept])
    out = io.BytesIO()
    image.save(out, "jpeg", quality=quality, optimize=True, restart_marker_blocks=interval, **options)
    return _copy(out.getvalue())


def _copy(data: bytes) -> Copy:
    layout = tiling(data)
    longest = np.diff(interval_starts(data, layout)).max()
    if longest >= 2**16:
        raise ValueError(f"expected tiles of less than 64 KiB, got one of {longest} bytes")
    return Copy(data, layout)


def _interval(width: int, mcu_width: int) -> int:
    """MCUs of a tile: as many as make whole tiles of a row, and a tile not too wide."""
    across = -(-width // mcu_width)
    return next(number for number in range(_WIDEST_TILE // mcu_width, 0, -1) if across % number == 0)


def _halved(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Half the sides, rounded up: each pixel stands in the middle of four, as in a JPEG that is decoded at a half."""
    height, width, _ = pixels.shape
    even = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), "edge")
    half = (even.shape[1] // 2, even.shape[0] // 2)
    return np.asarray(Image.fromarray(even).resize(half, Image.Resampling.LANCZOS))
