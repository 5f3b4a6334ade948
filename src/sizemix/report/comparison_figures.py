"""The pictures of a comparison: accuracy by size, its differences, the course of training, accuracy against cost."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sizemix.comparison.arms import Arm
from sizemix.comparison.comparing import Comparison
from sizemix.comparison.training import CoursePoint, course
from sizemix.evaluation.pareto import pareto_front

# Okabe and Ito's palette, which colour-blind readers tell apart; each colour comes with a marker of its own.
_BASELINE = "#5f5f5f"
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_MARKERS = ("o", "s", "D", "^", "v", "P", "X")
_SIZE = (5.6, 3.7)  # inches: small, so that text stays legible on a phone
_MUTED, _GRID = "#767676", "#e4e4e4"
_STYLE: Any = {  # matplotlib's own type is a list of all its parameters
    "font.size": 10,
    "font.family": "sans-serif",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": _MUTED,
    "axes.labelcolor": "#333333",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _GRID,
    "grid.linewidth": 0.8,
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
    "xtick.labelcolor": "#333333",
    "ytick.labelcolor": "#333333",
    "legend.frameon": False,
    "legend.fontsize": 9,
}


@dataclass(frozen=True)
class Picture:
    """A figure with what is said of it.

    Attributes:
        name: of its PNG file.
        title: above it.
        caption: below it; what the marks mean.
        figure: drawn.
    """

    name: str
    title: str
    caption: str
    figure: Figure


def pictures(comparison: Comparison) -> list[Picture]:
    """All pictures for which there is something to draw."""
    drawn = [
        _accuracy(comparison),
        _differences(comparison),
        _by_compute(comparison),
        _by_time(comparison),
        _by_cost(comparison),
    ]
    return [picture for picture in drawn if picture is not None]


def colours(comparison: Comparison) -> dict[str, str]:
    """The colour of each arm, by name; with more arms than colours they come again, with other markers."""
    others = {versus.arm.name: _COLOURS[place % len(_COLOURS)] for place, versus in enumerate(comparison.others)}
    return {comparison.baseline.name: _BASELINE, **others}


def accuracy_figure(comparison: Comparison) -> Figure:
    """Test accuracy by image size: means over seeds, and the range of the seeds as a band."""
    with _styled() as (figure, axes):
        for arm, style in _styles(comparison):
            sizes = arm.eval_sizes
            seeds = [[100 * top1 for top1 in arm.accuracies(size)] for size in sizes]
            faint = 0.16 if len(comparison.arms) < 4 else 0.08  # bands that lie over each other
            low, high = list(map(min, seeds)), list(map(max, seeds))
            axes.fill_between(sizes, low, high, color=style["color"], alpha=faint, lw=0)
            axes.plot(sizes, [100 * arm.mean(size) for size in sizes], label=arm.name, **style)
        _mark_base_size(axes, comparison)
        axes.set(xlabel="test image size (px)", ylabel="top-1 (%)", xticks=_sizes(comparison))
        _legend(figure, axes)
    return figure


def differences_figure(comparison: Comparison) -> Figure:
    """Accuracy less the baseline's, by image size, with intervals where there are any."""
    sizes = sorted({one.image_size for versus in comparison.others for one in versus.by_size})
    step = min((after - before for before, after in pairwise(sizes)), default=1)
    with _styled() as (figure, axes):
        axes.axhline(0, color=_BASELINE, lw=1.4, zorder=1)
        styles = dict(_by_name(comparison))
        for place, versus in enumerate(comparison.others):
            shift = (place - (len(comparison.others) - 1) / 2) * min(0.12, 0.6 / len(comparison.others)) * step
            for one in versus.by_size:
                known = one.test.low is not None and one.test.high is not None
                reach = [[100 * (one.test.mean - (one.test.low or 0))], [100 * ((one.test.high or 0) - one.test.mean)]]
                style = {**styles[versus.arm.name], "linestyle": "none"}
                if one.verdict == "unclear":
                    style["markerfacecolor"] = "white"
                axes.errorbar([one.image_size + shift], [100 * one.test.mean], yerr=reach if known else None,
                              elinewidth=1.6, capsize=3, **style)  # fmt: skip
            axes.plot([], [], label=versus.arm.name, **{**styles[versus.arm.name], "linestyle": "none"})
        _mark_base_size(axes, comparison)
        axes.set(xlabel="test image size (px)", ylabel=f"points against {_shortened(comparison.baseline.name)}",
                 xticks=sizes)  # fmt: skip
        _legend(figure, axes)
    return figure


