"""Where images come from: what a data set offers, and data sets held in memory."""

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import resources
from typing import Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sizemix.data.appearance import Appearance
from sizemix.data.batches import BatchSource, InMemoryBatches
from sizemix.data.preprocessing import Preprocessing
from sizemix.errors import UserError


class LabelledSplit(Protocol):
    """Labelled images of one split, wherever they are."""

    @property
    def targets(self) -> Tensor:
        """(num_images,) class numbers, int64."""

    @property
    def fingerprint(self) -> str:
        """Names its images, their order and labels."""

    def subset(self, rows: Tensor) -> Self:
        """Only those images, in that order."""

    def batches(self, *, appearance: Appearance, flip: bool, preprocessing: Preprocessing) -> BatchSource:
        """What makes batches of these images."""


class DataSource(Protocol):
    """A data set with its splits; what a `_target_` of the data group returns."""

    @property
    def name(self) -> str:
        """What figures and reports call it."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """One name a class."""

    @property
    def train(self) -> LabelledSplit:
        """Training images."""

    @property
    def val(self) -> LabelledSplit:
        """Images split off from the training data; model selection looks at these."""

    @property
    def test(self) -> LabelledSplit:
        """Images that choose nothing and are read once, at the end."""

    @property
    def preprocessing(self) -> Preprocessing | None:
        """Statistics of its own; None leaves them to the network's configuration."""

    @property
    def fingerprint(self) -> str:
        """Names all images, their order and labels."""


@dataclass(frozen=True)
class Split:
    """Labelled images of one split, held in memory.

    Attributes:
        images: (num_images, channels, height, width) uint8; one channel for grey.
        targets: (num_images,) int64.
        crop_padding: zero pixels added on every side before training's random crop.

    Raises:
        UserError: images or targets of another kind or shape.
    """

    images: Tensor
    targets: Tensor
    crop_padding: int = 0

    def __post_init__(self) -> None:
        shape, of_bytes = tuple(self.images.shape), self.images.dtype == torch.uint8
        if len(shape) != 4 or shape[1] not in (1, 3) or not of_bytes:
            raise UserError(
                f"expected images (num_images, 1 or 3, height, width) of bytes, torch.uint8, got {shape} of "
                f"{self.images.dtype}."
            )
        if self.targets.shape != shape[:1] or self.targets.dtype != torch.int64:
            raise UserError(
                f"expected a class number for each of {shape[0]} images, torch.int64, got "
                f"{tuple(self.targets.shape)} of {self.targets.dtype}."
            )

    @cached_property
    def fingerprint(self) -> str:
        """Names its images, their order and labels."""
        digest = hashlib.sha256(repr(tuple(self.images.shape)).encode())
        digest.update(self.images.numpy().tobytes())
        digest.update(self.targets.numpy().tobytes())
        return digest.hexdigest()

    def subset(self, rows: Tensor) -> "Split":
        """Only those images, in that order."""
        return replace(self, images=self.images[rows], targets=self.targets[rows])

    def batches(self, *, appearance: Appearance, flip: bool, preprocessing: Preprocessing) -> InMemoryBatches:
        """Whole-batch cropping and resizing; the whole image is shown at test, whatever the network's crop ratio."""
        return InMemoryBatches(
            self.images, self.targets, crop_padding=self.crop_padding, flip=flip, appearance=appearance
        )


@dataclass(frozen=True)
class ImageDataset:
    """A data set in memory.

    Attributes:
        name: what figures and reports call it.
        train: training images.
        val: images split off from the training data; model selection looks at these.
        test: images that choose nothing and are read once, at the end.
        class_names: one name a class.
        mean: of the pixels of each of the three channels, in [0, 1].
        std: likewise.
    """

    name: str
    train: Split
    val: Split
    test: Split
    class_names: tuple[str, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def preprocessing(self) -> Preprocessing:
        """Its own statistics; small images are shown whole."""
        return Preprocessing(self.mean, self.std)

    @cached_property
    def fingerprint(self) -> str:
        """Names all images, their order, labels, statistics and training's padding."""
        splits = [split.fingerprint for split in (self.train, self.val, self.test)]
        what = (self.class_names, self.mean, self.std, self.train.crop_padding, splits)
        return hashlib.sha256(repr(what).encode()).hexdigest()


def fashion_mnist(*, train_images: int | None = None, crop_padding: int = 3) -> ImageDataset:
    """The embedded subset of Fashion-MNIST (Xiao et al. 2017, arXiv 1708.07747): 28 x 28 grey, ten classes.

    9,000 training, 1,000 validation and 2,000 test images, balanced; tools/build_fashion_mnist.py made the file.

    Args:
        train_images: use only so many training images, equally many of each class; None uses all.
        crop_padding: zero pixels added on every side before training's random crop.

    Raises:
        UserError: train_images out of range or not a multiple of the ten classes.
    """
    with resources.files("sizemix.data").joinpath("fashion_mnist.npz").open("rb") as file:
        arrays = dict(np.load(file, allow_pickle=False))
    train, val, test = (_split(arrays, name, crop_padding) for name in ("train", "val", "test"))
    dataset = ImageDataset(
        name="Fashion-MNIST (12,000-image subset)",
        train=train,
        val=val,
        test=test,
        class_names=tuple(str(name) for name in arrays["class_names"]),
        mean=(0.286, 0.286, 0.286),
        std=(0.353, 0.353, 0.353),
    )
    return fewer_training_images(dataset, train_images)


def fewer_training_images(dataset: ImageDataset, num_images: int | None) -> ImageDataset:
    """The data set with only the first training images of each class, equally many; None keeps all.

    Raises:
        UserError: more than there are, or not a multiple of the classes.
    """
    if num_images is None:
        return dataset
    rows = balanced_head(dataset.train.targets, num_images, len(dataset.class_names))
    name = f"{dataset.name}, {num_images:,} training images"
    return replace(dataset, train=dataset.train.subset(rows), name=name)


def balanced_head(targets: Tensor, num_images: int, num_classes: int) -> Tensor:
    """Rows of the first images of each class, equally many.

    Raises:
        UserError: more than there are, or not a multiple of the classes.
    """
    available = num_classes * int(torch.bincount(targets, minlength=num_classes).min())
    if not 0 < num_images <= available or num_images % num_classes:
        raise UserError(
            f"data.train_images: expected a multiple of {num_classes} (the classes) up to {available}, "
            f"got {num_images}."
        )
    by_class = [torch.nonzero(targets == label).flatten() for label in range(num_classes)]
    return torch.cat([of_class[: num_images // num_classes] for of_class in by_class]).sort().values


def _split(arrays: dict[str, NDArray[np.uint8]], name: str, crop_padding: int) -> Split:
    images = torch.from_numpy(arrays[f"{name}_images"]).unsqueeze(1)
    return Split(images, torch.from_numpy(arrays[f"{name}_targets"].astype(np.int64)), crop_padding)
