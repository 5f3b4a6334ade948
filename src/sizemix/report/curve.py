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

from sizemix.evaluation.curve import ClassAccuracy, CurvePoint
from sizemix.runs.atomic import write_atomically

_WORST = 10  # classes in the terminal; per_class.csv has all
_TRAINING, _RECALIBRATED = "#8c8c8c", "#0b6e99"


def curve_table(points: Sequence[CurvePoint], *, title: str) -> Group:
    """Top-1 by size; the recalibrated column is left out for networks without batch norm.

    Where the test's classes differ in size, a column has the balanced accuracy (recalibrated where there is a choice).
    """
    table = Table()
    table.add_column("image size", justify="right")
    table.add_column("top-1", justify="right")
    recalibrates = points[0].top1_recalibrated is not None
    if recalibrates:
        table.add_column("top-1, recalibrated", justify="right")
    balanced = any(abs(point.balanced - point.top1) > 1e-6 for point in points)
    if balanced:
        table.add_column("balanced", justify="right")
    for point in points:
        figures = [point.top1, *([point.top1_recalibrated] if point.top1_recalibrated is not None else [])]
        if balanced:
            figures.append(point.balanced if point.balanced_recalibrated is None else point.balanced_recalibrated)
        table.add_row(f"{point.image_size} px", *(f"{figure:.2%}" for figure in figures))
    remark = [] if recalibrates else ["The network has no batch norm, so there is nothing to recalibrate."]
    return Group(title, table, *remark)


def write_curve_csv(points: Sequence[CurvePoint], path: Path) -> None:
    """One row a size with a CurvePoint's fields; the recalibrated ones are empty without batch norm."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(CurvePoint)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(point) for point in points)
    write_atomically(path, lambda file: file.write(text.getvalue().encode()))


def class_table(classes: Sequence[ClassAccuracy], class_names: Sequence[str], *, image_size: int) -> Group:
    """The classes that are recognised worst at a size."""
    own = sorted((one for one in classes if one.image_size == image_size), key=lambda one: one.top1)
    table = Table()
    table.add_column("class")
    table.add_column("images", justify="right")
    table.add_column("recognised", justify="right")
    for one in own[:_WORST]:
        table.add_row(class_names[one.class_number], f"{one.num_images}", f"{one.top1:.1%}")
    which = "Classes" if len(own) <= _WORST else f"The {_WORST} hardest of {len(own)} classes"
    return Group(f"{which} at {image_size} px", table)


def write_class_csv(classes: Sequence[ClassAccuracy], class_names: Sequence[str], path: Path) -> None:
    """One row a size and class: image_size, class, num_images, top1."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image_size", "class", "num_images", "top1"])
    writer.writerows((one.image_size, class_names[one.class_number], one.num_images, one.top1) for one in classes)
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
