"""Requests to tensors, for photos: each decoded once for all its copies, and as a rule once for all sizes."""

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from sizemix.data.appearance import Appearance
from sizemix.data.batches import NOT_SHOWN, Batch
from sizemix.data.cropping import Crop, cut, denominator
from sizemix.data.crops import NUM_CROP_DRAWS, RandomResizedCrop, centre_box
from sizemix.data.draws import sample_uniforms
from sizemix.data.photos import Photo
from sizemix.data.preprocessing import Preprocessing
from sizemix.data.request import EvalRequest, TrainRequest
from sizemix.errors import UserError

# Evaluation decodes photos as for this size at least, so that all smaller ones come from the same decoding and yet each
# looks as if it were evaluated alone.
EVALUATED_FOR = 512


class PhotoStore(Protocol):
    """Photos by number; the seam where other ways to keep them plug in."""

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """What messages and reports call a photo."""

    def open(self, index: int) -> Photo:
        """A photo, its header read; any exception: it cannot be read."""


class PhotoBatches:
    """One split of photos.

    One that cannot be read is replaced by the next readable one of its class, always the same, and named in the batch;
    in evaluation its target is NOT_SHOWN.

    Args:
        photos: the photos.
        targets: (num_images,) int64.
        crop: which part of a photo a training sample shows.
        gap: pixels to be decoded for each pixel of a crop, at least, or all that there are.
        flip: whether half of the training samples are mirrored.
        appearance: what else is done to a training sample, at its final size.
        preprocessing: interpolation, and how much of the photo evaluation shows.
    """

    def __init__(
        self,
        photos: PhotoStore,
        targets: Tensor,
        *,
        crop: RandomResizedCrop,
        gap: float,
        flip: bool,
        appearance: Appearance,
        preprocessing: Preprocessing,
    ) -> None:
        self.num_images = len(photos)
        self._photos = photos
        self._targets = targets
        self._crop = crop
        self._gap = gap
        self._flip = flip
        self._appearance = appearance
        self._preprocessing = preprocessing

    def train(self, request: TrainRequest) -> Batch:
        """Random crops, flipped, of every image asked for: (num_repeats x local_batch_size, ...), copy after copy."""
        return self.at_sizes([request])[0]

    def eval(self, request: EvalRequest) -> Batch:
        """The middle of every photo."""
        return self.at_sizes([request])[0]

    def at_sizes(self, requests: Sequence[TrainRequest | EvalRequest]) -> list[Batch]:
        """A batch for each request, all of the same images; each is what it would be alone."""
        indices = requests[0].indices
        sheets = [self._sheet(request) for request in requests]
        unreadable: list[str] = []
        as_asked = [self._show(int(index), at, sheets, unreadable) for at, index in enumerate(indices)]
        targets = self._targets[torch.from_numpy(indices)]
        return [sheet.batch(targets, torch.tensor(as_asked), tuple(unreadable)) for sheet in sheets]

    def _sheet(self, request: TrainRequest | EvalRequest) -> "_TrainSheet | _EvalSheet":
        if isinstance(request, EvalRequest):
            return _EvalSheet(request, self._preprocessing.crop_ratio)
        return _TrainSheet(request, self._crop, flip=self._flip, appearance=self._appearance)

    def _show(self, index: int, at: int, sheets: Sequence["_TrainSheet | _EvalSheet"], unreadable: list[str]) -> bool:
        """Shows the image, or the next of its class that can be read; the others' names go into unreadable.

        Returns:
            Whether it is the image itself.
        """
        for candidate in self._substitutes(index):
            try:
                self._cut(self._photos.open(candidate), at, sheets)
            except MemoryError:
                raise
            except Exception:  # whatever one of Pillow's readers raises on a file that has broken since it was checked
                unreadable.append(self._photos.name(candidate))
            else:
                return candidate == index
        if all(isinstance(sheet, _EvalSheet) for sheet in sheets):  # which will not count it
            return False
        name = self._photos.name(index)
        raise UserError(f"expected a readable image of the class of {name}, found none; check the disk.")

    def _cut(self, photo: Photo, at: int, sheets: Sequence["_TrainSheet | _EvalSheet"]) -> None:
        """Decodes the photo once for all sheets that want it at the same scale."""
        by_scale: dict[int, list[Crop]] = {}
        for sheet in sheets:
            crops = list(sheet.crops(photo, at))
            coarse = denominator((crop.box for crop in crops), image_size=sheet.decoded_for, gap=self._gap)
            by_scale.setdefault(coarse, []).extend(crops)
        for coarse, crops in by_scale.items():
            cut(photo, crops, coarse, interpolation=self._preprocessing.interpolation)

    def _substitutes(self, index: int) -> Iterator[int]:
        """The image itself, then the others of its class from it on; looked up only where it is needed."""
        yield index
        same_class = torch.nonzero(self._targets == self._targets[index]).flatten().numpy()
        later = int(np.searchsorted(same_class, index)) + 1
        yield from (int(row) for row in np.roll(same_class, -later)[:-1])


