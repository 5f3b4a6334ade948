"""Items made ahead by a few threads, served in order.

Threads and not processes: what makes our items (libjpeg-turbo, Pillow, torch) lets other threads run meanwhile, and
nothing has to be pickled or copied through shared memory. docs/results.md has the comparison.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from threading import Barrier
from typing import TypeVar

import torch

_AHEAD = 2  # items that are begun for each thread before the first of them is taken

Request = TypeVar("Request")
Item = TypeVar("Item")


def prefetched(
    requests: Iterable[Request], fetch: Callable[[Request], Item], *, num_threads: int
) -> Generator[Item, None, None]:
    """The item of every request, in their order.

    Requests are drawn in the caller's thread. An exception of fetch comes out where its item is asked for. No thread is
    left when the iterator ends, fails or is closed.

    Args:
        requests: one an item.
        fetch: makes an item; several at once.
        num_threads: how many make items; 0: the caller's thread, when an item is asked for.
    """
    if not num_threads:
        yield from map(fetch, requests)
        return
    pool = _pool(num_threads)
    try:
        remaining = iter(requests)
        begun: deque[Future[Item]] = deque(
            pool.submit(fetch, request) for request in islice(remaining, _AHEAD * num_threads)
        )
        while begun:
            item = begun.popleft().result()
            begun.extend(pool.submit(fetch, request) for request in islice(remaining, 1))
            yield item
            del item  # or it would be kept while the next is waited for
    finally:
        pool.shutdown(cancel_futures=True)


def _pool(num_threads: int) -> ThreadPoolExecutor:
    """Threads each of which computes on one core, as they share the machine among themselves and with training."""
    started = Barrier(num_threads + 1)
    pool = ThreadPoolExecutor(num_threads, "sizemix-data", initializer=_compute_on_one_core, initargs=(started,))
    number = torch.get_num_threads()
    try:
        for _ in range(num_threads):
            pool.submit(int)  # starts a thread, as the others wait for each other
        started.wait()
    except BaseException:  # no more threads to be had, or a signal
        started.abort()
        pool.shutdown()
        raise
    torch.set_num_threads(number)
    return pool


def _compute_on_one_core(started: Barrier) -> None:
    """Of a new thread.

    torch keeps the number of OpenMP's threads for each thread that asks, but also the last that was set, as the default
    of threads to come, and MKL's for all. So the number is asked for first, which takes the default once and for all,
    and the caller sets its own again behind the barrier.
    """
    torch.get_num_threads()
    torch.set_num_threads(1)
    started.wait()
