"""Requests to tensors, for images held in memory: whole-batch crop, flip and resize on uint8."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from sizemix.data.appearance import Appearance
from sizemix.data.draws import sample_uniforms
from sizemix.data.request import EvalRequest, TrainRequest

NOT_SHOWN = -1  # the target of an evaluated image that could not be read; no class


@dataclass
class Batch:
    """Images of one size.

    Attributes:
        images: (batch, channels, image_size, image_size), uint8 until SizedDataModule normalises it on the device.
        targets: (batch,) class numbers, int64; with mixup or cutmix (batch, num_classes) probabilities. In evaluation
            NOT_SHOWN for an image that could not be read: another stands in its place and must not be counted.
        image_size: side in pixels.
        item: number of the micro-batch in the run; None outside training.
        unreadable: files that could not be read and were replaced by another image of their class.
    """

    images: Tensor
    targets: Tensor
    image_size: int
    item: int | None = None
    unreadable: tuple[str, ...] = ()

    def to(self, device: torch.device) -> "Batch":
        """The same on a device; a GPU fetches it by itself where it is pinned."""
        on_its_own = device.type == "cuda"
        images, targets = (part.to(device, non_blocking=on_its_own) for part in (self.images, self.targets))
        return replace(self, images=images, targets=targets)

    def pinned(self) -> "Batch":
        """The same in page-locked memory, from which copies to a GPU need no thread to wait."""
        return replace(self, images=self.images.pin_memory(), targets=self.targets.pin_memory())


class BatchSource(Protocol):
    """Makes batches of one split; the seam where other kinds of data plug in."""

    num_images: int

    def train(self, request: TrainRequest) -> Batch:
        """Augmented copies of the images asked for."""

    def eval(self, request: EvalRequest) -> Batch:
        """The images asked for, without augmentation."""

    def at_sizes(self, requests: Sequence[TrainRequest | EvalRequest]) -> list[Batch]:
        """A batch for each of several requests that ask for the same images, each as it would be alone."""


class InMemoryBatches:
    """One split of small images, held in memory on one device.

    Training crops at the images' own size (pad, then crop) and resizes afterwards, as the paper's authors do for
    CIFAR; evaluation resizes the whole image.

    Args:
        images: (num_images, channels, height, width) uint8.
        targets: (num_images,) int64.
        crop_padding: zero pixels added on every side before the random crop.
        flip: whether half of the samples are mirrored.
        appearance: what else is done to a sample, at its final size.
    """

    def __init__(
        self,
        images: Tensor,
        targets: Tensor,
        *,
        crop_padding: int,
        flip: bool,
        appearance: Appearance | None = None,
    ) -> None:
        self.num_images, _, self._height, self._width = images.shape
        self._padding = crop_padding
        self._flip = flip
        self._appearance = appearance or Appearance()
        self._padded = torch.nn.functional.pad(images, (crop_padding,) * 4).permute(0, 2, 3, 1).contiguous()
        self._targets = targets

    def to(self, device: torch.device) -> "InMemoryBatches":
        """The same split, resident on a device."""
        moved = object.__new__(InMemoryBatches)
        moved.__dict__ = {**self.__dict__, "_padded": self._padded.to(device), "_targets": self._targets.to(device)}
        return moved

    def train(self, request: TrainRequest) -> Batch:
        """Cropped, flipped and resized copies: (num_repeats x local_batch_size, ...), copy after copy."""
        indices = np.tile(request.indices, request.num_repeats)
        draws = sample_uniforms(
            request.seed,
            passes=np.tile(request.passes, request.num_repeats),
            indices=indices,
            copies=np.repeat(np.arange(request.num_repeats), len(request.indices)),
            num_draws=3 + self._appearance.num_draws,
        )
        offsets = (draws[:, :2] * (2 * self._padding + 1)).astype(np.int64)
        mirrored = (draws[:, 2] < 0.5) & self._flip
        batch = self._gather(indices, tops=offsets[:, 0], lefts=offsets[:, 1], mirrored=mirrored)
        batch = _resized(batch, request.image_size)
        return replace(batch, images=self._appearance(batch.images, draws[:, 3:]), item=request.item)

    def eval(self, request: EvalRequest) -> Batch:
        """The whole images, resized."""
        centre = np.full(len(request.indices), self._padding)
        batch = self._gather(request.indices, tops=centre, lefts=centre, mirrored=np.zeros(len(centre), dtype=bool))
        return _resized(batch, request.image_size)

    def at_sizes(self, requests: Sequence[TrainRequest | EvalRequest]) -> list[Batch]:
        """A batch for each request."""
        return [self.train(one) if isinstance(one, TrainRequest) else self.eval(one) for one in requests]

    def _gather(
        self,
        indices: NDArray[np.int64],
        *,
        tops: NDArray[np.int64],
        lefts: NDArray[np.int64],
        mirrored: NDArray[np.bool_],
    ) -> Batch:
        device = self._padded.device
        flips = np.flatnonzero(mirrored)
        index, top, left, flipped = (
            torch.from_numpy(part).to(device, non_blocking=True) for part in (indices, tops, lefts, flips)
        )
        cropped = self._windows[index, top, left].permute(0, 3, 1, 2)
        cropped[flipped] = cropped[flipped].flip(3)
        return Batch(images=cropped, targets=self._targets[index], image_size=self._height)

    @property
    def _windows(self) -> Tensor:
        """Every crop there is: (num_images, tops, lefts, height, width, channels); a view, which takes no memory.

        Channels last, the layout that the network wants, lets whole rows be copied.
        """
        image, row, column, channel = self._padded.stride()
        offsets = 2 * self._padding + 1
        shape = (self.num_images, offsets, offsets, self._height, self._width, self._padded.shape[-1])
        return self._padded.as_strided(shape, (image, row, column, row, column, channel))


def _resized(batch: Batch, image_size: int) -> Batch:
    if batch.images.shape[-2:] == (image_size, image_size):
        return batch
    images = transforms.resize(batch.images, [image_size, image_size], antialias=True)
    return Batch(images=images, targets=batch.targets, image_size=image_size)
