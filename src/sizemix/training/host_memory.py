"""Training on a CPU without giving memory back to the system at every step."""

import ctypes
import os
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt, in glibc's malloc.h
_LARGEST, _HALF_A_HEAP = 2**31 - 1, 2**25


def keep_freed_memory() -> None:
    """Lets this process keep what it frees, for the tensors of its next step.

    glibc returns every large tensor to the system when it is freed, and has its pages cleared anew when the next one is
    made; networks on a CPU wait for that (docs/results.md). The process then holds on to its peak. Thresholds in the
    environment (MALLOC_TRIM_THRESHOLD_, MALLOC_MMAP_THRESHOLD_) are left as they are; other C libraries too.
    """
    if sys.platform != "linux" or any(name.startswith("MALLOC_") for name in os.environ):
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        # Before 2.35 glibc takes half a heap at most, and after the other call none by itself.
        _ = libc.mallopt(_MMAP_THRESHOLD, _LARGEST) or libc.mallopt(_MMAP_THRESHOLD, _HALF_A_HEAP)
        libc.mallopt(_TRIM_THRESHOLD, _LARGEST)
