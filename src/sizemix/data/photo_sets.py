"""A data set of photos, however they are kept: its splits, and what makes their batches."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Protocol, Self

import torch
from torch import Tensor

from sizemix.data.appearance import Appearance
from sizemix.data.cropping import GAP
from sizemix.data.crops import RandomResizedCrop
from sizemix.data.photo_batches import PhotoBatches, PhotoStore
from sizemix.data.preprocessing import Preprocessing
from sizemix.data.sources import balanced_head
from sizemix.data.splits import SPLITS, SplitFile, hold_out
from sizemix.errors import UserError


class PhotoCollection(PhotoStore, Protocol):
    """Photos by number that have a path each."""

    @property
    def paths(self) -> Sequence[str]:
        """One a photo, relative to the data's root, with slashes."""

    def subset(self, rows: Sequence[int]) -> Self:
        """Only those photos, in that order."""

    def size(self, index: int) -> tuple[int, int]:
        """Width and height of the upright photo."""


@dataclass(frozen=True)
class PhotoSplit:
    """Labelled photos of one split.

    Attributes:
        photos: the photos.
        targets: (num_images,) class numbers, int64.
        crop: what training shows of a photo.
        decode_gap: pixels decoded for each pixel of a crop, at least, where less than all are.
    """

    photos: PhotoCollection
    targets: Tensor
    crop: RandomResizedCrop
    decode_gap: float = GAP

    @property
    def paths(self) -> Sequence[str]:
        """One a photo."""
        return self.photos.paths

    @cached_property
    def fingerprint(self) -> str:
        """Names its photos, their order and classes; not their contents."""
        digest = hashlib.sha256("\n".join(self.paths).encode())
        digest.update(self.targets.numpy().tobytes())
        return digest.hexdigest()

    def subset(self, rows: Tensor) -> "PhotoSplit":
        """Only those photos, in that order."""
        return replace(self, photos=self.photos.subset(rows.tolist()), targets=self.targets[rows])

    def batches(self, *, appearance: Appearance, flip: bool, preprocessing: Preprocessing) -> PhotoBatches:
        """Photos decoded as they are asked for."""
        return PhotoBatches(
            self.photos,
            self.targets,
            crop=self.crop,
            gap=self.decode_gap,
            flip=flip,
            appearance=appearance,
            preprocessing=preprocessing,
        )


@dataclass(frozen=True)
class PhotoDataset:
    """A data set of photos.

    Attributes:
        name: what figures and reports call it.
        class_names: one name a class, sorted.
        train: training photos.
        val: photos that model selection looks at.
        test: photos that choose nothing and are read once, at the end.
        files: all of them, for split.csv.
        broken: files that were left out, with the reason.
        contents: names the photos' bytes, where something is known of them.
    """

    name: str
    class_names: tuple[str, ...]
    train: PhotoSplit
    val: PhotoSplit
    test: PhotoSplit
    files: Sequence[SplitFile]
    broken: Mapping[str, str] = field(default_factory=dict)
    contents: str | None = None

    @property
    def preprocessing(self) -> Preprocessing | None:
        """None: photos are shown as the network's configuration says."""
        return None

    @cached_property
    def fingerprint(self) -> str:
        """Names all files, their order, classes and splits."""
        splits = [split.fingerprint for split in (self.train, self.val, self.test)]
        what = (self.class_names, self.train.crop, self.train.decode_gap, splits, self.contents)
        return hashlib.sha256(repr(what).encode()).hexdigest()


def photo_dataset(
    files: Sequence[SplitFile],
    kept: Callable[[Sequence[str]], PhotoCollection],
    *,
    name: str,
    crop: RandomResizedCrop,
    decode_gap: float,
    train_images: int | None,
    broken: Mapping[str, str],
    contents: str | None = None,
) -> PhotoDataset:
    """The data set of files whose splits are known.

    Args:
        files: all of them.
        kept: from paths to photos.
        name: what reports call the data.
        crop: what training shows of a photo.
        decode_gap: pixels decoded for each pixel of a crop, at least, where less than all are.
        train_images: use only so many training images, equally many of each class; None uses all.
        broken: files that were left out, with the reason.
        contents: see PhotoDataset.

    Raises:
        UserError: train_images that are not to be had.
    """
    class_names = tuple(sorted({file.class_name for file in files}))
    train, val, test = (_split(files, split, kept, class_names, crop, decode_gap) for split in SPLITS)
    if train_images is not None:
        train = train.subset(balanced_head(train.targets, train_images, len(class_names)))
        name = f"{name}, {train_images:,} training images"
    return PhotoDataset(name, class_names, train, val, test, files, broken, contents)


def with_held_out(
    files: Sequence[SplitFile], fractions: Mapping[str, float], *, seed: int, group_pattern: str | None
) -> list[SplitFile]:
    """Draws the splits that have no files yet from the training files.

    Args:
        files: all of them.
        fractions: of all files, by split.
        seed: of the draws.
        group_pattern: see hold_out.

    Raises:
        UserError: fractions out of range, or what hold_out says.
    """
    left = 1.0  # of the files, as fractions are of all of them
    for number, (split, fraction) in enumerate(fractions.items()):
        if any(file.split == split for file in files):
            continue
        if not 0 < fraction < left:
            raise UserError(f"data.{split}_fraction: expected a part between 0 and {left:.3g}, got {fraction}.")
        candidates = [(file.path, file.class_name) for file in files if file.split == "train"]
        drawn = hold_out(candidates, fraction / left, seed=seed + number * 2**32, group_pattern=group_pattern)
        left -= fraction
        files = [replace(file, split=split) if file.path in drawn else file for file in files]
    return list(files)


def _split(
    files: Iterable[SplitFile],
    split: str,
    kept: Callable[[Sequence[str]], PhotoCollection],
    class_names: Sequence[str],
    crop: RandomResizedCrop,
    decode_gap: float,
) -> PhotoSplit:
    number = {name: at for at, name in enumerate(class_names)}
    own = [file for file in files if file.split == split]
    targets = torch.tensor([number[file.class_name] for file in own], dtype=torch.int64)
    return PhotoSplit(kept([file.path for file in own]), targets, crop, decode_gap)
