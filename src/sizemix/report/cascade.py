"""A study of cascades as a table, files and a picture."""

import json
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Group
from rich.table import Table

from sizemix.evaluation.cascade import CascadeOutcome
from sizemix.evaluation.cascade_study import CascadeStudy, Contest
from sizemix.evaluation.cost import SizeCost
from sizemix.evaluation.pareto import pareto_front
from sizemix.evaluation.predictions import Predictions
from sizemix.runs.atomic import write_atomically
from sizemix.runs.folder import EvaluationFiles
from sizemix.runs.tables import write_csv

_SINGLE, _CASCADE = "#0b6e99", "#c8553d"
_HEADER = ("image_sizes", "thresholds", "shares", "val_top1", "val_gflops", "test_top1", "test_gflops",
           "test_latency_ms")  # fmt: skip


def cascade_table(study: CascadeStudy, *, title: str) -> Group:
    """One row a budget: the best single size for it, then the best cascade, on test images. 80 columns wide."""
    table = Table()
    for name in ("size", "top-1", "GFLOPs", "sizes", "below", "top-1", "GFLOPs", "points", "pays"):
        table.add_column(name, justify="right", no_wrap=name not in ("sizes", "below"))
    for one in study.contests:
        plan = one.test.plan
        table.add_row(
            *(f"{one.rival}", f"{one.rival_top1:.1%}", f"{one.rival_cost.gflops:.3g}"),
            *(_listed(plan.image_sizes, "d"), _listed(plan.thresholds, ".3f")),
            *(f"{one.test.top1:.1%}", f"{one.test.gflops:.3g}"),
            f"{one.difference.points:+.1f} ± {one.difference.half_width:.1f}",
            "yes" if one.pays else "no",
        )
    return Group(
        f"The best cascade for the GFLOPs of one size, on test images, {title}; the first size answers, and below its "
        "threshold the next",
        table,
    )


def write_cascades(
    study: CascadeStudy, files: EvaluationFiles, *, test: Predictions, costs: Sequence[SizeCost], title: str
) -> None:
    """Writes cascade.csv (the front of cascades), cascade.json (the chosen one, the verdict) and cascade.png."""
    write_csv(files.cascade_csv, _HEADER, [_row(*pair) for pair in zip(study.curve_val, study.curve, strict=True)])
    text = json.dumps(cascade_figures(study), indent=2) + "\n"
    write_atomically(files.cascade_json, lambda file: file.write(text.encode()))
    _draw(study, test, costs, files.cascade_png, title=title)


def cascade_figures(study: CascadeStudy) -> dict[str, Any]:
    """The chosen cascade and all contests in plain values."""
    return {**_figures(study.chosen), "contests": [_figures(one) for one in study.contests]}


def _figures(contest: Contest) -> dict[str, Any]:
    judged = contest.test
    return {
        "image_sizes": list(judged.plan.image_sizes),
        "thresholds": list(judged.plan.thresholds),
        "pays": contest.pays,
        "sentence": contest.sentence,
        "max_gflops": contest.max_gflops,
        "test": {
            "top1": judged.top1,
            "gflops": judged.gflops,
            "latency_ms": judged.latency_ms,
            "shares": list(judged.shares),
        },
        "against": {
            "image_size": contest.rival,
            "top1": contest.rival_top1,
            "gflops": contest.rival_cost.gflops,
            "latency_ms": contest.rival_cost.latency_ms,
            "difference_points": contest.difference.points,
            "half_width_points": contest.difference.half_width,
        },
    }


def _row(val: CascadeOutcome, test: CascadeOutcome) -> list[object]:
    sizes, thresholds, shares = (
        " ".join(f"{value:.6g}" for value in values)
        for values in (test.plan.image_sizes, test.plan.thresholds, test.shares)
    )
    return [sizes, thresholds, shares, val.top1, val.gflops, test.top1, test.gflops, test.latency_ms]


def _draw(study: CascadeStudy, test: Predictions, costs: Sequence[SizeCost], path: Path, *, title: str) -> None:
    """Test top-1 by mean GFLOPs and, where it was measured, by mean latency."""
    timed = all(cost.latency_ms for cost in costs)
    with mpl.rc_context({"font.size": 11, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(11 if timed else 6.5, 4.4), layout="constrained")
        axes = figure.subplots(1, 2 if timed else 1, sharey=True, squeeze=False)[0]
        figure.suptitle(textwrap.fill(title, 100 if timed else 60), fontsize=11)
        _draw_by(axes[0], study, test, costs, cost="gflops", label="mean GFLOPs of an image")
        if timed:
            _draw_by(axes[1], study, test, costs, cost="latency_ms", label="mean ms of an image")
        axes[0].set(ylabel="top-1 (%)")
        figure.legend(*axes[0].get_legend_handles_labels(), frameon=False, loc="outside lower center", ncols=3)
        write_atomically(path, lambda file: figure.savefig(file, format="png", dpi=150))


def _draw_by(
    axes: Axes, study: CascadeStudy, test: Predictions, costs: Sequence[SizeCost], *, cost: str, label: str
) -> None:
    by_size = {one.image_size: getattr(one, cost) for one in costs}
    x, y = [by_size[size] for size in test.image_sizes], (100 * test.correct.mean(1)).tolist()
    front = pareto_front(x, y)
    axes.plot(x, y, "o", color=_SINGLE, alpha=0.4)
    axes.plot([x[at] for at in front], [y[at] for at in front], "o-", color=_SINGLE, label="one size, Pareto front")
    for size, across, up in zip(test.image_sizes, x, y, strict=True):
        axes.annotate(f"{size}", (across, up), (0, 7), textcoords="offset points", ha="center", fontsize=9)
    curve = sorted(study.curve, key=lambda one: getattr(one, cost))
    axes.plot([getattr(one, cost) for one in curve], [100 * one.top1 for one in curve], "-", color=_CASCADE,
              label="cascades, chosen on validation images")  # fmt: skip
    chosen = study.chosen.test
    axes.plot(getattr(chosen, cost), 100 * chosen.top1, "*", color=_CASCADE, ms=13, label=f"{chosen.plan}")
    axes.set(xlabel=label)
    axes.grid(alpha=0.3)


def _listed(values: Sequence[float], form: str) -> str:
    return ", ".join(f"{value:{form}}" for value in values)
