"""Augmentation of whole normalised batches, on the device: random erasing, mixup, cutmix."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from sizemix.data.batches import Batch
from sizemix.errors import UserError

_ERASED_AREA = (0.02, 1 / 3)
_ERASED_LOG_ASPECT = float(np.log(1 / 0.3))


@dataclass(frozen=True)
class Mixing:
    """What happens to a training batch as a whole.

    With mixup or cutmix, a batch's targets become probabilities (batch, num_classes), which
    torch.nn.functional.cross_entropy takes as well as class numbers. With both, each batch gets one of them.

    Args:
        erasing: probability that a rectangle of an image becomes noise (Zhong et al. 2017, arXiv 1708.04896).
        mixup: alpha of the Beta distribution that two images are blended by (Zhang et al. 2017, arXiv 1710.09412).
        cutmix: alpha of the Beta distribution of the area that comes from another image (Yun et al. 2019,
            arXiv 1905.04899).
        rescale: factors of the image's side, of which each batch gets one: resized by it and back, antialiased, which
            changes the apparent detail and neither size nor cost; empty: not done.
        rescale_shares: how often each factor is drawn; empty: all alike.

    Raises:
        UserError: a number out of range.
    """

    erasing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    rescale: tuple[float, ...] = ()
    rescale_shares: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.erasing <= 1:
            raise UserError(f"augment.erasing: expected a probability from 0 to 1, got {self.erasing}.")
        for name in ("mixup", "cutmix"):
            if getattr(self, name) < 0:
                raise UserError(f"augment.{name}: expected an alpha of at least 0, got {getattr(self, name)}.")
        if not all(factor > 0 for factor in self.rescale):
            raise UserError(f"augment.rescale: expected factors above 0, as [0.5,1], got {list(self.rescale)}.")
        shares = self.rescale_shares
        if shares and (len(shares) != len(self.rescale) or min(shares) < 0 or abs(sum(shares) - 1) > 1e-3):
            raise UserError(
                f"augment.rescale_shares: expected {len(self.rescale)} parts that sum to 1, one a factor of rescale, "
                f"got {list(shares)}."
            )

    def __call__(self, batch: Batch, *, num_classes: int, seed: tuple[int, ...]) -> Batch:
        """The batch, changed; the same for the same seed.

        Args:
            batch: normalised images and class numbers.
            num_classes: width of the mixed targets.
            seed: what the draws depend on; no other batch of the run, on any rank, may have the same.
        """
        if not (self.rescale or self.erasing or self.mixup or self.cutmix):
            return batch  # before anything is drawn: a generator takes longer to make than a small step's loss
        rng = np.random.default_rng(seed)
        images = self._rescaled(batch.images, rng) if self.rescale else batch.images
        images = _erased(images, self.erasing, rng) if self.erasing else images
        kinds = [kind for kind in ("mixup", "cutmix") if getattr(self, kind)]
        if not kinds:
            return replace(batch, images=images)
        kind = kinds[rng.integers(len(kinds))]
        kept = float(rng.beta(getattr(self, kind), getattr(self, kind)))
        partner = _on(images.device, rng.permutation(len(images)))
        if kind == "mixup":
            images = images.lerp(images[partner], 1 - kept)
        else:
            images, kept = _pasted(images, images[partner], kept, rng)
        classes = torch.arange(num_classes, device=images.device)
        targets = (batch.targets[:, None] == classes).to(images.dtype)
        return replace(batch, images=images, targets=targets.lerp(targets[partner], 1 - kept))

    def _rescaled(self, images: Tensor, rng: np.random.Generator) -> Tensor:
        weights = np.array(self.rescale_shares or [1.0] * len(self.rescale))
        factor = rng.choice(self.rescale, p=weights / weights.sum())
        side = images.shape[-1]
        drawn = max(1, round(factor * side))
        if drawn == side:
            return images
        there = F.interpolate(images, size=(drawn, drawn), mode="bilinear", antialias=True)
        return F.interpolate(there, size=(side, side), mode="bilinear", antialias=True)


def _erased(images: Tensor, probability: float, rng: np.random.Generator) -> Tensor:
    num_images, side = len(images), images.shape[-1]
    area = rng.uniform(*_ERASED_AREA, num_images) * side**2
    aspect = np.exp(rng.uniform(-_ERASED_LOG_ASPECT, _ERASED_LOG_ASPECT, num_images))
    heights = np.minimum(np.sqrt(area * aspect), side) * (rng.random(num_images) < probability)
    widths = np.minimum(np.sqrt(area / aspect), side)
    rows, columns = _stretches(side, heights, rng), _stretches(side, widths, rng)
    inside = _inside(side, rows, images.device)[:, :, None] & _inside(side, columns, images.device)[:, None]
    generator = torch.Generator(images.device).manual_seed(int(rng.integers(2**63)))
    noise = torch.empty_like(images).normal_(generator=generator)  # in the images' order of memory
    return torch.where(inside[:, None], noise, images)


def _pasted(images: Tensor, others: Tensor, kept: float, rng: np.random.Generator) -> tuple[Tensor, float]:
    """The other images inside one rectangle; and the part of the area that stayed."""
    side = images.shape[-1]
    cut = np.array([side * np.sqrt(1 - kept)])
    rows, columns = _stretches(side, cut, rng), _stretches(side, cut, rng)
    inside = _inside(side, rows, images.device)[0, :, None] & _inside(side, columns, images.device)[0]
    area = float(np.ptp(rows) * np.ptp(columns))
    return torch.where(inside, others, images), 1 - area / side**2


def _on(device: torch.device, values: NDArray[Any]) -> Tensor:
    """There, without waiting for it."""
    return torch.from_numpy(values).to(device, non_blocking=True)


def _stretches(side: int, lengths: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float32]:
    """(2, batch): first pixel, and the one behind the last, of stretches at random places of a line that holds them."""
    whole = np.round(lengths)
    first = np.floor(rng.random(len(lengths)) * (side - whole + 1))
    return np.stack([first, first + whole]).astype(np.float32)


def _inside(side: int, stretches: NDArray[np.float32], device: torch.device) -> Tensor:
    """(batch, side): which pixels of a line each covers; made there, as only so little is copied without waiting."""
    first, behind = _on(device, stretches)[:, :, None]
    at = torch.arange(side, device=device)
    covered: Tensor = (at >= first) & (at < behind)
    return covered
