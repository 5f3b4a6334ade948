"""Crops of one photo from one decoding, straight into the batch.

A crop's edges are moved onto the decoder's grid: decoded at 1/d, they lie at multiples of d pixels of the stored photo.
So the crop is exactly the same whether the photo is decoded at 1/d or in full, and a resize that knows whole pixels
only can make it. As d pixels are at most two thirds of one of the result's, rounding moves an edge by a third of one.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sizemix.data.crops import Box
from sizemix.data.photos import Photo

GAP = 1.5  # pixels that are decoded for each pixel of the crop, at least, wherever less than all are decoded
_DENOMINATORS = (8, 4, 2)

# Of the EXIF orientations: (rows and columns swapped, then left and right mirrored, then top and bottom).
_TURNS = {
    1: (False, False, False),
    2: (False, True, False),
    3: (False, True, True),
    4: (False, False, True),
    5: (True, False, False),
    6: (True, True, False),
    7: (True, True, True),
    8: (True, False, True),
}


_RESIZES = {
    "bilinear": torch.ops.aten._upsample_bilinear2d_aa.out,
    "bicubic": torch.ops.aten._upsample_bicubic2d_aa.out,
}


@dataclass(frozen=True)
class Crop:
    """A part of a photo that is wanted.

    Attributes:
        box: where it is in the upright photo.
        mirrored: whether left and right are to be swapped.
        pixels: (3, image_size, image_size) uint8, to be filled.
    """

    box: Box
    mirrored: bool
    pixels: Tensor


def cut(photo: Photo, crops: Sequence[Crop], coarse: int, *, interpolation: str) -> None:
    """Decodes a photo, or the part of it that all crops lie in, once, and fills the crops.

    Args:
        photo: the photo.
        crops: at least one, of any sizes.
        coarse: the denominator to decode it at.
        interpolation: bilinear or bicubic, antialiased.
    """
    boxes = [grid_box(photo, crop.box, coarse) for crop in crops]
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    decoded = photo.pixels(coarse, (min(lefts), min(tops), max(rights), max(bottoms)))
    finer = coarse // decoded.denominator
    for crop, (left, top, right, bottom) in zip(crops, boxes, strict=True):
        rows = slice(top * finer - decoded.top, bottom * finer - decoded.top)
        columns = slice(left * finer - decoded.left, right * finer - decoded.left)
        _resize(torch.from_numpy(decoded.pixels[rows, columns]), crop.pixels, interpolation)
        _turn(crop.pixels, photo.orientation, mirrored=crop.mirrored)


def denominator(boxes: Iterable[Box], *, image_size: int, gap: float) -> int:
    """The greatest d of 1, 2, 4, 8 at which 1/d of every box's sides is gap times image_size."""
    room = min(min(right - left, bottom - top) for left, top, right, bottom in boxes) / image_size
    return next((coarse for coarse in _DENOMINATORS if room >= gap * coarse), 1)


def grid_box(photo: Photo, box: Box, coarse: int) -> tuple[int, int, int, int]:
    """A box of the upright photo as one of the stored photo, in whole steps of so many pixels."""
    swapped, mirrored, upside_down = _TURNS[photo.orientation]
    left, top, right, bottom = box
    if mirrored:
        left, right = photo.width - right, photo.width - left
    if upside_down:
        top, bottom = photo.height - bottom, photo.height - top
    across, down = photo.width // coarse, photo.height // coarse
    if swapped:
        left, top, right, bottom, across, down = top, left, bottom, right, down, across
    left, right = _whole_steps(left / coarse, right / coarse, across)
    top, bottom = _whole_steps(top / coarse, bottom / coarse, down)
    return left, top, right, bottom


def _whole_steps(low: float, high: float, most: int) -> tuple[int, int]:
    """Both rounded, at least one apart, and no further than the last whole step."""
    start = min(round(low), most - 1)
    return start, min(max(round(high), start + 1), most)


def _resize(pixels: Tensor, square: Tensor, interpolation: str) -> None:
    """(height, width, 3) to (3, image_size, image_size), antialiased."""
    # interpolate() of torch.nn.functional, but for its way to put the result somewhere else than asked for: that and a
    # copy of the crop in one piece, which it is fastest with, would take a seventh of a photo's whole time at 224 px.
    resize = _RESIZES[interpolation]
    resize(pixels.permute(2, 0, 1).unsqueeze(0), square.shape[1:], False, out=square.unsqueeze(0))


def _turn(square: Tensor, orientation: int, *, mirrored: bool) -> None:
    """Turns (3, image_size, image_size) in place."""
    swapped, left_right, top_bottom = _TURNS[orientation]
    flipped = [axis for axis, wanted in ((1, top_bottom), (2, left_right != mirrored)) if wanted]
    if swapped:
        square.copy_(square.transpose(1, 2).clone())
    if flipped:
        square.copy_(square.flip(flipped))
