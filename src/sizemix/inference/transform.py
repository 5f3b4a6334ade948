"""One image to what a network is shown, pixel for pixel as evaluation shows it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from sizemix.data.cropping import GAP, Crop, cut, denominator
from sizemix.data.crops import centre_box
from sizemix.data.jpeg_cut import Region
from sizemix.data.photo_batches import EVALUATED_FOR
from sizemix.data.photos import Decoded, Photo, open_photo, rgb
from sizemix.data.preprocessing import Preprocessing

Picture = str | Path | Image.Image | NDArray[np.uint8] | Tensor


@dataclass(frozen=True)
class Transform:
    """From an image to a normalised tensor (3, image_size, image_size), float32.

    The short side becomes image_size / crop_ratio, antialiased, and the middle is cut.

    Attributes:
        preprocessing: what the network was trained to see.
        image_size: side in pixels.
    """

    preprocessing: Preprocessing
    image_size: int

    def __call__(self, picture: Picture) -> Tensor:
        """Of a file, a Pillow image, an array (height, width, 3) or a tensor (3, height, width) of bytes.

        Raises:
            TypeError: anything else.
            Exception: whatever a reader raises on a file that is no image.
        """
        pixels = self.pixels(picture).float()
        mean, std = (
            torch.tensor(values).view(3, 1, 1) * 255 for values in (self.preprocessing.mean, self.preprocessing.std)
        )
        return pixels.sub(mean).div(std)

    def pixels(self, picture: Picture) -> Tensor:
        """The same before it is normalised: (3, image_size, image_size), uint8."""
        photo = _photo(picture)
        square = torch.empty((self.image_size, self.image_size, 3), dtype=torch.uint8).permute(2, 0, 1)
        box = centre_box(photo.width, photo.height, crop_ratio=self.preprocessing.crop_ratio)
        coarse = denominator([box], image_size=max(EVALUATED_FOR, self.image_size), gap=GAP)
        cut(photo, [Crop(box, False, square)], coarse, interpolation=self.preprocessing.interpolation)
        return square


def _photo(picture: Picture) -> Photo:
    if isinstance(picture, str | Path):
        return open_photo(str(picture))
    if isinstance(picture, Image.Image):
        return _Pixels(np.array(rgb(ImageOps.exif_transpose(picture))))
    if isinstance(picture, Tensor):
        picture = picture.permute(1, 2, 0).cpu().numpy() if picture.ndim == 3 else picture.numpy()
    is_bytes = isinstance(picture, np.ndarray) and picture.dtype == np.uint8 and picture.ndim == 3
    if is_bytes and picture.shape[2] in (1, 3):
        return _Pixels(np.repeat(picture, 3 // picture.shape[2], axis=2))
    shape = f"{type(picture).__name__} {getattr(picture, 'shape', '')} {getattr(picture, 'dtype', '')}".strip()
    raise TypeError(
        f"expected a path, a Pillow image, or bytes as an array (height, width, 3) or a tensor (3, height, width), got "
        f"{shape}"
    )


class _Pixels:
    """A photo that is decoded already."""

    orientation = 1

    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        self._pixels = pixels
        self.height, self.width = pixels.shape[:2]

    def pixels(self, denominator: int, region: Region | None = None) -> Decoded:
        return Decoded(self._pixels, 1)
