"""Requests to tensors, for image files: each decoded once, for all copies of it that a step shows."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sizemix.data.appearance import Appearance
from sizemix.data.batches import Batch
from sizemix.data.draws import sample_uniforms
from sizemix.data.photos import NUM_CROP_DRAWS, Box, RandomResizedCrop, centre_box, read_crops
from sizemix.data.preprocessing import Preprocessing
from sizemix.data.request import EvalRequest, TrainRequest
from sizemix.errors import UserError


class FileBatches:
    """One split of image files.

    A file that cannot be read is replaced by the next readable one of its class, always the same, and named in the
    batch.

    Args:
        root: what paths are relative to.
        paths: one a file.
        targets: (num_images,) int64.
        crop: which part of a photo a training sample shows.
        flip: whether half of the training samples are mirrored.
        appearance: what else is done to a training sample, at its final size.
        preprocessing: interpolation, and how much of the photo evaluation shows.
    """

    def __init__(
        self,
        root: Path,
        paths: Sequence[str],
        targets: Tensor,
        *,
        crop: RandomResizedCrop,
        flip: bool,
        appearance: Appearance,
        preprocessing: Preprocessing,
    ) -> None:
        self.num_images = len(paths)
        self._root = root
        self._paths = np.array(paths)  # an array, as workers would copy a list's pages with every count of a reference
        self._targets = targets
        self._crop = crop
        self._flip = flip
        self._appearance = appearance
        self._preprocessing = preprocessing

    def train(self, request: TrainRequest) -> Batch:
        """Random crops, flipped, of every image asked for: (num_repeats x local_batch_size, ...), copy after copy."""
        num_images, copies, size = len(request.indices), request.num_repeats, request.image_size
        draws = sample_uniforms(
            request.seed,
            passes=np.tile(request.passes, copies),
            indices=np.tile(request.indices, copies),
            copies=np.repeat(np.arange(copies), num_images),
            num_draws=NUM_CROP_DRAWS + 1 + self._appearance.num_draws,
        )
        pixels = np.empty((copies, num_images, size, size, 3), np.uint8)
        unreadable: list[str] = []
        for at, index in enumerate(request.indices):
            own = draws[at::num_images]

            def choose(width: int, height: int, own: NDArray[np.float64] = own) -> list[Box]:
                return [self._crop.box(width, height, image_size=size, draws=row[:NUM_CROP_DRAWS]) for row in own]

            crops = self._read(int(index), choose, size, unreadable)
            for copy, (crop, row) in enumerate(zip(crops, own, strict=True)):
                mirrored = self._flip and row[NUM_CROP_DRAWS] < 0.5
                pixels[copy, at] = crop[:, ::-1] if mirrored else crop
        images = _channels_first(pixels.reshape(-1, size, size, 3))
        images = self._appearance(images, draws[:, NUM_CROP_DRAWS + 1 :])
        targets = self._targets[torch.from_numpy(np.tile(request.indices, copies))]
        return Batch(images, targets, size, item=request.item, unreadable=tuple(unreadable))

    def eval(self, request: EvalRequest) -> Batch:
        """The middle of every photo."""
        size = request.image_size
        unreadable: list[str] = []
        pixels = np.empty((len(request.indices), size, size, 3), np.uint8)
        for at, index in enumerate(request.indices):
            pixels[at] = self._read(int(index), self._centre, size, unreadable)[0]
        targets = self._targets[torch.from_numpy(request.indices)]
        return Batch(_channels_first(pixels), targets, size, unreadable=tuple(unreadable))

    def _centre(self, width: int, height: int) -> list[Box]:
        return [centre_box(width, height, crop_ratio=self._preprocessing.crop_ratio)]

    def _read(
        self, index: int, choose: Callable[[int, int], list[Box]], image_size: int, unreadable: list[str]
    ) -> list[NDArray[np.uint8]]:
        """Crops of the image or of the next of its class that can be read; the others' names go into unreadable."""
        for candidate in self._substitutes(index):
            path = str(self._paths[candidate])
            try:
                return read_crops(
                    self._root / path,
                    choose,
                    image_size=image_size,
                    interpolation=self._preprocessing.interpolation,
                )
            except MemoryError:
                raise
            except Exception:  # whatever one of Pillow's readers raises on a file that has broken since it was checked
                unreadable.append(path)
        raise UserError(f"expected a readable image of the class of {self._paths[index]}, found none; check the disk.")

    def _substitutes(self, index: int) -> Iterator[int]:
        """The image itself, then the others of its class from it on; looked up only where it is needed."""
        yield index
        same_class = torch.nonzero(self._targets == self._targets[index]).flatten().numpy()
        later = int(np.searchsorted(same_class, index)) + 1
        yield from (int(row) for row in np.roll(same_class, -later)[:-1])


def _channels_first(pixels: NDArray[np.uint8]) -> Tensor:
    """(batch, size, size, 3) to (batch, 3, size, size), in the memory order the network wants."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)
