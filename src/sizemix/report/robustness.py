"""Steadiness under scale and shift as a table and a CSV file."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Group

from sizemix.evaluation.robustness import Robustness
from sizemix.evaluation.scores import CurvePoint
from sizemix.report.curve import table_of, write_rows


def robustness_table(found: Sequence[Robustness], points: Sequence[CurvePoint]) -> Group:
    """Top-1 by the apparent size of objects, and how many one-pixel shifts change nothing.

    Args:
        found: one an input size.
        points: the curve at the same sizes, for an object's own size.
    """
    own = [{**one.top1_by_scale, 1.0: point.best.top1} for one, point in zip(found, points, strict=True)]
    columns = {"input": [f"{one.image_size} px" for one in found]}
    for scale in sorted(own[0]):
        columns[f"x {scale:g}"] = [f"{top1[scale]:.2%}" for top1 in own]
    columns["shifts alike"] = [f"{one.shift_consistency:.2%}" for one in found]
    title = "Top-1 with objects of so many times their size; answers that a shift by a pixel leaves"
    return Group(title, table_of(columns))


def write_robustness_csv(found: Sequence[Robustness], path: Path) -> None:
    """One row an input size with Robustness.row()'s names."""
    write_rows(path, [one.row() for one in found])
