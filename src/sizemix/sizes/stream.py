"""The endless stream of passes that a run reads its images from."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ImageStream:
    """Seeded permutations of the training images, one after another without an end.

    A position counts source images from the start of the run. Position p lies in pass p // num_images, so every
    pass shows every image exactly once however the stream is cut into steps and epochs.
    """

    num_images: int
    seed: int

    def slice(self, start: int, stop: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The images at positions start to stop.

        Returns:
            indices: (stop - start,) which image.
            passes: (stop - start,) which pass shows it.
        """
        positions = np.arange(start, stop)
        passes, offsets = positions // self.num_images, positions % self.num_images
        indices = np.empty_like(positions)
        for number in np.unique(passes):
            here = passes == number
            indices[here] = _permutation(self.num_images, self.seed, int(number))[offsets[here]]
        return indices, passes


@lru_cache(maxsize=4)
def _permutation(num_images: int, seed: int, number: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, 0, number]).permutation(num_images)
