"""A plan as a table and as a CSV file."""

import csv
import io
from dataclasses import asdict
from pathlib import Path

from rich.console import Group
from rich.table import Table

from sizemix.runs.atomic import write_atomically
from sizemix.sizes.plan import SizePlan
from sizemix.sizes.spending import spending


def plan_table(plan: SizePlan) -> Group:
    """What the run spends at each size, and below it the figures of the whole."""
    spent = spending(plan)
    table = Table()
    for heading in ("size", "batch", "copies", "steps", "of images", "of steps", "of compute"):
        table.add_column(heading, justify="right")
    for row in spent.sizes:
        shape = plan.inputs.shapes[row.image_size]
        shares = (row.image_share, row.step_share, row.compute_share)
        table.add_row(
            f"{row.image_size} px",
            f"{shape.global_batch_size}",
            f"{shape.num_repeats}",
            f"{row.steps}",
            *(f"{share:.1%}" for share in shares),
        )
    skipped = [f"{row.image_size} px" for row in spent.sizes if not row.steps]
    remark = (
        [f"No step at {', '.join(skipped)}: the share of so few images does not fill half a step."] if skipped else []
    )
    return Group(
        f"Plan: {plan.num_epochs} epochs, {plan.num_steps} steps, {plan.images_seen} images",
        table,
        f"mean side {spent.mean_size:.1f} px, rms {spent.rms_size:.1f} px; "
        f"compute {spent.relative_cost:.2f} x the same images at {plan.inputs.base_size} px",
        *remark,
    )


def write_plan_csv(plan: SizePlan, path: Path) -> None:
    """One row a step: step, epoch, image_size, global_batch_size, num_repeats, position."""
    text = io.StringIO()
    rows = (asdict(spec) for epoch in range(plan.num_epochs) for spec in plan.epoch_specs(epoch))
    writer = csv.DictWriter(
        text, ["step", "epoch", "image_size", "global_batch_size", "num_repeats", "position"], lineterminator="\n"
    )
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, lambda file: file.write(text.getvalue().encode()))
