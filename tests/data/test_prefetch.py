import gc
import subprocess
import sys
import threading
import time

import pytest
import torch

from sizemix.data.prefetch import prefetched


def loader_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("sizemix-data")]


@pytest.mark.parametrize("num_threads", [0, 1, 3])
def test_items_come_in_the_order_of_their_requests(num_threads):
    def slow_at_first(request):
        time.sleep(0.02 * (request % 3 == 0))
        return request * 10

    assert list(prefetched(range(12), slow_at_first, num_threads=num_threads)) == [at * 10 for at in range(12)]
    assert loader_threads() == []


def test_requests_are_drawn_a_few_ahead_and_in_the_callers_thread():
    drawn = []

    def requests():
        for number in range(100):
            drawn.append(threading.current_thread())
            yield number

    items = prefetched(requests(), str, num_threads=2)
    assert drawn == []
    next(items)
    assert len(drawn) == 5, "two for each thread, and one for that which was taken"
    next(items)
    assert len(drawn) == 6
    assert set(drawn) == {threading.current_thread()}
    items.close()


def test_several_threads_work_at_once():
    together = threading.Barrier(3)
    assert list(prefetched(range(3), lambda request: together.wait(timeout=20) >= 0, num_threads=3)) == [True] * 3


@pytest.mark.parametrize("num_threads", [0, 2])
def test_a_mistake_comes_out_where_its_item_is_asked_for(num_threads):
    items = prefetched([4, 2, 0, 1], lambda request: 8 // request, num_threads=num_threads)
    assert [next(items), next(items)] == [2, 4]
    with pytest.raises(ZeroDivisionError):
        next(items)
    assert loader_threads() == []


def test_no_thread_is_left_when_nobody_wants_the_rest():
    items = prefetched(range(100), str, num_threads=2)
    next(items)
    assert len(loader_threads()) == 2
    items.close()
    assert loader_threads() == []
    items = prefetched(range(100), str, num_threads=2)
    next(items)
    del items
    gc.collect()
    assert loader_threads() == []


def test_each_thread_computes_on_one_core_and_leaves_the_caller_its_own():
    torch.set_num_threads(2)
    try:
        assert set(prefetched(range(6), lambda request: torch.get_num_threads(), num_threads=2)) == {1}
        assert torch.get_num_threads() == 2
        later = []
        thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert later == [2]
    finally:
        torch.set_num_threads(1)


def test_a_program_that_ends_in_the_middle_ends_at_once():
    program = """
import time
from sizemix.data.prefetch import prefetched
items = prefetched(range(10_000), lambda request: time.sleep(0.05), num_threads=2)
next(items)
raise SystemExit(7)
"""
    start = time.monotonic()
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=60).returncode == 7
    assert time.monotonic() - start < 30
