"""CIFAR-10 and CIFAR-100 in memory: torchvision's files, or plain folders of image files."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Literal
from urllib.error import URLError

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torchvision import datasets
from tqdm import tqdm

from sizemix.data.sources import ImageDataset, Split, fewer_training_images
from sizemix.errors import UserError

_SIDE = 32


def cifar(
    *,
    root: str,
    num_classes: Literal[10, 100] = 10,
    val_images: int = 5000,
    train_images: int | None = None,
    download: bool = False,
    name: str | None = None,
    crop_padding: int = 4,
) -> ImageDataset:
    """CIFAR (Krizhevsky 2009): 50,000 training and 10,000 test images of 32 x 32 in colour.

    Args:
        root: a folder that holds torchvision's files (cifar-10-batches-py, cifar-100-python), or the folders
            train/CLASS and test/CLASS with image files.
        num_classes: which of the two.
        val_images: images split off from the training images for validation, equally many of each class, always the
            same ones.
        train_images: use only so many of the others, equally many of each class; None uses all.
        download: fetch torchvision's files into root where they are missing.
        name: what reports call the data; None: CIFAR-10 or CIFAR-100.
        crop_padding: zero pixels added on every side before training's random crop.

    Raises:
        UserError: a folder that holds neither form, classes that differ, a broken file, or no network to download.
    """
    folder = Path(root)
    if (folder / "train").is_dir() and (folder / "test").is_dir():
        train, class_names = _from_folders(folder / "train")
        test, test_classes = _from_folders(folder / "test")
        if class_names != test_classes:
            odd = sorted(set(class_names) ^ set(test_classes))
            raise UserError(f"{root}: expected the same classes in train/ and test/, got {', '.join(odd)} in one only.")
        if len(class_names) in (10, 100) and len(class_names) != num_classes:
            raise UserError(
                f"{root}: expected the {num_classes} classes of CIFAR-{num_classes}, got {len(class_names)}; use "
                f"data=cifar{len(class_names)}."
            )
    else:
        train, test, class_names = _from_torchvision(root, num_classes, download)
    train, val = _split_off(train, val_images, len(class_names))
    dataset = ImageDataset(
        name=name or f"CIFAR-{num_classes}",
        train=replace(train, crop_padding=crop_padding),
        val=val,
        test=test,
        class_names=class_names,
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.247, 0.2435, 0.2616),
    )
    return fewer_training_images(dataset, train_images)


def _from_torchvision(root: str, num_classes: int, download: bool) -> tuple[Split, Split, tuple[str, ...]]:
    kind = {10: datasets.CIFAR10, 100: datasets.CIFAR100}.get(num_classes)
    if kind is None:
        raise UserError(f"data.num_classes: expected 10 or 100, got {num_classes}.")
    try:
        halves = [kind(root, train=train, download=download) for train in (True, False)]
    except URLError as error:
        raise UserError(
            f"CIFAR-{num_classes} could not be downloaded ({error.reason}); put its files into {root}."
        ) from error
    except RuntimeError as error:
        raise UserError(
            f"expected torchvision's CIFAR-{num_classes} files, or train/ and test/ with a folder for each class, in "
            f"{root}, found neither; set data.root, or data.download=true."
        ) from error
    train, test = (_as_split(half.data, np.array(half.targets)) for half in halves)
    return train, test, tuple(halves[0].classes)


def _from_folders(folder: Path) -> tuple[Split, tuple[str, ...]]:
    class_names = tuple(sorted(entry.name for entry in folder.iterdir() if entry.is_dir()))
    files = [(file, label) for label, name in enumerate(class_names) for file in sorted((folder / name).iterdir())]
    if len(class_names) < 2 or not files:
        raise UserError(f"expected a folder for each class with image files in {folder}, found {len(files)} files.")
    images = np.empty((len(files), _SIDE, _SIDE, 3), np.uint8)
    with ThreadPoolExecutor() as threads:  # Pillow decodes without holding Python's lock
        decoded = threads.map(_pixels, (file for file, _ in files))
        bar = tqdm(decoded, desc=f"Reading {folder.name}", total=len(files), unit="image", leave=False, disable=None)
        for at, pixels in enumerate(bar):
            images[at] = pixels
    return _as_split(images, np.array([label for _, label in files])), class_names


def _pixels(file: Path) -> NDArray[np.uint8]:
    try:
        with Image.open(file) as image:
            pixels = np.asarray(image.convert("RGB"))
    except (UnidentifiedImageError, OSError) as error:
        raise UserError(f"{file} cannot be read as an image ({error}); replace or remove it.") from error
    if pixels.shape != (_SIDE, _SIDE, 3):
        raise UserError(
            f"expected images of {_SIDE} x {_SIDE} px, got {pixels.shape[1]} x {pixels.shape[0]} in {file}."
        )
    return pixels


def _as_split(images: NDArray[np.uint8], targets: NDArray[np.int64]) -> Split:
    return Split(torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(targets.astype(np.int64)))


def _split_off(train: Split, val_images: int, num_classes: int) -> tuple[Split, Split]:
    """Cuts a stratified validation part off; the same one for every seed of a run, so that runs stay comparable."""
    order = torch.from_numpy(np.random.default_rng([0, 4]).permutation(len(train.targets)))
    shuffled = train.subset(order)
    per_class = val_images // num_classes
    smallest = int(torch.bincount(train.targets, minlength=num_classes).min())
    if val_images % num_classes or not 0 < per_class < smallest:
        raise UserError(
            f"data.val_images: expected a multiple of {num_classes} (the classes) from {num_classes} to "
            f"{(smallest - 1) * num_classes}, got {val_images}."
        )
    held_out = torch.zeros(len(train.targets), dtype=torch.bool)
    for label in range(num_classes):
        held_out[torch.nonzero(shuffled.targets == label).flatten()[:per_class]] = True
    rest, val = ~held_out, held_out
    return shuffled.subset(rest), shuffled.subset(val)
