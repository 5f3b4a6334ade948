"""A plan as a table, as CSV files and as a picture."""

import textwrap
from collections.abc import Iterator, Mapping
from datetime import timedelta
from itertools import groupby
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from rich import box
from rich.console import Group
from rich.table import Table

from sizemix.runs.atomic import write_atomically
from sizemix.runs.tables import write_csv
from sizemix.sizes.plan import SizePlan
from sizemix.sizes.spending import MeasuredStep, Spending, expected_seconds, forward_gflops, spending

_GIB = 2**30
_COLUMNS = ["image_size", "global_batch_size", "num_repeats", "steps", "images", "image_share", "step_share",
            "compute_share", "forward_gflops", "step_seconds", "peak_bytes"]  # fmt: skip


def plan_table(
    plan: SizePlan, *, costs_are_flops: bool = False, measured: Mapping[int, MeasuredStep] | None = None
) -> Group:
    """What the run spends at each size, and below it the figures of the whole.

    Args:
        plan: of the whole run.
        costs_are_flops: whether the plan's costs are training FLOPs; otherwise they are only compared.
        measured: steps by size, which add the expected time.
    """
    rows = _rows(plan, costs_are_flops=costs_are_flops, measured=measured)
    gap = 1 if measured is None else 0  # all columns fit into 80 characters
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 0, 0, gap))
    for heading in rows[0]:
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(*row.values())
    spent = spending(plan)
    skipped = [f"{row.image_size} px" for row in spent.sizes if not row.steps]
    remark = (
        [f"No step at {', '.join(skipped)}: the share of so few images does not fill half a step."] if skipped else []
    )
    return Group(
        f"Plan: {_epochs(plan)}, {plan.num_steps:,} steps, {plan.images_seen:,} images",
        table,
        *_course(plan),
        *_whole(plan, spent, costs_are_flops=costs_are_flops, measured=measured),
        *remark,
    )


def _epochs(plan: SizePlan) -> str:
    number = plan.num_epochs - 1 + plan.inputs.last_epoch
    return f"{number:.4g} epoch{'' if number == 1 else 's'}"


def _rows(
    plan: SizePlan, *, costs_are_flops: bool, measured: Mapping[int, MeasuredStep] | None
) -> list[dict[str, str]]:
    """A table's rows, text by heading."""
    rows = []
    for row in spending(plan).sizes:
        shape = plan.inputs.shapes[row.image_size]
        cells = {
            "size": f"{row.image_size} px",
            "batch": f"{shape.global_batch_size}",
            "copies": f"{shape.num_repeats}",
            "steps": f"{row.steps:,}",
            "steps /\nepoch": f"{row.steps / plan.num_epochs:,.1f}",
            "% of\nimages": f"{100 * row.image_share:.1f}",
            "% of\nsteps": f"{100 * row.step_share:.1f}",
            "% of\ncompute": f"{100 * row.compute_share:.1f}",
        }
        if costs_are_flops:
            cells["GFLOPs\n/ image"] = f"{forward_gflops(plan.inputs.cost[row.image_size]):.3g}"
        if measured is not None:
            step = measured[row.image_size]
            cells["ms /\nstep"] = f"{1000 * step.seconds:,.0f}"
            if step.peak_bytes is not None:
                cells["peak\nGiB"] = f"{step.peak_bytes / _GIB:.1f}"
        rows.append(cells)
    return rows


def _course(plan: SizePlan) -> list[str]:
    """Which size has most images in which epochs, where that changes."""
    largest = [
        max(
            plan.image_sizes,
            key=lambda size: plan.steps_at(size, epoch=epoch) * plan.inputs.shapes[size].global_batch_size,
        )
        for epoch in range(plan.num_epochs)
    ]
    if len(set(map(str, plan.inputs.shares))) == 1:
        return []
    stretches = []
    for size, epochs in groupby(range(plan.num_epochs), key=lambda epoch: largest[epoch]):
        first, *others = epochs
        stretches.append(f"{size} px in {first + 1}" + (f" to {others[-1] + 1}" if others else ""))
    shown = stretches if len(stretches) <= 12 else [*stretches[:6], "...", *stretches[-3:]]
    return [f"Most images by epoch: {', '.join(shown)}"]


