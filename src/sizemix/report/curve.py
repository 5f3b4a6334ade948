"""A curve as a table, a CSV file and a picture."""

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure
from rich.console import Group
from rich.table import Table

from sizemix.evaluation.curve import CurvePoint
from sizemix.runs.atomic import write_atomically

_TRAINING, _RECALIBRATED = "#8c8c8c", "#0b6e99"


def curve_table(points: Sequence[CurvePoint], *, title: str) -> Group:
    """Top-1 by size; the recalibrated column is left out for networks without batch norm."""
    table = Table()
    table.add_column("image size", justify="right")
    table.add_column("top-1", justify="right")
    recalibrates = points[0].top1_recalibrated is not None
    if recalibrates:
        table.add_column("top-1, recalibrated", justify="right")
    for point in points:
        figures = [point.top1, *([point.top1_recalibrated] if point.top1_recalibrated is not None else [])]
        table.add_row(f"{point.image_size} px", *(f"{figure:.2%}" for figure in figures))
    remark = [] if recalibrates else ["The network has no batch norm, so there is nothing to recalibrate."]
    return Group(title, table, *remark)


def write_curve_csv(points: Sequence[CurvePoint], path: Path) -> None:
    """One row a size: image_size, num_images, top1, top1_recalibrated (empty without batch norm)."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(CurvePoint)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(point) for point in points)
    write_atomically(path, lambda file: file.write(text.getvalue().encode()))


def draw_curve(points: Sequence[CurvePoint], path: Path, *, title: str, train_sizes: Sequence[int]) -> None:
    """Top-1 over image size, with the sizes of training marked on the axis."""
    with mpl.rc_context({"font.size": 11, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(7, 4.4), layout="constrained")
        axes = figure.subplots()
        sizes = [point.image_size for point in points]
        axes.plot(sizes, [100 * point.top1 for point in points], "o--", color=_TRAINING, label="training statistics")
        figures = [point.top1_recalibrated for point in points]
        if all(figure is not None for figure in figures):
            axes.plot(sizes, [100 * (top1 or 0) for top1 in figures], "o-", color=_RECALIBRATED, label="recalibrated")
        axes.plot(train_sizes, [0] * len(train_sizes), "^", color="black", ms=7, clip_on=False, label="trained at",
                  transform=axes.get_xaxis_transform())  # fmt: skip
        axes.set(title=title, xlabel="test image size (px)", ylabel="top-1 (%)", xticks=sizes)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
        write_atomically(path, lambda file: figure.savefig(file, format="png", dpi=150))
