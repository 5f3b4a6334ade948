"""What happens when whoever reads a command's output has read enough, as `head` does."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def reader_may_leave() -> Iterator[None]:
    """Around a command: ends it quietly, as other programs end, once nobody reads its output any more."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what Python writes when it ends
        raise SystemExit(128 + signal.SIGPIPE) from None
