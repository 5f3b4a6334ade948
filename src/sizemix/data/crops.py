"""Which part of a photo a sample shows."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sizemix.errors import UserError

Box = tuple[float, float, float, float]  # left, top, right, bottom, in pixels of the upright photo

NUM_CROP_DRAWS = 22  # ten attempts at area and aspect ratio, then a position
_TRIES = 10


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
        log_low, log_high = math.log(self.aspect[0]), math.log(self.aspect[1])
        *tries, from_left, from_top = draws.tolist()
        for for_area, for_aspect in zip(tries[:_TRIES], tries[_TRIES:], strict=True):
            area = width * height * (low + for_area * (high - low))
            aspect = math.exp(log_low + for_aspect * (log_high - log_low))
            crop_width, crop_height = math.sqrt(area * aspect), math.sqrt(area / aspect)
            if crop_width <= width and crop_height <= height:
                left, top = from_left * (width - crop_width), from_top * (height - crop_height)
                return left, top, left + crop_width, top + crop_height
        return self._whole(width, height)

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
