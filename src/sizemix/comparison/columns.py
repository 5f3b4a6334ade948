"""The files of a run folder that hold columns: plan.csv, metrics.csv, predictions_test.npz.

Each may be missing, as in runs of an older version, or damaged: a remark says so, and the run is compared without it.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sizemix.comparison.records import SizeRow, Validation
from sizemix.errors import UserError
from sizemix.evaluation.predictions import Predictions

_PLAN_COLUMNS = "step,epoch,image_size,global_batch_size,num_repeats,position"
_ELAPSED = "throughput/elapsed_seconds"
_ROUNDING = 1e-4  # accuracies of a summary and of its predictions may differ by the rounding of a mean


@dataclass(frozen=True)
class PlanColumns:
    """Columns of plan.csv, (steps,) each."""

    image_size: NDArray[np.int64]
    global_batch_size: NDArray[np.int64]
    num_repeats: NDArray[np.int64]

    def shape_at(self, image_size: int) -> tuple[int, int] | None:
        """Source images and copies of each in a step at a size; None where there is no such step."""
        steps = np.flatnonzero(self.image_size == image_size)
        return (int(self.global_batch_size[steps[0]]), int(self.num_repeats[steps[0]])) if len(steps) else None

    def compute_before(self, sizes: Sequence[SizeRow], *, total: float) -> NDArray[np.float64]:
        """Compute before each step and behind the last, (steps + 1,).

        A size's part of the whole is spread over its steps by source images: its copies are the same at all of them.
        """
        of_steps = np.zeros(len(self.image_size))
        for row in sizes:
            images = np.where(self.image_size == row.image_size, self.global_batch_size, 0)
            of_steps += total * row.compute_share * images / max(1, images.sum())
        return np.concatenate([[0.0], np.cumsum(of_steps)])


def read_plan(file: Path, remarks: list[str]) -> PlanColumns | None:
    """The steps of a run; None and a remark where they cannot be read."""
    try:
        with file.open() as opened:
            if opened.readline().strip() != _PLAN_COLUMNS:
                raise ValueError("other columns")
            columns = np.loadtxt(opened, delimiter=",", dtype=np.int64, ndmin=2).T
        _, _, image_size, global_batch_size, num_repeats, _ = columns
    except (OSError, ValueError) as error:
        remarks.append(f"plan.csv is missing or damaged, so compute by step is not known ({_short(error)}).")
        return None
    return PlanColumns(image_size, global_batch_size, num_repeats)


def read_validations(file: Path, val_size: int, remarks: list[str]) -> tuple[Validation, ...]:
    """Validation accuracy by step; none and a remark where it cannot be read."""
    column = f"val/top1@{val_size}"
    try:
        rows = [row for row in read_rows(file) if row.get(column)]
        found = tuple(
            Validation(int(row["step"]) + 1, float(row[column]), float(row[_ELAPSED]) if row.get(_ELAPSED) else None)
            for row in rows
        )
    except (ValueError, TypeError, KeyError):
        found = ()
    if not found:
        remarks.append(f"metrics.csv has no {column}, so the course of training is not known.")
    return found


def read_rows(file: Path) -> list[dict[str, str]]:
    """The rows of metrics.csv; none where it cannot be read."""
    try:
        with file.open(newline="") as opened:
            return [row for row in csv.DictReader(opened) if row.get("step")]
    except (OSError, csv.Error, UnicodeDecodeError):
        return []


def read_predictions(file: Path, accuracy: Mapping[int, float], remarks: list[str]) -> Predictions | None:
    """What the run said of every test image; None and a remark where that is not what the summary was made of.

    Args:
        file: predictions_test.npz.
        accuracy: by image size, as in the summary.
        remarks: gets what is wrong.
    """
    if not file.exists():
        remarks.append("no predictions_test.npz, so intervals come from seeds alone.")
        return None
    try:
        predictions = Predictions.load(file)
    except UserError as error:
        remarks.append(f"predictions_test.npz is damaged, so intervals come from seeds alone: {error}")
        return None
    shares = dict(zip(predictions.image_sizes, predictions.correct.mean(1).tolist(), strict=True))
    if any(abs(shares.get(size, top1) - top1) > _ROUNDING for size, top1 in accuracy.items()):
        remarks.append("predictions_test.npz is of another evaluation, so intervals come from seeds alone.")
        return None
    return predictions


def _short(error: Exception) -> str:
    """The error's first line, without the path, which stands beside it."""
    told = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return (told.splitlines() or [type(error).__name__])[0].rstrip(".")
