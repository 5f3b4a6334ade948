"""How a run that cannot go on is told: one sentence and an exit code, behind a traceback where somebody has to mend."""

import sys
import textwrap
import traceback

from pytorch_lightning.utilities.exceptions import MisconfigurationException, SIGTERMException

from sizemix.errors import UserError
from sizemix.training.lifeline import Lifeline

_ERROR, _USER_ERROR, _INTERRUPTED, _TERMINATED = 1, 2, 130, 143


class Ending:
    """Tells the first exception that ends this process, to the user and to the other ranks.

    Args:
        lifeline: to the other ranks.

    Attributes:
        lifeline: the same.
    """

    def __init__(self, lifeline: Lifeline) -> None:
        self.lifeline = lifeline
        self._code: int | None = None

    def tell(self, error: BaseException) -> int:
        """Returns the exit code; on rank 0 it also speaks, of other ranks rank 0 does."""
        if self._code is not None:
            return self._code
        self._code, reason = _code_and_reason(error)
        if self._code == _ERROR:
            traceback.print_exception(error)
        self.lifeline.fail(reason.rstrip("."), self._code)
        if self.lifeline.rank == 0:
            print(_sentence(self._code, reason, self.lifeline), file=sys.stderr)
        return self._code


def _code_and_reason(error: BaseException) -> tuple[int, str]:
    message = " ".join(str(error).split())
    if isinstance(error, UserError | MisconfigurationException):
        return _USER_ERROR, message
    if isinstance(error, KeyboardInterrupt | SystemExit):  # Lightning turns Ctrl-C and SIGTERM into kinds of SystemExit
        return _TERMINATED if isinstance(error, SIGTERMException) else _INTERRUPTED, "interrupted"
    return _ERROR, f"{type(error).__name__}: {textwrap.shorten(message, 200).rstrip('.')}"


def _sentence(code: int, reason: str, lifeline: Lifeline) -> str:
    if code == _USER_ERROR:
        return f"sizemix: {reason}"
    if code != _ERROR:
        return f"\nsizemix: {reason}{lifeline.remedy}"
    who = "rank 0" if lifeline.world_size > 1 else "the run"
    return f"\nsizemix: {who} ended: {reason}{lifeline.remedy}"
