"""Loaders whose items are whole micro-batches, and which begin where the trainer stands."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from itertools import chain, islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sizemix.data.batches import Batch
from sizemix.data.prefetch import prefetched
from sizemix.data.request import EvalRequest, Shard, TrainRequest, train_requests
from sizemix.sizes.plan import SizePlan

_PIECE = 32  # images that a thread reads at several sizes: 36 MB at the seven from 128 to 320 px


class StepLoader:
    """This rank's items of the trainer's current epoch, from the trainer's current item on.

    A plain iterable, because an ordinary loader does not survive a resume within an epoch: the trainer makes its
    iterator before it knows where it is. Here the generator asks for the place only when its first item is asked for.

    Args:
        plan: the run's plan.
        shard: this process's part of every step.
        fetch: makes an item from its request.
        place: the trainer's epoch and the first item to serve in it.
        num_workers: threads that run fetch; 0 runs it here.

    Attributes:
        asked_at: when the newest item was asked for, by time.perf_counter().
        served_at: when it was there.
    """

    asked_at: float
    served_at: float

    def __init__(
        self,
        plan: SizePlan,
        shard: Shard,
        *,
        fetch: Callable[[TrainRequest], object],
        place: Callable[[], tuple[int, int]],
        num_workers: int,
    ) -> None:
        self._plan = plan
        self._shard = shard
        self._fetch = fetch
        self._place = place
        self._num_workers = num_workers

    def __len__(self) -> int:
        """Items of the trainer's current epoch, those already served included."""
        epoch = min(self._place()[0], self._plan.num_epochs - 1)
        return self._plan.epoch_length(epoch) * self._shard.micro_batches

    def __iter__(self) -> Iterator[Any]:
        epoch, start_item = self._place()
        requests = train_requests(self._plan, self._shard, epoch=epoch, start_item=start_item)
        with closing(prefetched(requests, self._fetch, num_threads=self._num_workers)) as items:
            asked_at = time.perf_counter()
            for item in items:
                self.asked_at, self.served_at = asked_at, time.perf_counter()
                yield item
                asked_at = time.perf_counter()


class RequestLoader:
    """Items for a list of requests; also a plain iterable, so that Lightning does not put its own sampler into it.

    Args:
        requests: one an item.
        fetch: makes an item from its request.
        num_workers: threads that run fetch; 0 runs it here.
    """

    def __init__(
        self,
        requests: Sequence[TrainRequest] | Sequence[EvalRequest],
        *,
        fetch: Callable[[Any], object],
        num_workers: int,
    ) -> None:
        self._requests = requests
        self._fetch = fetch
        self._num_workers = min(num_workers, len(requests))

    def __len__(self) -> int:
        return len(self._requests)

    def __iter__(self) -> Iterator[Any]:
        return prefetched(self._requests, self._fetch, num_threads=self._num_workers)


class SizesLoader:
    """Batches of the same images at several sizes, all sizes of one before those of the next; each image is read once.

    Threads read smaller pieces than batches, as a piece is held at all sizes.

    Args:
        batches: (batch,) images of each.
        image_sizes: sides in pixels.
        asked: from images and an image_size to a request.
        fetch: makes a batch for each of several requests of the same images.
        ready: what is done to a piece when it is taken.
        num_workers: threads that run fetch; 0 runs it here.

    Attributes:
        rows: (images,) all images, in the order in which they come.
    """

    def __init__(
        self,
        batches: Sequence[NDArray[np.int64]],
        image_sizes: Sequence[int],
        *,
        asked: Callable[[NDArray[np.int64], int], TrainRequest | EvalRequest],
        fetch: Callable[[Any], list[Batch]],
        ready: Callable[[Batch], Batch],
        num_workers: int,
    ) -> None:
        self.rows = np.concatenate(batches) if batches else np.empty(0, dtype=np.int64)
        self._batches = batches
        self._image_sizes = image_sizes
        self._asked = asked
        self._fetch = fetch
        self._ready = ready
        self._num_workers = num_workers

    def __len__(self) -> int:
        return len(self._batches) * len(self._image_sizes)

    def __iter__(self) -> Iterator[Batch]:
        pieces = [self._pieces(batch) for batch in self._batches]
        requests = ([self._asked(piece, size) for size in self._image_sizes] for piece in chain.from_iterable(pieces))
        read = prefetched(requests, self._fetch, num_threads=self._num_workers)
        for of_batch in pieces:
            for at_size in zip(*islice(read, len(of_batch)), strict=True):
                yield _joined([self._ready(piece) for piece in at_size])

    def _pieces(self, batch: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        length = _PIECE if self._num_workers else len(batch)
        return [batch[at : at + length] for at in range(0, len(batch), length)]


def _joined(batches: Sequence[Batch]) -> Batch:
    """One batch of several of the same size."""
    if len(batches) == 1:
        return batches[0]
    return Batch(
        torch.cat([batch.images for batch in batches]),
        torch.cat([batch.targets for batch in batches]),
        batches[0].image_size,
        unreadable=tuple(name for batch in batches for name in batch.unreadable),
    )
