"""Loaders whose items are whole micro-batches, and which begin where the trainer stands."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from sizemix.data.prefetch import prefetched
from sizemix.data.request import EvalRequest, Shard, TrainRequest, train_requests
from sizemix.sizes.plan import SizePlan


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
    """

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
        yield from prefetched(requests, self._fetch, num_threads=self._num_workers)


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
