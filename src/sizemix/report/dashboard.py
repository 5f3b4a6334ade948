"""A comparison as a report of Weights & Biases: its sentences and arms, and panels over the runs that stand there."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import wandb_workspaces.reports.v2 as wr
from wandb_workspaces import expr

from sizemix.comparison.comparing import Comparison
from sizemix.comparison.findings import findings, points
from sizemix.comparison.records import RunRecord
from sizemix.errors import UserError
from sizemix.loggers.guarded import IMAGES_SEEN
from sizemix.loggers.services import CURVE_PICTURE, IMAGE_SIZE, PLAN_PICTURE, TOP1

_LONGEST_TITLE = 128  # W&B's
_WIDTH, _HEIGHT = 12, 9  # of a panel; a row of the grid is 24 wide
_OPTIONS = "logger.additional."


@dataclass(frozen=True)
class SweepPlace:
    """Where Weights & Biases has the runs of a sweep.

    Attributes:
        entity: user or team; None: the one who is logged in.
        project: of the runs.
        group: of the runs.
    """

    entity: str | None
    project: str
    group: str


def place_of(comparison: Comparison, *, entity: str | None = None, project: str | None = None) -> SweepPlace:
    """Where the compared runs were logged to.

    Args:
        comparison: of runs of one sweep.
        entity: the user's choice; None: what the runs say.
        project: likewise.

    Raises:
        UserError: they were not logged there, or to several places.
    """
    logged = [run for run in _runs(comparison) if "WandbLogger" in str(run.config.get(f"{_OPTIONS}_target_"))]
    if not logged:
        raise UserError("expected runs that were logged to Weights & Biases, got none; train with logger=wandb.")
    group = _one(logged, "group", "runs of one sweep, which stand in one group; give the folder of one")
    if group is None:
        raise UserError(
            "expected runs of a sweep, which stand in one group, got runs in none; train them by one command with -m, "
            "or set logger.additional.group=NAME."
        )
    if "'" in group:
        raise UserError(f"expected a group without ', which W&B's library for reports cannot ask for, got {group}.")
    return SweepPlace(
        entity=entity or _one(logged, "entity", "runs of one entity; name it by --entity"),
        project=project or _one(logged, "project", "runs of one project; name it by --project") or "sizemix",
        group=group,
    )


def _one(runs: Sequence[RunRecord], option: str, expected: str) -> str | None:
    values = list(dict.fromkeys(run.config.get(_OPTIONS + option) for run in runs))
    if len(values) > 1:
        what, _, remedy = expected.partition("; ")
        raise UserError(f"expected {what}, got {', '.join(map(str, values))}; {remedy}.")
    return None if values[0] is None else str(values[0])


def remarks(comparison: Comparison) -> list[str]:
    """What to know before one reads the report."""
    runs = list(_runs(comparison))
    told = [*comparison.remarks, *(f"Left out, {one.state}: {one.path.name}." for one in comparison.set_aside)]
    offline = sum(run.config.get("logger.mode") == "offline" for run in runs)
    if offline:
        told.append(
            f"{offline} of {len(runs)} runs were logged offline; W&B shows them once `wandb sync` has sent them."
        )
    by_type: dict[str, list[str]] = {}
    for arm in comparison.arms:
        for job_type in {str(run.config.get(f"{_OPTIONS}job_type")) for run in arm.runs}:
            by_type.setdefault(job_type, []).append(arm.name)
    told += [
        f"The arms {' and '.join(arms)} share the job type {job_type}, so panels show them as one; other names "
        "(name=...) would tell them apart."
        for job_type, arms in by_type.items()
        if len(arms) > 1
    ]
    return told


def dashboard(comparison: Comparison, place: SweepPlace) -> wr.Report:
    """The report, which nobody has sent yet.

    Args:
        comparison: of the runs.
        place: where they stand.
    """
    known = {} if place.entity is None else {"entity": place.entity}
    report = wr.Report(
        project=place.project,
        title=f"Image sizes compared, {place.group.replace('/', ' ')}"[:_LONGEST_TITLE],  # a part of its address
        description=f"{comparison.baseline.runs[0].data}, {len(list(_runs(comparison)))} runs",
        width="fluid",
        **known,
    )
    report.blocks = [
        wr.H2(text="Findings"),
        wr.UnorderedList(items=[finding.text for finding in findings(comparison)]),
        wr.H2(text="Runs, grouped by arm"),
        _panels(comparison, place, entity=report.entity),
        wr.H2(text="Arms"),
        wr.MarkdownBlock(text=arms_table(comparison)),
        *_remark_blocks(comparison),
    ]
    return report


def _runs(comparison: Comparison) -> Iterable[RunRecord]:
    return (run for arm in comparison.arms for run in arm.runs)


def _panels(comparison: Comparison, place: SweepPlace, *, entity: str) -> wr.PanelGrid:
    runset = wr.Runset(
        entity=entity,
        project=place.project,
        name=place.group,
        filters=expr.And(expr.Metric("Group") == place.group),
        groupby=["JobType"],
    )
    validated = sorted({run.val_size for run in _runs(comparison)})
    plots = [
        wr.LinePlot(title="Test top-1 by image size", x=IMAGE_SIZE, y=[TOP1], title_x="test image size (px)"),
        wr.LinePlot(
            title="Validation top-1", x=IMAGES_SEEN, y=[f"val/top1@{size}" for size in validated], title_x="images seen"
        ),
        wr.LinePlot(title="Training loss", x=IMAGES_SEEN, y=["train/loss"], title_x="images seen"),
        wr.MediaBrowser(title="Curves and plans", media_keys=[CURVE_PICTURE, PLAN_PICTURE]),
    ]
    for place_in_grid, plot in enumerate(plots):
        row, column = divmod(place_in_grid, 2)
        plot.layout = wr.Layout(x=_WIDTH * column, y=_HEIGHT * row, w=_WIDTH, h=_HEIGHT)
    return wr.PanelGrid(runsets=[runset], panels=plots)


def arms_table(comparison: Comparison) -> str:
    """A row an arm, in Markdown."""
    whole, base = comparison.spent(comparison.baseline), comparison.base_size
    lines = [
        f"| arm | runs | test top-1 at {base} px (%) | training compute | training time |",
        "| --- | --- | --- | --- | --- |",
    ]
    for arm in comparison.arms:
        own = comparison.spent(arm)
        top1 = points(arm.mean(base)) if base in arm.eval_sizes else "not tested"
        compute = f"{own.compute / whole.compute:.2f} x" if own.compute and whole.compute else "not comparable"
        seconds = f"{own.seconds / whole.seconds:.2f} x" if whole.seconds else "not recorded"
        lines.append(f"| {arm.name.replace('|', '/')} | {len(arm.runs)} | {top1} | {compute} | {seconds} |")
    return "\n".join(lines)


def _remark_blocks(comparison: Comparison) -> list[wr.H2 | wr.UnorderedList]:
    told = remarks(comparison)
    return [wr.H2(text="To know"), wr.UnorderedList(items=told)] if told else []
