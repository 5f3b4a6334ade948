"""How a run that cannot go on is told: one sentence and an exit code, behind a traceback where somebody has to mend."""

import textwrap
import traceback

from pytorch_lightning.utilities.exceptions import MisconfigurationException

from sizemix.checkpointing.signals import Interrupted, StopSignals
from sizemix.errors import DiskFullError, UserError
from sizemix.training.lifeline import Lifeline, say

_ERROR, _USER_ERROR = 1, 2


class Ending:
    """Tells the first exception that ends this process, to the user and to the other ranks.

    Args:
        lifeline: to the other ranks.
        signals: of this process; they do nothing more once the end is told.

    Attributes:
        lifeline: the same.
        signals: the same.
        mistake: what was told, in a sentence, unless a signal ended the run; None: nothing yet.
    """

    def __init__(self, lifeline: Lifeline, signals: StopSignals) -> None:
        self.lifeline = lifeline
        self.signals = signals
        self.mistake: str | None = None
        self._code: int | None = None

    def tell(self, error: BaseException) -> int:
        """Returns the exit code; on rank 0 it also speaks, of other ranks rank 0 does."""
        self.signals.end()
        if self._code is not None:
            return self._code
        self._code, reason = _code_and_reason(error)
        self.mistake = None if isinstance(error, Interrupted) else reason
        if self._code == _ERROR and not isinstance(error, DiskFullError):
            traceback.print_exception(error)
        if isinstance(error, Interrupted) and error.on_all_ranks:
            self.lifeline.finish()
        else:
            self.lifeline.fail(reason.rstrip("."), self._code)
        if self.lifeline.rank == 0:
            say(_sentence(error, reason, self.lifeline))
        return self._code


def _code_and_reason(error: BaseException) -> tuple[int, str]:
    message = " ".join(str(error).split())
    if isinstance(error, Interrupted):
        return error.exit_code, "interrupted"
    if isinstance(error, DiskFullError):
        return _ERROR, message
    if isinstance(error, UserError | MisconfigurationException):
        return _USER_ERROR, message
    return _ERROR, f"{type(error).__name__}: {textwrap.shorten(message, 200).rstrip('.')}"


def _sentence(error: BaseException, reason: str, lifeline: Lifeline) -> str:
    if isinstance(error, Interrupted | DiskFullError):
        return f"\nsizemix: {reason.rstrip('.')}{lifeline.remedy}"
    if isinstance(error, UserError | MisconfigurationException):
        return f"sizemix: {reason}"
    who = "rank 0" if lifeline.world_size > 1 else "the run"
    return f"\nsizemix: {who} ended: {reason}{lifeline.remedy}"
