"""Loaders whose items are whole micro-batches, and which begin where the trainer stands."""

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from torch.utils.data import DataLoader, Dataset

from sizemix.data.request import EvalRequest, Shard, TrainRequest, train_requests
from sizemix.sizes.plan import SizePlan


class StepLoader:
    """This rank's items of the trainer's current epoch, from the trainer's current item on.

    A plain iterable around a DataLoader, because an ordinary loader does not survive a resume within an epoch: the
    trainer makes its iterator before it knows where it is. Here the generator asks for the place only when its first
    item is asked for. Each item is made from its request alone, so persistent workers never hold anything stale.

    Args:
        plan: the run's plan.
        shard: this process's part of every step.
        fetch: makes an item from its request; runs in the workers.
        place: the trainer's epoch and the first item to serve in it.
        num_workers: processes that run fetch; 0 runs it here.
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
        self._place = place
        self._requests = _Upcoming()
        self._items = _items(self._requests, fetch, num_workers, persistent=True)

    def __len__(self) -> int:
        """Items of the trainer's current epoch, those already served included."""
        epoch = min(self._place()[0], self._plan.num_epochs - 1)
        return self._plan.epoch_length(epoch) * self._shard.micro_batches

    def __iter__(self) -> Iterator[Any]:
        epoch, start_item = self._place()
        self._requests.upcoming = train_requests(self._plan, self._shard, epoch=epoch, start_item=start_item)
        yield from self._items


class RequestLoader:
    """Items for a list of requests; also a plain iterable, so that Lightning does not put its own sampler into it.

    Args:
        requests: one an item.
        fetch: makes an item from its request; runs in the workers.
        num_workers: processes that run fetch, started anew for every iteration; 0 runs it here.
    """

    def __init__(
        self,
        requests: Sequence[TrainRequest] | Sequence[EvalRequest],
        *,
        fetch: Callable[[Any], object],
        num_workers: int,
    ) -> None:
        self._requests = requests
        self._items = _items(requests, fetch, min(num_workers, len(requests)), persistent=False)

    def __len__(self) -> int:
        return len(self._requests)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._items)


class _Upcoming:
    """A sampler that serves whatever requests it was last given."""

    def __init__(self) -> None:
        self.upcoming: Iterable[TrainRequest] = ()

    def __iter__(self) -> Iterator[TrainRequest]:
        return iter(self.upcoming)


class _Fetching(Dataset[Any]):
    """A data set whose index is a request."""

    def __init__(self, fetch: Callable[[Any], object]) -> None:
        self._fetch = fetch

    def __getitem__(self, request: Any) -> Any:
        return self._fetch(request)


def _items(
    requests: Iterable[Any], fetch: Callable[[Any], object], num_workers: int, *, persistent: bool
) -> DataLoader[Any]:
    return DataLoader(
        _Fetching(fetch),
        sampler=requests,
        batch_size=None,
        num_workers=num_workers,
        persistent_workers=persistent and num_workers > 0,
        collate_fn=_as_it_is,
        worker_init_fn=_leave_signals_to_parent,
    )


def _as_it_is(item: Any) -> Any:
    return item


def _leave_signals_to_parent(worker: int) -> None:
    """Lets a worker outlive what is sent to all processes of a run, by Ctrl-C or Slurm: a step may still need it."""
    for number in (signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # not on macOS, where SIGTERM to a worker ends it and the run
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        threading.Thread(target=_heed_parent, daemon=True).start()


def _heed_parent() -> None:
    """Ends this process on SIGTERM from its parent: so does torch end a worker that hangs."""
    while signal.sigwaitinfo([signal.SIGTERM]).si_pid != os.getppid():
        pass
    os._exit(0)