def course_figure(comparison: Comparison, where: Callable[[CoursePoint], float | None], *, label: str) -> Figure | None:
    """Validation accuracy in the course of training; None where no run says when its validations were.

    Args:
        comparison: whose runs.
        where: what the horizontal axis counts.
        label: of that axis.
    """
    lines = {arm.name: _lines(arm, comparison, where) for arm in comparison.arms}
    if not any(lines.values()):
        return None
    with _styled() as (figure, axes):
        for arm, style in _styles(comparison):
            thin = {"color": style["color"], "linestyle": style["linestyle"], "alpha": 0.45, "lw": 1.1}
            for line in lines[arm.name]:
                axes.plot(*zip(*line, strict=True), **thin)
            average = _average(lines[arm.name])
            marked = {**style, "markevery": max(1, len(average) // 8)}
            axes.plot(*(zip(*average, strict=True) if average else ([], [])), label=arm.name, **marked)
        if comparison.target is not None:
            axes.axhline(100 * comparison.target, color=_BASELINE, lw=1, linestyle=(0, (4, 3)))
        top = max(top1 for some in lines.values() for line in some for _, top1 in line)
        bottom = min(top1 for some in lines.values() for line in some for _, top1 in line)
        size = comparison.baseline.runs[0].val_size
        latest = max(place for some in lines.values() for line in some for place, _ in line)
        axes.set(xlabel=label, ylabel=f"validation top-1 at {size} px (%)", xlim=(0, 1.04 * latest))
        axes.set_ylim(max(0.0, bottom - 0.05 * (top - bottom) - 0.5), top + 0.05 * (top - bottom) + 0.5)
        _legend(figure, axes)
    return figure


def cost_figure(comparison: Comparison) -> Figure | None:
    """Test accuracy against the inference compute of an image, with the Pareto front; None where no run knows it."""
    points = cost_points(comparison)
    if not points:
        return None
    with _styled() as (figure, axes):
        for arm, style in _styles(comparison):
            own = [point for point in points if point.arm == arm.name]
            axes.plot([point.gflops for point in own], [100 * point.accuracy for point in own],
                      label=arm.name, **{**style, "alpha": 0.85})  # fmt: skip
        best = cost_front(points)
        axes.step([point.gflops for point in best], [100 * point.accuracy for point in best], where="post",
                  color="black", lw=1, linestyle=(0, (1, 2)), label="Pareto front", zorder=1)  # fmt: skip
        for point in best:
            axes.annotate(f"{point.image_size}", (point.gflops, 100 * point.accuracy), xytext=(0, 7), ha="center",
                          textcoords="offset points", fontsize=8.5, color="#333333")  # fmt: skip
        axes.set(xscale="log", xlabel="GFLOPs of an image, forward pass", ylabel="top-1 (%)")
        axes.xaxis.set_major_locator(mpl.ticker.LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(mpl.ticker.FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(mpl.ticker.NullFormatter())
        axes.margins(y=0.14)
        _legend(figure, axes)
    return figure


@dataclass(frozen=True)
class CostPoint:
    """An arm at a test size: accuracy, a fraction of 1, and GFLOPs of an image's forward pass."""

    arm: str
    image_size: int
    gflops: float
    accuracy: float


def cost_points(comparison: Comparison) -> list[CostPoint]:
    """Every arm at every test size whose inference compute is known."""
    return [
        CostPoint(arm.name, size, arm.gflops[size], arm.mean(size))
        for arm in comparison.arms
        for size in arm.eval_sizes
        if size in arm.gflops
    ]


def cost_front(points: Sequence[CostPoint]) -> list[CostPoint]:
    """Those that no other beats in cost and in accuracy, by increasing cost."""
    places = pareto_front([point.gflops for point in points], [point.accuracy for point in points])
    return [points[place] for place in places]


def _accuracy(comparison: Comparison) -> Picture:
    caption = (
        "Means over seeds, with recalibrated batch-norm statistics where there are batch norms; the band is the range "
        "of the seeds. The dotted line is the base size."
    )
    return Picture("accuracy_by_size", "Accuracy by test size", caption, accuracy_figure(comparison))


def _differences(comparison: Comparison) -> Picture | None:
    if not any(versus.by_size for versus in comparison.others):
        return None
    caption = (
        "Seeds are paired; bars are 95 % intervals over seeds, none with fewer than three. Filled: better or worse "
        "after Holm's correction, on other test images too where that is known. Empty: may be chance."
    )
    title = f"Difference from {comparison.baseline.name}"
    return Picture("differences_by_size", title, caption, differences_figure(comparison))


def _by_compute(comparison: Comparison) -> Picture | None:
    unit = comparison.unit
    label = f"training compute ({unit.name})" if unit is not None else ""
    figure = course_figure(comparison, lambda point: point.compute, label=label) if unit is not None else None
    if figure is None:
        return None
    caption = (
        "Thin lines are seeds, bold ones their means. Compute is three times the forward pass of all augmented images "
        f"trained on.{_dashed(comparison)}"
    )
    return Picture("accuracy_by_compute", "Accuracy by training compute", caption, figure)


def _by_time(comparison: Comparison) -> Picture | None:
    figure = course_figure(
        comparison, lambda point: None if point.seconds is None else point.seconds / 60, label="training time (minutes)"
    )
    if figure is None:
        return None
    caption = (
        f"Time includes validation. Compare only runs that had the same machine to themselves.{_dashed(comparison)}"
    )
    return Picture("accuracy_by_time", "Accuracy by training time", caption, figure)


def _by_cost(comparison: Comparison) -> Picture | None:
    figure = cost_figure(comparison)
    if figure is None:
        return None
    caption = "Each point is a test size; those on the front carry it in pixels. No other point is as good for less."
    return Picture("accuracy_by_cost", "Accuracy by inference compute", caption, figure)


def _dashed(comparison: Comparison) -> str:
    return "" if comparison.target is None else f" Dashed: {comparison.baseline.name}'s final accuracy."


def _lines(
    arm: Arm, comparison: Comparison, where: Callable[[CoursePoint], float | None]
) -> list[list[tuple[float, float]]]:
    """Places and accuracies (%) of each run that has them, if it was validated at the baseline's size."""
    runs = [run for run in arm.runs if run.val_size == comparison.baseline.runs[0].val_size]
    lines = [
        [(place, 100 * point.top1) for point in course(run, comparison.unit) if (place := where(point)) is not None]
        for run in runs
    ]
    return [line for line in lines if line]


def _average(lines: Sequence[Sequence[tuple[float, float]]]) -> list[tuple[float, float]]:
    """The mean course, validation by validation, as far as all runs have come."""
    return [
        (sum(place for place, _ in points) / len(points), sum(top1 for _, top1 in points) / len(points))
        for points in zip(*lines, strict=False)
    ]


@contextmanager
def _styled() -> Iterator[tuple[Figure, Axes]]:
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=_SIZE, layout="constrained")
        yield figure, figure.subplots()


def _styles(comparison: Comparison) -> Iterator[tuple[Arm, dict[str, Any]]]:
    """The look of each arm's line; the baseline is drawn first, below the others."""
    of_arms = colours(comparison)
    for place, arm in enumerate(comparison.arms):
        again = (place - 1) // len(_COLOURS) if place else 0
        yield (
            arm,
            {
                "color": of_arms[arm.name],
                "marker": _MARKERS[place % len(_MARKERS)],
                "linestyle": ("-", "--", ":")[again % 3],
                "ms": 5.5,
                "lw": 2,
                "zorder": 3 + (place > 0),
            },
        )


def _by_name(comparison: Comparison) -> Iterator[tuple[str, Mapping[str, Any]]]:
    return ((arm.name, style) for arm, style in _styles(comparison))


def _sizes(comparison: Comparison) -> list[int]:
    return sorted({size for arm in comparison.arms for size in arm.eval_sizes})


def _mark_base_size(axes: Axes, comparison: Comparison) -> None:
    axes.axvline(comparison.base_size, color=_MUTED, lw=1, linestyle=":", zorder=1)


def _legend(figure: Figure, axes: Axes) -> None:
    """Above the axes, where it hides no point."""
    handles, labels = axes.get_legend_handles_labels()
    short = [_shortened(label) for label in labels]
    longest = max(map(len, short), default=0)
    columns = 3 if longest < 16 else 2 if longest < 30 else 1
    figure.legend(handles, short, loc="outside upper left", ncols=columns, columnspacing=1.4, handlelength=2)


def _shortened(name: str) -> str:
    return name if len(name) <= 56 else f"{name[:53]}..."
