"""Augmentation that changes how an image looks and not which part of it is seen: RandAugment and colour jitter.

torchvision's own classes draw from the global generator, which threads share and a checkpoint does not hold. Here
the numbers come from the sample's own draws, and torchvision's functional forms do the work.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from sizemix.errors import UserError

_GREY = 128
_STRONGEST = 30


@dataclass(frozen=True)
class RandAugment:
    """A few random operations for each image (Cubuk et al. 2019, arXiv 1909.13719), in torchvision's ranges.

    Args:
        num_ops: operations one after another.
        magnitude: strength of those that have one, 0 to 30.

    Raises:
        UserError: a number out of range.
    """

    num_ops: int = 2
    magnitude: int = 9

    def __post_init__(self) -> None:
        if self.num_ops < 1 or not 0 <= self.magnitude <= _STRONGEST:
            raise UserError(
                f"augment.rand_augment: expected num_ops of at least 1 and a magnitude from 0 to {_STRONGEST}, "
                f"got {self.num_ops} and {self.magnitude}."
            )

    @property
    def num_draws(self) -> int:
        """Uniform numbers that a sample needs: which operation, and its sign."""
        return 2 * self.num_ops

    def __call__(self, image: Tensor, draws: NDArray[np.float64]) -> Tensor:
        """(channels, image_size, image_size) uint8 to the same."""
        for choice, sign in draws.reshape(self.num_ops, 2):
            operation = _OPERATIONS[int(choice * len(_OPERATIONS))]
            strength = self.magnitude / _STRONGEST
            image = operation(image, strength if sign < 0.5 else -strength)
        return image


@dataclass(frozen=True)
class ColorJitter:
    """Brightness, contrast and saturation times factors around 1.

    Args:
        strength: the factors lie in [1 - strength, 1 + strength].

    Raises:
        UserError: a strength that is not in (0, 1].
    """

    strength: float

    def __post_init__(self) -> None:
        if not 0 < self.strength <= 1:
            raise UserError(f"augment.color_jitter: expected over 0 up to 1, or null, got {self.strength}.")

    @property
    def num_draws(self) -> int:
        """Uniform numbers that a sample needs: one a factor."""
        return 3

    def __call__(self, image: Tensor, draws: NDArray[np.float64]) -> Tensor:
        """(channels, image_size, image_size) uint8 to the same."""
        factors = 1 + self.strength * (2 * draws - 1)
        adjust = (transforms.adjust_brightness, transforms.adjust_contrast, transforms.adjust_saturation)
        for apply, factor in zip(adjust, factors, strict=True):
            image = apply(image, float(factor))
        return image


@dataclass(frozen=True)
class Appearance:
    """What is done to every training image at its final size, in this order; None: left out.

    Attributes:
        rand_augment: random operations.
        color_jitter: random colours.
    """

    rand_augment: RandAugment | None = None
    color_jitter: ColorJitter | None = None

    @property
    def changes_samples(self) -> bool:
        """Whether anything is done, which is done to one sample after another."""
        return bool(self._parts)

    @property
    def num_draws(self) -> int:
        """Uniform numbers that a sample needs."""
        return sum(part.num_draws for part in self._parts)

    def __call__(self, images: Tensor, draws: NDArray[np.float64]) -> Tensor:
        """Images (batch, channels, image_size, image_size) uint8, draws (batch, num_draws), to such images."""
        if not self._parts:
            return images
        return torch.stack([self._one(image, own) for image, own in zip(images, draws, strict=True)])

    def _one(self, image: Tensor, draws: NDArray[np.float64]) -> Tensor:
        for part in self._parts:
            image = part(image, draws[: part.num_draws])
            draws = draws[part.num_draws :]
        return image

    @property
    def _parts(self) -> list[RandAugment | ColorJitter]:
        return [part for part in (self.rand_augment, self.color_jitter) if part is not None]


def _affine(
    image: Tensor, *, angle: float = 0.0, shift: tuple[float, float] = (0, 0), shear: tuple[float, float] = (0, 0)
) -> Tensor:
    side = image.shape[-1]
    return transforms.affine(  # type: ignore[no-any-return]
        image,
        angle=angle,
        translate=[round(part * side) for part in shift],
        scale=1.0,
        shear=list(shear),
        interpolation=transforms.InterpolationMode.BILINEAR,
        fill=[_GREY] * image.shape[0],
    )


def _enhanced(adjust: Callable[[Tensor, float], Tensor]) -> Callable[[Tensor, float], Tensor]:
    return lambda image, strength: adjust(image, 1 + 0.9 * strength)


# Strength from -1 to 1; operations without a sign take its absolute value.
_OPERATIONS: tuple[Callable[[Tensor, float], Tensor], ...] = tuple(
    {
        "identity": lambda image, strength: image,
        "shear x": lambda image, strength: _affine(image, shear=(17.2 * strength, 0)),  # degrees; tan is 0.31
        "shear y": lambda image, strength: _affine(image, shear=(0, 17.2 * strength)),
        "translate x": lambda image, strength: _affine(image, shift=(0.45 * strength, 0)),
        "translate y": lambda image, strength: _affine(image, shift=(0, 0.45 * strength)),
        "rotate": lambda image, strength: _affine(image, angle=30 * strength),
        "brightness": _enhanced(transforms.adjust_brightness),
        "saturation": _enhanced(transforms.adjust_saturation),
        "contrast": _enhanced(transforms.adjust_contrast),
        "sharpness": _enhanced(transforms.adjust_sharpness),
        "posterize": lambda image, strength: transforms.posterize(image, 8 - round(4 * abs(strength))),
        "solarize": lambda image, strength: transforms.solarize(image, 255 * (1 - abs(strength))),
        "autocontrast": lambda image, strength: transforms.autocontrast(image),
        "equalize": lambda image, strength: transforms.equalize(image),
    }.values()
)


def appearance(*, rand_augment: Mapping[str, int] | None = None, color_jitter: float | None = None) -> Appearance:
    """From the plain values of a configuration.

    Raises:
        UserError: a value out of range.
    """
    odd = set(rand_augment or ()) - {"num_ops", "magnitude"}
    if odd:
        raise UserError(f"augment.rand_augment: expected num_ops and magnitude, got {', '.join(sorted(odd))}.")
    return Appearance(
        rand_augment=None if rand_augment is None else RandAugment(**rand_augment),
        color_jitter=None if color_jitter is None else ColorJitter(color_jitter),
    )
