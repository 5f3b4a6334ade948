"""An evaluation as files, and as figures for loggers."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sizemix.errors import UserError
from sizemix.evaluation.advice import Advice
from sizemix.evaluation.evaluation import Evaluation
from sizemix.models.bank import BatchNormBank
from sizemix.report.curve import draw_curve, write_class_csv, write_cost_csv, write_curve_csv
from sizemix.runs.atomic import write_atomically
from sizemix.runs.folder import EvaluationFiles


def write_evaluation(
    evaluation: Evaluation,
    files: EvaluationFiles,
    *,
    class_names: Sequence[str],
    title: str,
    train_sizes: Sequence[int] = (),
    advice: Advice | None = None,
) -> None:
    """Writes all files; a bank that is there keeps the sizes that it has beyond, if it is the same network's.

    Args:
        evaluation: what came out.
        files: where it goes.
        class_names: of the data.
        title: stands above the picture.
        train_sizes: sides in pixels, marked in the picture.
        advice: what a user asked for; None: the advice without a wish.
    """
    points, costs = evaluation.points, evaluation.costs
    write_curve_csv(points, files.curve_csv)
    write_cost_csv(costs, files.cost_csv)
    write_class_csv(evaluation.classes, class_names, files.per_class_csv)
    evaluation.test.save(files.test_predictions)
    evaluation.val.save(files.val_predictions)
    write_bank(evaluation.bank, files)
    figures = json.dumps(evaluation_figures(evaluation, advice), indent=2) + "\n"
    write_atomically(files.curve_json, lambda file: file.write(figures.encode()))
    draw_curve(points, costs, files.curve_png, title=title, train_sizes=train_sizes)


def extend_bank(bank: BatchNormBank, files: EvaluationFiles) -> bool:
    """Adds sizes to the bank that a network is deployed with, or makes it anew where it is lost; returns whether.

    A bank of another calibration is left as it is.
    """
    there = _there(bank, files)
    if there is not None and not there.belongs_to(bank):
        return False
    write_bank(bank, files)
    return True


def write_bank(bank: BatchNormBank, files: EvaluationFiles) -> None:
    """Writes or extends the bank; nothing for a network without batch norms."""
    if bank.statistics:
        there = _there(bank, files)
        (bank if there is None else bank.with_more(there)).save(files.bank_file)


def _there(bank: BatchNormBank, files: EvaluationFiles) -> BatchNormBank | None:
    """What a folder has already; None: nothing, or nothing whole, or that of other weights."""
    try:
        there = BatchNormBank.load(files.bank_file)
    except UserError:
        return None
    return there if there.weights == bank.weights else None


def evaluation_figures(evaluation: Evaluation, advice: Advice | None = None) -> dict[str, Any]:
    """Curve, costs and advice in plain values, for curve.json and summary.json."""
    advice = advice or evaluation.advice()
    return {
        "curve": [point.row() for point in evaluation.points],
        "cost": [asdict(cost) for cost in evaluation.costs],
        "cost_measured_on": evaluation.device,
        "advice": {**asdict(advice), "sentence": advice.sentence},
        "calibration": asdict(evaluation.bank.calibration),
        "data_fingerprint": evaluation.test.image_digest,
    }


def curve_figures(evaluation: Evaluation) -> dict[str, float]:
    """One figure a size and kind, for loggers that know numbers alone."""
    figures = {f"test/top1@{point.image_size}": point.plain.top1 for point in evaluation.points}
    for point in evaluation.points:
        if point.recalibrated is not None:
            figures[f"test/top1_recalibrated@{point.image_size}"] = point.recalibrated.top1
    return figures
