"""How an image becomes what a network was trained to see."""

from dataclasses import dataclass, replace


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

    @property
    def of_small_images(self) -> "Preprocessing":
        """For images held in memory: shown whole and resized bilinearly, whatever photos the network has seen."""
        return replace(self, interpolation="bilinear", crop_ratio=1.0)
