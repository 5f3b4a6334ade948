"""Classes of different sizes: weights for the loss, or a pass in which every class comes equally often."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sizemix.data.batches import Batch, BatchSource
from sizemix.data.request import EvalRequest, TrainRequest


def balanced_class_weights(targets: Tensor, num_classes: int) -> Tensor:
    """Weights (num_classes,) of the loss that let every class count alike; their mean over the images is 1.

    A class that no image shows has weight 0.
    """
    counts = torch.bincount(targets, minlength=num_classes)
    return torch.where(counts > 0, len(targets) / ((counts > 0).sum() * counts.clamp(min=1)), 0.0)


class Oversampled:
    """Training images of which the rarer classes come several times a pass, each time augmented anew.

    Args:
        source: the images.
        targets: (num_images,) their classes.
        seed: of the images that come once more than others of their class.

    Attributes:
        num_images: images of a pass, repetitions counted.
    """

    def __init__(self, source: BatchSource, targets: Tensor, *, seed: int) -> None:
        self._source = source
        self._rows, self._occurrences = _equally_many(targets.numpy(), seed)
        self.num_images = len(self._rows)

    def train(self, request: TrainRequest) -> Batch:
        """Augmented copies of the images that stand at these places of the pass."""
        return self._source.train(self._trained(request))

    def eval(self, request: EvalRequest) -> Batch:
        """The images that stand at these places, without augmentation."""
        return self._source.eval(self._evaluated(request))

    def at_sizes(self, requests: Sequence[TrainRequest | EvalRequest]) -> list[Batch]:
        """A batch for each request."""
        return self._source.at_sizes(
            [self._trained(one) if isinstance(one, TrainRequest) else self._evaluated(one) for one in requests]
        )

    def _trained(self, request: TrainRequest) -> TrainRequest:
        """Asks for images instead of places; a repetition counts as a pass of its own."""
        passes = request.passes * (int(self._occurrences.max()) + 1) + self._occurrences[request.indices]
        return replace(request, indices=self._rows[request.indices], passes=passes)

    def _evaluated(self, request: EvalRequest) -> EvalRequest:
        return replace(request, indices=self._rows[request.indices])


def oversampled_number(targets: Tensor) -> int:
    """Images of a pass that shows every class as often as the largest."""
    counts = torch.bincount(targets)
    return int(counts.max()) * int((counts > 0).sum())


def _equally_many(targets: NDArray[np.int64], seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Image and number of its occurrence at every place of a pass; each class as often as the largest."""
    largest = int(np.bincount(targets).max())
    order = np.random.default_rng([seed, 6]).permutation(len(targets))
    rows, occurrences = [], []
    for label in np.unique(targets):
        own = order[targets[order] == label]
        places = np.arange(largest)
        rows.append(own[places % len(own)])
        occurrences.append(places // len(own))
    return np.concatenate(rows), np.concatenate(occurrences)
