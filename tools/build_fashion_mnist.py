"""Builds src/sizemix/data/fashion_mnist.npz from Debian's package dataset-fashion-mnist.

    apt-get install dataset-fashion-mnist
    python tools/build_fashion_mnist.py

Takes 900 training and 100 validation images of each class from the 60,000 training images, and 200 test images of
each class from the 10,000 test images, chosen by a fixed seed and kept in that shuffled order.
"""

import argparse
import gzip
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

CLASS_NAMES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")


def main() -> None:
    """Reads the four IDX files and writes one compressed file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--dest", type=Path, default=Path("src/sizemix/data/fashion_mnist.npz"))
    arguments = parser.parse_args()

    rng = np.random.default_rng(0)
    train_images, train_targets = read_idx_pair(arguments.source, "train")
    test_images, test_targets = read_idx_pair(arguments.source, "t10k")
    chosen = pick_balanced(train_targets, 1000, rng).reshape(10, 1000)
    splits = {
        "train": (train_images, train_targets, rng.permutation(chosen[:, :900].ravel())),
        "val": (train_images, train_targets, rng.permutation(chosen[:, 900:].ravel())),
        "test": (test_images, test_targets, rng.permutation(pick_balanced(test_targets, 200, rng))),
    }
    arrays: dict[str, NDArray[np.generic]] = {"class_names": np.array(CLASS_NAMES)}
    for name, (images, targets, indices) in splits.items():
        arrays[f"{name}_images"], arrays[f"{name}_targets"] = images[indices], targets[indices]
    np.savez_compressed(arguments.dest, **arrays)
    print(f"{arguments.dest}: {arguments.dest.stat().st_size / 1e6:.2f} MB")


def read_idx_pair(folder: Path, prefix: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Images (num_images, 28, 28) and labels (num_images,) of one half of the data set."""
    with gzip.open(folder / f"{prefix}-images-idx3-ubyte.gz") as file:
        images = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28)
    with gzip.open(folder / f"{prefix}-labels-idx1-ubyte.gz") as file:
        targets = np.frombuffer(file.read(), np.uint8, offset=8)
    return images, targets


def pick_balanced(targets: NDArray[np.uint8], per_class: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Indices of per_class images of each class, class after class."""
    return np.concatenate([rng.permutation(np.flatnonzero(targets == label))[:per_class] for label in range(10)])


if __name__ == "__main__":
    main()
