"""What an evaluation has left in a folder, read again: predictions of both splits, and costs."""

import json
from dataclasses import dataclass
from pathlib import Path

from sizemix.errors import UserError
from sizemix.evaluation.cost import SizeCost
from sizemix.evaluation.predictions import Predictions
from sizemix.runs.folder import EvaluationFiles, RunFolder


@dataclass(frozen=True)
class StoredEvaluation:
    """An evaluation on disk.

    Attributes:
        files: where it is.
        title: what tables and pictures call it.
        val: predictions of the validation images.
        test: and of the test images.
        costs: one a size.
    """

    files: EvaluationFiles
    title: str
    val: Predictions
    test: Predictions
    costs: tuple[SizeCost, ...]


def read_stored(path: str | Path) -> StoredEvaluation:
    """Reads the folder of a finished run, or one of `sizemix evaluate`.

    Raises:
        UserError: nothing of the kind there, or damaged files.
    """
    files, run = EvaluationFiles(path), RunFolder(path)
    if run.config_file.is_file():
        run.check_finished()
    if not files.curve_json.is_file():
        raise UserError(
            f"expected a finished run, or a folder that `sizemix evaluate` has written, got {path} without "
            f"{files.curve_json.name}; run `sizemix evaluate` first."
        )
    try:
        costs = tuple(SizeCost(**cost) for cost in json.loads(files.curve_json.read_text())["cost"])
    except (ValueError, LookupError, TypeError) as error:
        raise UserError(
            f"expected what `sizemix evaluate` writes, got {files.curve_json} ({type(error).__name__}: {error}); run "
            "it again."
        ) from error
    val, test = (Predictions.load(file) for file in (files.val_predictions, files.test_predictions))
    return StoredEvaluation(files, _title(Path(path)), val, test, costs)


def _title(path: Path) -> str:
    """The run's name and data; of another folder its own name."""
    try:
        summary = json.loads(RunFolder(path).summary_file.read_text())
        return f"{summary['name']} on {summary['data']}"
    except (OSError, ValueError, LookupError, TypeError):
        return path.name