class _TrainSheet:
    """Where the crops of a training request go: (copies x num_images, 3, image_size, image_size)."""

    def __init__(self, request: TrainRequest, crop: RandomResizedCrop, *, flip: bool, appearance: Appearance) -> None:
        copies, num_images, size = request.num_repeats, len(request.indices), request.image_size
        self._draws = sample_uniforms(
            request.seed,
            passes=np.tile(request.passes, copies),
            indices=np.tile(request.indices, copies),
            copies=np.repeat(np.arange(copies), num_images),
            num_draws=NUM_CROP_DRAWS + 1 + appearance.num_draws,
        )
        self.decoded_for = size
        self._request = request
        self._crop = crop
        self._flip = flip
        self._appearance = appearance
        self._images = _empty_images(copies * num_images, size)

    def crops(self, photo: Photo, at: int) -> Iterator[Crop]:
        """All copies of the request's at-th image."""
        own = slice(at, None, len(self._request.indices))
        for row, pixels in zip(self._draws[own], self._images[own], strict=True):
            box = self._crop.box(
                photo.width, photo.height, image_size=self._request.image_size, draws=row[:NUM_CROP_DRAWS]
            )
            yield Crop(box, bool(self._flip and row[NUM_CROP_DRAWS] < 0.5), pixels)

    def batch(self, targets: Tensor, as_asked: Tensor, unreadable: tuple[str, ...]) -> Batch:
        """Of the images' targets (num_images,); what else is done to the samples is done now."""
        request, size = self._request, self._request.image_size
        images = self._appearance(self._images, self._draws[:, NUM_CROP_DRAWS + 1 :])
        return Batch(images, targets.repeat(request.num_repeats), size, item=request.item, unreadable=unreadable)


class _EvalSheet:
    """Where the middles of photos go: (num_images, 3, image_size, image_size)."""

    def __init__(self, request: EvalRequest, crop_ratio: float) -> None:
        self.decoded_for = max(EVALUATED_FOR, request.image_size)
        self._size = request.image_size
        self._crop_ratio = crop_ratio
        self._images = _empty_images(len(request.indices), self._size).zero_()

    def crops(self, photo: Photo, at: int) -> Iterator[Crop]:
        """The middle of the request's at-th image."""
        yield Crop(centre_box(photo.width, photo.height, crop_ratio=self._crop_ratio), False, self._images[at])

    def batch(self, targets: Tensor, as_asked: Tensor, unreadable: tuple[str, ...]) -> Batch:
        """Of the images' targets (num_images,), and whether each is shown: accuracy counts no substitutes."""
        return Batch(self._images, targets.where(as_asked, NOT_SHOWN), self._size, unreadable=unreadable)


def _empty_images(number: int, image_size: int) -> Tensor:
    """(number, 3, image_size, image_size) uint8, in the memory order the network wants."""
    return torch.empty((number, image_size, image_size, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
