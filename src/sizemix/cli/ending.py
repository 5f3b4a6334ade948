"""How a command ends that a mistake or Ctrl-C ends."""

import sys
from collections.abc import Callable

from sizemix.errors import UserError


def exit_code_of(command: Callable[[], int | None], *, interrupted: str = "interrupted.") -> int:
    """Carries a command out; a user's mistake is one sentence on stderr, as is a place that cannot be read or written.

    Args:
        command: returns its exit code; None is 0.
        interrupted: what Ctrl-C is answered with.
    """
    try:
        return command() or 0
    except UserError as error:
        print(f"sizemix: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.filename is None:
            raise
        print(
            f"sizemix: expected to read or write {error.filename}, got: {error.strerror}; choose another place.",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print(f"sizemix: {interrupted}", file=sys.stderr)
        return 130
