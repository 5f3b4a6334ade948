"""One photo file to square uint8 crops, decoded no larger than the crops need."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from sizemix.errors import UserError

Box = tuple[float, float, float, float]  # left, top, right, bottom, in pixels of the upright photo

NUM_CROP_DRAWS = 22  # ten attempts at area and aspect ratio, then a position
_TRIES = 10
_GAP = (
    1.5  # a JPEG is decoded at a half, a quarter or an eighth only where the crop keeps so many pixels a target pixel
)
_ORIENTATION_TAG, _TURNED = 0x0112, (5, 6, 7, 8)
_RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}

# A photo of over 89 million pixels is refused before it takes memory, like any broken file.
warnings.filterwarnings("error", category=Image.DecompressionBombWarning)


@dataclass(frozen=True)
class RandomResizedCrop:
    """Which part of a photo a training sample shows: an area and an aspect ratio drawn at random, anywhere in it.

    The usual crop of ImageNet training (Szegedy et al. 2014, arXiv 1409.4842, section 6), in fractional pixels.

    Args:
        scale: least and greatest part of the photo's area.
        aspect: least and greatest width / height.
        reference_size: image_size in pixels at which scale holds; at other sizes the area follows the image's area,
            so that objects keep their apparent size in pixels. None: the same scale at every size.

    Raises:
        UserError: bounds that are out of range or in the wrong order.
    """

    scale: tuple[float, float] = (0.08, 1.0)
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    reference_size: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise UserError(f"data.crop_scale: expected two parts of the area, as [0.08,1], got {list(self.scale)}.")
        if not 0 < self.aspect[0] <= self.aspect[1]:
            raise UserError(f"data.crop_aspect: expected two ratios, as [0.75,1.33], got {list(self.aspect)}.")

    def box(self, width: int, height: int, *, image_size: int, draws: NDArray[np.float64]) -> Box:
        """The crop of a photo for a sample with these uniforms (NUM_CROP_DRAWS,)."""
        low, high = self._scale_at(image_size)
        areas = width * height * (low + draws[:_TRIES] * (high - low))
        log_low, log_high = np.log(self.aspect)
        aspects = np.exp(log_low + draws[_TRIES : 2 * _TRIES] * (log_high - log_low))
        widths, heights = np.sqrt(areas * aspects), np.sqrt(areas / aspects)
        fitting = np.flatnonzero((widths <= width) & (heights <= height))
        if not len(fitting):
            return self._whole(width, height)
        crop_width, crop_height = widths[fitting[0]], heights[fitting[0]]
        left, top = draws[-2] * (width - crop_width), draws[-1] * (height - crop_height)
        return left, top, left + crop_width, top + crop_height

    def _scale_at(self, image_size: int) -> tuple[float, float]:
        factor = 1.0 if self.reference_size is None else (image_size / self.reference_size) ** 2
        low, high = self.scale
        return min(1.0, low * factor), min(1.0, high * factor)

    def _whole(self, width: int, height: int) -> Box:
        """As much of the middle as the aspect ratios allow."""
        crop_width = min(width, height * self.aspect[1])
        crop_height = min(height, width / self.aspect[0])
        left, top = (width - crop_width) / 2, (height - crop_height) / 2
        return left, top, left + crop_width, top + crop_height


def centre_box(width: int, height: int, *, crop_ratio: float) -> Box:
    """The central square that is left when the short side becomes image_size / crop_ratio and image_size is cut."""
    side = min(width, height) * min(1.0, crop_ratio)
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side


def photo_size(path: Path) -> tuple[int, int]:
    """Width and height of the upright photo, from its header."""
    with Image.open(path) as image:
        return _upright_size(image)


def read_crops(
    path: Path, choose: Callable[[int, int], Sequence[Box]], *, image_size: int, interpolation: str
) -> list[NDArray[np.uint8]]:
    """Several crops from one decoding.

    Args:
        path: any file that Pillow reads.
        choose: from width and height of the upright photo to the crops.
        image_size: side of the results, pixels.
        interpolation: bilinear or bicubic, antialiased.

    Returns:
        (image_size, image_size, 3) uint8, one a crop.
    """
    with Image.open(path) as image:
        width, height = _upright_size(image)
        boxes = choose(width, height)
        needed = min(
            1.0, max(_GAP * image_size / min(right - left, bottom - top) for left, top, right, bottom in boxes)
        )
        image.draft(None, (max(1, int(image.width * needed)), max(1, int(image.height * needed))))
        upright = _rgb(ImageOps.exif_transpose(image))
        across, down = upright.width / width, upright.height / height
        return [
            np.asarray(
                upright.resize(
                    (image_size, image_size),
                    _RESAMPLING[interpolation],
                    box=(
                        left * across,
                        top * down,
                        min(right * across, upright.width),
                        min(bottom * down, upright.height),
                    ),
                )
            )
            for left, top, right, bottom in boxes
        ]


def _upright_size(image: Image.Image) -> tuple[int, int]:
    turned = image.getexif().get(_ORIENTATION_TAG) in _TURNED
    return (image.height, image.width) if turned else image.size


def _rgb(image: Image.Image) -> Image.Image:
    """Three channels of eight bits, transparency on white."""
    if image.mode.startswith("I") or image.mode == "F":  # 16 bits and more: Pillow would clip, not scale
        levels = np.asarray(image, dtype=np.float64)
        eight_bits = levels / 257 if levels.max(initial=0) > 255 else levels
        return Image.fromarray(eight_bits.round().clip(0, 255).astype(np.uint8)).convert("RGB")
    if "A" in image.mode or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")
