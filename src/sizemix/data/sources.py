"""Where images come from: data sets with their splits, class names and statistics."""

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import resources

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sizemix.errors import UserError


@dataclass(frozen=True)
class Split:
    """Labelled images of one split.

    Attributes:
        images: (num_images, channels, height, width) uint8; one channel for grey.
        targets: (num_images,) int64.
    """

    images: Tensor
    targets: Tensor


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

    @cached_property
    def fingerprint(self) -> str:
        """Names all images, their order, labels and statistics."""
        digest = hashlib.sha256(repr((self.class_names, self.mean, self.std)).encode())
        for split in (self.train, self.val, self.test):
            digest.update(repr(tuple(split.images.shape)).encode())
            digest.update(split.images.numpy().tobytes())
            digest.update(split.targets.numpy().tobytes())
        return digest.hexdigest()


def fashion_mnist(*, train_images: int | None = None) -> ImageDataset:
    """The embedded subset of Fashion-MNIST (Xiao et al. 2017, arXiv 1708.07747): 28 x 28 grey, ten classes.

    9,000 training, 1,000 validation and 2,000 test images, balanced; tools/build_fashion_mnist.py made the file.

    Args:
        train_images: use only so many training images, equally many of each class; None uses all.

    Raises:
        UserError: train_images out of range or not a multiple of the ten classes.
    """
    with resources.files("sizemix.data").joinpath("fashion_mnist.npz").open("rb") as file:
        arrays = dict(np.load(file, allow_pickle=False))
    dataset = ImageDataset(
        name="Fashion-MNIST (12,000-image subset)",
        train=_split(arrays, "train"),
        val=_split(arrays, "val"),
        test=_split(arrays, "test"),
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
    train = _balanced_head(dataset.train, num_images, len(dataset.class_names))
    return replace(dataset, train=train, name=f"{dataset.name}, {num_images:,} training images")


def _balanced_head(split: Split, num_images: int, num_classes: int) -> Split:
    available = num_classes * int(torch.bincount(split.targets, minlength=num_classes).min())
    if not 0 < num_images <= available or num_images % num_classes:
        raise UserError(
            f"data.source.train_images: expected a multiple of {num_classes} (the classes) up to {available}, "
            f"got {num_images}."
        )
    by_class = [torch.nonzero(split.targets == label).flatten() for label in range(num_classes)]
    kept = torch.cat([of_class[: num_images // num_classes] for of_class in by_class]).sort().values
    return Split(split.images[kept], split.targets[kept])


def _split(arrays: dict[str, NDArray[np.uint8]], name: str) -> Split:
    images = torch.from_numpy(arrays[f"{name}_images"]).unsqueeze(1)
    return Split(images, torch.from_numpy(arrays[f"{name}_targets"].astype(np.int64)))