def _whole(
    plan: SizePlan, spent: Spending, *, costs_are_flops: bool, measured: Mapping[int, MeasuredStep] | None
) -> list[str]:
    total = spent.relative_cost * plan.images_seen * plan.inputs.cost[plan.inputs.base_size]
    flops = f"{total:.3g} FLOPs in all, " if costs_are_flops else ""
    lines = [
        f"mean side {spent.mean_size:.1f} px, rms {spent.rms_size:.1f} px",
        f"compute: {flops}{spent.relative_cost:.2f} x the same images at {plan.inputs.base_size} px",
    ]
    if costs_are_flops:
        lines.append("GFLOPs: forward pass of an image, a multiply-add is two; training takes three times as many")
    if measured is not None:
        seconds = timedelta(seconds=round(expected_seconds(plan, measured)))
        lines.append(f"expected time: {seconds} for forward and backward passes; loading and validation come on top")
    return lines


def write_sizes_csv(
    plan: SizePlan, path: Path, *, costs_are_flops: bool, measured: Mapping[int, MeasuredStep] | None = None
) -> None:
    """One row a size, unrounded; figures that were not measured are empty."""
    write_csv(path, _COLUMNS, _cells(plan, costs_are_flops=costs_are_flops, measured=measured))


def _cells(
    plan: SizePlan, *, costs_are_flops: bool, measured: Mapping[int, MeasuredStep] | None
) -> Iterator[list[float | None]]:
    for row in spending(plan).sizes:
        shape, step = plan.inputs.shapes[row.image_size], None if measured is None else measured[row.image_size]
        gflops = forward_gflops(plan.inputs.cost[row.image_size]) if costs_are_flops else None
        yield [
            *(row.image_size, shape.global_batch_size, shape.num_repeats, row.steps, row.images),
            *(row.image_share, row.step_share, row.compute_share, gflops),
            *((None, None) if step is None else (step.seconds, step.peak_bytes)),
        ]


def write_plan_csv(plan: SizePlan, path: Path) -> None:
    """One row a step: step, epoch, image_size, global_batch_size, num_repeats, position."""
    columns = plan.columns()
    write_csv(path, list(columns), zip(*(column.tolist() for column in columns.values()), strict=True))


def draw_plan(plan: SizePlan, path: Path, *, title: str) -> None:
    """The picture of plan_figure as a PNG file."""
    figure = plan_figure(plan, title=title)
    write_atomically(path, lambda file: figure.savefig(file, format="png", dpi=150))


def plan_figure(plan: SizePlan, *, title: str) -> Figure:
    """Each size's share of the images, epoch by epoch, and the mean side."""
    sizes = plan.image_sizes
    images = np.array(
        [
            [plan.steps_at(size, epoch=epoch) * plan.inputs.shapes[size].global_batch_size for size in sizes]
            for epoch in range(plan.num_epochs)
        ],
        dtype=float,
    )  # (epochs, sizes)
    shares = images / images.sum(1, keepdims=True)
    edges = np.arange(plan.num_epochs + 1) + 0.5
    edges[-1] = edges[-2] + plan.inputs.last_epoch
    colours = mpl.colormaps["viridis"](np.linspace(0.9, 0.15, len(sizes)))
    with mpl.rc_context({"font.size": 11, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(7.5, 5.6), layout="constrained")
        above, below = figure.subplots(2, sharex=True, height_ratios=(2, 1))
        bottom = np.zeros(plan.num_epochs)
        for size, colour, share in zip(sizes, colours, 100 * shares.T, strict=True):
            above.stairs(bottom + share, edges, baseline=bottom, fill=True, color=colour, label=f"{size} px")
            bottom = bottom + share
        figure.suptitle(textwrap.fill(title, 80), fontsize=11)
        above.set(ylabel="share of images (%)", ylim=(0, 100), xlim=(edges[0], edges[-1]))
        handles, labels = above.get_legend_handles_labels()
        above.legend(handles[::-1], labels[::-1], frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
        mean = shares @ np.array(sizes)
        below.step(edges, [*mean, mean[-1]], where="post", color="#0b6e99", label="mean side")
        below.axhline(plan.inputs.base_size, color="#8c8c8c", linestyle="--", label="base size")
        highest = max(*mean, plan.inputs.base_size)
        below.set(xlabel="epoch", ylabel="pixels", ylim=(0, 1.15 * highest))
        below.xaxis.get_major_locator().set_params(integer=True)
        below.legend(frameon=False, loc="lower right", ncols=2)
        return figure
