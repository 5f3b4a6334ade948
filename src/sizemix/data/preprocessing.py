"""How an image becomes what a network was trained to see."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Preprocessing:
    """What evaluation, export and a later fine-tuning need to know of a network's input.

    Attributes:
        mean: of the pixels of each channel, in [0, 1]; subtracted.
        std: likewise; divided by.
        interpolation: bilinear or bicubic.
        crop_ratio: image_size / crop_ratio is the short side that a photo is resized to before the central crop.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str = "bilinear"
    crop_ratio: float = 1.0
