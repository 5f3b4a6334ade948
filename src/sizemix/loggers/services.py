"""What each kind of logger is shown of a run; the one place that tells them apart."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pytorch_lightning.loggers import TensorBoardLogger, WandbLogger
from pytorch_lightning.loggers.logger import Logger

from sizemix.errors import UserError
from sizemix.evaluation.evaluation import Evaluation
from sizemix.loggers.guarded import IMAGES_SEEN, GuardedLogger, Service
from sizemix.runs.folder import EvaluationFiles

IMAGE_SIZE = "curve/image_size"
TOP1, TRAINING_STATISTICS, LOSS = "curve/top1", "curve/top1_training_statistics", "curve/loss"
PLAN_PICTURE, CURVE_PICTURE, TABLE = "plan/picture", "evaluation/picture", "evaluation/table"


def guarded(logger: Logger, *, images_seen: Callable[[int], int]) -> GuardedLogger:
    """A logger as a run uses it.

    Args:
        logger: any of Lightning's, or a user's own.
        images_seen: source images that training has consumed behind a step.
    """
    return GuardedLogger(logger, _service_of(logger), images_seen=images_seen)


def _service_of(logger: Logger) -> Service:
    if isinstance(logger, WandbLogger):
        return WeightsAndBiases(logger)
    return TensorBoard(logger) if isinstance(logger, TensorBoardLogger) else NumbersAlone(logger)


def curve_scalars(evaluation: Evaluation) -> list[dict[str, float]]:
    """One row a size, with the size as curve/image_size: the axis of the others."""
    return [
        {
            IMAGE_SIZE: point.image_size,
            TOP1: point.best.top1,
            LOSS: point.best.loss,
            **({} if point.recalibrated is None else {TRAINING_STATISTICS: point.plain.top1}),
        }
        for point in evaluation.points
    ]


class WeightsAndBiases:
    """The curve over an axis of its own, a table, pictures; the run is finished, so that a next one may begin.

    Args:
        logger: Lightning's.
    """

    def __init__(self, logger: WandbLogger) -> None:
        self._logger = logger

    def open(self) -> None:
        """Starts the run there, and says which figures have an axis of their own.

        Raises:
            UserError: no login, no network, or settings that W&B does not take.
        """
        import wandb  # half a second that only its users should wait

        try:
            run = self._logger.experiment
            run.define_metric(IMAGES_SEEN)
            run.define_metric(IMAGE_SIZE)
            for name in (TOP1, TRAINING_STATISTICS, LOSS):  # one by one: Lightning has claimed * already
                run.define_metric(name, step_metric=IMAGE_SIZE)
        except (wandb.Error, ValueError, TypeError, OSError) as error:
            reason, *_ = " ".join(str(error).split()).rstrip(".").split(". ")  # further sentences repeat the remedy
            raise UserError(f"logger: W&B says: {reason}; run `wandb login`, or set logger.mode=offline.") from error

    def show_plan(self, picture: Path) -> None:
        """As a picture."""
        self._show_picture(PLAN_PICTURE, picture)

    def show_evaluation(self, evaluation: Evaluation, files: EvaluationFiles) -> None:
        """A row a size, a table with costs, and the picture."""
        import wandb

        for scalars in curve_scalars(evaluation):
            self._logger.experiment.log(scalars)
        points = zip(evaluation.points, evaluation.costs, strict=True)
        rows: list[dict[str, Any]] = [{**point.row(), **asdict(cost)} for point, cost in points]
        table = wandb.Table(columns=list(rows[0]), data=[list(row.values()) for row in rows])
        self._logger.experiment.log({TABLE: table})
        self._show_picture(CURVE_PICTURE, files.curve_png)

    def close(self, exit_code: int) -> None:
        """Uploads what is left; without this, a next run in this process would write into the same."""
        self._logger.experiment.finish(exit_code=exit_code)

    def _show_picture(self, name: str, file: Path) -> None:
        import wandb

        self._logger.experiment.log({name: wandb.Image(str(file))})


class TensorBoard:
    """The curve as scalars whose step is the image size, and pictures.

    Args:
        logger: Lightning's.
    """

    def __init__(self, logger: TensorBoardLogger) -> None:
        self._logger = logger

    def open(self) -> None:
        """Nothing: files are made with the first figure."""

    def show_plan(self, picture: Path) -> None:
        """As a picture."""
        self._show_picture(PLAN_PICTURE, picture)

    def show_evaluation(self, evaluation: Evaluation, files: EvaluationFiles) -> None:
        """A scalar a size, and the picture."""
        for scalars in curve_scalars(evaluation):
            image_size = int(scalars.pop(IMAGE_SIZE))
            for name, value in scalars.items():
                self._logger.experiment.add_scalar(name, value, global_step=image_size)
        self._show_picture(CURVE_PICTURE, files.curve_png)

    def close(self, exit_code: int) -> None:
        """Writes what is left."""
        self._logger.finalize("success" if exit_code == 0 else "failed")

    def _show_picture(self, name: str, file: Path) -> None:
        with Image.open(file) as picture:
            pixels = np.asarray(picture.convert("RGB"))  # (height, width, 3), bytes
        self._logger.experiment.add_image(name, pixels, dataformats="HWC")


class NumbersAlone:
    """Any other logger: it has the figures that Lightning's interface carries.

    Args:
        logger: the one.
    """

    def __init__(self, logger: Logger) -> None:
        self._logger = logger

    def open(self) -> None:
        """Nothing that all loggers would know."""

    def show_plan(self, picture: Path) -> None:
        """Nothing: there are no pictures in Lightning's interface."""

    def show_evaluation(self, evaluation: Evaluation, files: EvaluationFiles) -> None:
        """Nothing beyond the figures by size, which every logger is given."""

    def close(self, exit_code: int) -> None:
        """Lets it write what is left."""
        self._logger.finalize("success" if exit_code == 0 else "failed")
