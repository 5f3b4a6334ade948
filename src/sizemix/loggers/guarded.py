"""A logger besides metrics.csv as the run sees it: whatever it does, the run goes on."""

import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any, Protocol

from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers.logger import Logger

from sizemix.checkpointing.signals import Interrupted
from sizemix.errors import UserError
from sizemix.evaluation.evaluation import Evaluation
from sizemix.runs.folder import EvaluationFiles

IMAGES_SEEN = "images_seen"

_SOON_SECONDS = 15.0


class Service(Protocol):
    """What a kind of logger does beyond Lightning's interface."""

    def open(self) -> None:
        """Connects.

        Raises:
            UserError: it cannot, and the user can do something about it.
        """

    def show_plan(self, picture: Path) -> None:
        """Shows the picture of the plan, before anything trains."""

    def show_evaluation(self, evaluation: Evaluation, files: EvaluationFiles) -> None:
        """Shows accuracy and cost by image size, once the run is evaluated."""

    def close(self, exit_code: int) -> None:
        """Hands everything over; 0 means that the run is finished."""


class GuardedLogger(Logger):
    """Passes everything on to a logger until that fails once; says so, and goes on without it.

    A service that cannot be reached, or a full disk, must not cost the hours that a run has trained, and metrics.csv
    holds the same figures. Every row also says how many images were seen, which compares runs with other batches.

    Args:
        logger: the one.
        service: the same logger's further abilities.
        images_seen: source images that training has consumed behind a step.
    """

    def __init__(self, logger: Logger, service: Service, *, images_seen: Callable[[int], int]) -> None:
        super().__init__()
        self._logger = logger
        self._service = service
        self._images_seen = images_seen
        self._is_open = False
        self._has_failed = False

    @property
    def name(self) -> str | None:
        """The logger's own."""
        return self._logger.name

    @property
    def version(self) -> int | str | None:
        """The logger's own."""
        return self._logger.version

    @property
    def save_dir(self) -> str | None:
        """The logger's own."""
        return self._logger.save_dir

    def open(self, *, required: bool) -> None:
        """Connects now, so that a missing login is noticed before anything trains.

        Args:
            required: whether a run that cannot connect ends; one that has trained already goes on without it.

        Raises:
            UserError: the user can do something about it.
        """
        try:
            self._service.open()
        except UserError as error:
            if required:
                raise
            self._give_up(error)
        else:
            self._is_open = True

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Passes the configuration on."""
        self._attempt(lambda: self._logger.log_hyperparams(params, *args, **kwargs))

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Passes a row on."""
        row = dict(metrics)
        if step is not None:
            row[IMAGES_SEEN] = float(self._images_seen(step))
        self._attempt(lambda: self._logger.log_metrics(row, step=step))

    def log_graph(self, *args: Any, **kwargs: Any) -> None:
        """Passes the network on."""
        self._attempt(lambda: self._logger.log_graph(*args, **kwargs))

    def save(self) -> None:
        """Passes on that now is a moment to write."""
        self._attempt(self._logger.save)

    def after_save_checkpoint(self, checkpoint_callback: ModelCheckpoint) -> None:
        """Passes on that there is a checkpoint."""
        self._attempt(lambda: self._logger.after_save_checkpoint(checkpoint_callback))

    def finalize(self, status: str) -> None:
        """Passes on that training has ended."""
        self._attempt(lambda: self._logger.finalize(status))

    def show_plan(self, picture: Path) -> None:
        """Shows the picture of the plan."""
        self._attempt(lambda: self._service.show_plan(picture))

    def show_evaluation(self, evaluation: Evaluation, files: EvaluationFiles) -> None:
        """Shows accuracy and cost by image size."""
        self._attempt(lambda: self._service.show_evaluation(evaluation, files))

    def close(self, exit_code: int) -> None:
        """Hands everything over, also of a logger that has failed before, which may still hold what it had."""
        if not self._is_open:
            return
        self._is_open = False
        try:
            self._service.close(exit_code)
        except Exception as error:
            self._give_up(error)

    def _attempt(self, what: Callable[[], object]) -> None:
        if self._has_failed:
            return
        try:
            what()
        except Exception as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        if not self._has_failed:
            reason = " ".join(str(error).split()).rstrip(".") or "no reason given"
            print(
                f"sizemix: {type(self._logger).__name__} failed ({type(error).__name__}: {reason}); the run goes on "
                "without it, and its folder has every figure.",
                file=sys.stderr,
            )
        self._has_failed = True


@contextmanager
def opened(loggers: Sequence[GuardedLogger], *, required: bool) -> Iterator[None]:
    """Opens loggers, and closes them however what follows ends: with patience behind a finished run alone.

    Args:
        loggers: all of the run.
        required: whether the run ends where one cannot connect.

    Raises:
        UserError: one cannot connect.
    """
    try:
        for logger in loggers:
            logger.open(required=required)
        yield
    except BaseException as error:
        _close_soon(loggers, exit_code=error.exit_code if isinstance(error, Interrupted) else 1)
        raise
    close(loggers, exit_code=0)


def close(loggers: Sequence[GuardedLogger], *, exit_code: int) -> None:
    """Lets every logger hand over what it has."""
    for logger in loggers:
        logger.close(exit_code)


def _close_soon(loggers: Sequence[GuardedLogger], *, exit_code: int) -> None:
    """The same of a run that has been ended, which may be killed soon and must have put its Slurm job back by then."""
    closing = Thread(target=close, args=(loggers,), kwargs={"exit_code": exit_code}, daemon=True)
    closing.start()
    closing.join(_SOON_SECONDS)
