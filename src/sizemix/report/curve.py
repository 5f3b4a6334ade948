"""A curve as tables, CSV files and a picture."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator
from rich.console import Group
from rich.table import Table

from sizemix.evaluation.cost import SizeCost
from sizemix.evaluation.pareto import pareto_front
from sizemix.evaluation.scores import ClassAccuracy, CurvePoint
from sizemix.runs.atomic import write_atomically
from sizemix.runs.tables import write_csv

_WORST = 10  # classes in the terminal; per_class.csv has all
_FEW = 10  # classes; of so few the five most probable say little
_TRAINING, _RECALIBRATED = "#8c8c8c", "#0b6e99"


def curve_table(
    points: Sequence[CurvePoint], costs: Sequence[SizeCost], *, title: str, num_classes: int, detailed: bool = False
) -> Group:
    """Accuracy and cost by size.

    Columns that would say nothing are left out: recalibrated figures of networks without batch norm, the balanced
    accuracy of classes of one size, top-5 of few classes, time that was not measured.

    Args:
        points: one a size.
        costs: likewise.
        title: stands above.
        num_classes: of the data.
        detailed: with loss and calibration error, and without costs, for which there is cost_table.
    """
    recalibrates = points[0].recalibrated is not None
    columns: dict[str, list[str]] = {"image size": [f"{point.image_size} px" for point in points]}
    columns["top-1"] = [f"{point.plain.top1:.2%}" for point in points]
    if recalibrates:
        columns["recalibrated"] = [f"{point.best.top1:.2%}" for point in points]
    columns["±"] = [f"{50 * (point.interval[1] - point.interval[0]):.1f}" for point in points]
    if num_classes > _FEW:
        columns["top-5"] = [f"{point.best.top5:.2%}" for point in points]
    if any(abs(point.best.balanced - point.best.top1) > 1e-6 for point in points):
        columns["balanced"] = [f"{point.best.balanced:.2%}" for point in points]
    if detailed:
        columns["loss"] = [f"{point.best.loss:.3f}" for point in points]
        columns["calibration error"] = [f"{point.best.calibration_error:.3f}" for point in points]
    else:
        columns |= _cost_columns(costs)
    remark = [] if recalibrates else ["The network has no batch norm, so there is nothing to recalibrate."]
    return Group(title, table_of(columns), *remark)


def cost_table(costs: Sequence[SizeCost], *, measured_on: str) -> Group:
    """All costs by size, with the spread of what was measured."""
    columns = {"image size": [f"{cost.image_size} px" for cost in costs], **_cost_columns(costs)}
    if all(cost.latency_low_ms is not None for cost in costs):
        columns["quartiles"] = [f"{cost.latency_low_ms:.3g} to {cost.latency_high_ms:.3g}" for cost in costs]
    if all(cost.images_per_second is not None for cost in costs):
        columns["images/s"] = [f"{cost.images_per_second:,.0f}" for cost in costs]
        columns["in batches of"] = [f"{cost.throughput_batch}" for cost in costs]
    return Group(f"Cost of an image's forward pass; time measured on {measured_on}", table_of(columns))


def _cost_columns(costs: Sequence[SizeCost]) -> dict[str, list[str]]:
    columns = {"GFLOPs": [f"{cost.gflops:.3g}" for cost in costs]}
    if all(cost.latency_ms is not None for cost in costs):
        columns["ms an image"] = [f"{cost.latency_ms:.3g}" for cost in costs]
    return columns


def table_of(columns: Mapping[str, Sequence[str]]) -> Table:
    """A table of columns by name."""
    table = Table()
    for name in columns:
        table.add_column(name, justify="right")
    for row in zip(*columns.values(), strict=True):
        table.add_row(*row)
    return table


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


def write_curve_csv(points: Sequence[CurvePoint], path: Path) -> None:
    """One row a size with CurvePoint.row()'s names; the recalibrated ones are empty without batch norm."""
    write_rows(path, [point.row() for point in points])


def write_cost_csv(costs: Sequence[SizeCost], path: Path) -> None:
    """One row a size with SizeCost's names."""
    write_rows(path, [asdict(cost) for cost in costs])


def write_class_csv(classes: Sequence[ClassAccuracy], class_names: Sequence[str], path: Path) -> None:
    """One row a size and class: image_size, class, num_images, top1."""
    write_rows(
        path,
        [
            {
                "image_size": one.image_size,
                "class": class_names[one.class_number],
                "num_images": one.num_images,
                "top1": one.top1,
            }
            for one in classes
        ],
    )


def write_rows(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """A CSV file of rows that all have the first one's names."""
    write_csv(path, list(rows[0]), (row.values() for row in rows))


def draw_curve(
    points: Sequence[CurvePoint],
    costs: Sequence[SizeCost],
    path: Path,
    *,
    title: str,
    train_sizes: Sequence[int] = (),
) -> None:
    """Accuracy by size, with the sizes of training on the axis, and by compute, with the Pareto front."""
    with mpl.rc_context({"font.size": 11, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(11, 4.4), layout="constrained")
        by_size, by_compute = figure.subplots(1, 2, sharey=True)
        figure.suptitle(textwrap.fill(title, 100), fontsize=11)
        _draw_by_size(by_size, points, train_sizes)
        _draw_by_compute(by_compute, points, costs)
        write_atomically(path, lambda file: figure.savefig(file, format="png", dpi=150))


def _draw_by_size(axes: Axes, points: Sequence[CurvePoint], train_sizes: Sequence[int]) -> None:
    sizes = [point.image_size for point in points]
    low, high = ([100 * point.interval[end] for point in points] for end in (0, 1))
    recalibrates = points[0].recalibrated is not None
    axes.fill_between(sizes, low, high, color=_RECALIBRATED, alpha=0.15, lw=0, label="95 % interval")
    if recalibrates:
        plain = [100 * point.plain.top1 for point in points]
        axes.plot(sizes, plain, "o--", color=_TRAINING, label="training statistics")
    best = [100 * point.best.top1 for point in points]
    axes.plot(sizes, best, "o-", color=_RECALIBRATED, label="recalibrated" if recalibrates else "top-1")
    if train_sizes:
        axes.plot(train_sizes, [0] * len(train_sizes), "^", color="black", ms=7, clip_on=False, label="trained at",
                  transform=axes.get_xaxis_transform())  # fmt: skip
    axes.set(xlabel="test image size (px)", ylabel="top-1 (%)", xticks=sizes)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)


def _draw_by_compute(axes: Axes, points: Sequence[CurvePoint], costs: Sequence[SizeCost]) -> None:
    gflops, top1 = [cost.gflops for cost in costs], [100 * point.best.top1 for point in points]
    front = pareto_front(gflops, top1)
    axes.plot(gflops, top1, "o", color=_TRAINING, label="each size")
    axes.plot([gflops[at] for at in front], [top1[at] for at in front], "o-", color=_RECALIBRATED, label="Pareto front")
    for x, y, point in zip(gflops, top1, points, strict=True):
        axes.annotate(f"{point.image_size}", (x, y), (0, 7), textcoords="offset points", ha="center", fontsize=9)
    axes.set(xlabel="GFLOPs of an image's forward pass", xscale="log")
    narrow = max(gflops) < 20 * min(gflops)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7) if narrow else (1, 3)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, loc="lower right")
