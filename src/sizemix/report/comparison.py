"""A comparison as files: one page that needs nothing else, its pictures, a table and the findings for programs."""

import base64
import csv
import io
import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import jinja2
import matplotlib as mpl
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from sizemix.comparison.arms import Arm, option_table
from sizemix.comparison.comparing import Comparison, SizeDifference, Versus
from sizemix.comparison.findings import findings, p_text, points, sentence_at
from sizemix.comparison.records import RunRecord, SetAside
from sizemix.comparison.training import Reaching
from sizemix.report.comparison_figures import CostPoint, Picture, colours, cost_front, cost_points, pictures
from sizemix.runs.atomic import write_atomically

_TEMPLATE = "comparison.html"
_MINUS = re.compile(r"(?<![\w.])-(?=[\d.])")
_TOGETHER = re.compile(r"(?<=\d) (?=(?:%|px|x)(?:\W|$))|(?<=\bp) (?=[=<&])|(?<=p =) |(?<=p &lt;) ")
_FIGURES = ("top1_training_statistics", "balanced", "top5", "loss", "calibration_error")


def write_comparison(comparison: Comparison, folder: Path) -> None:
    """Writes comparison.html, comparison.csv, findings.json and a PNG of each picture."""
    drawn = pictures(comparison)
    _write(folder / "comparison.html", comparison_page(comparison, drawn))
    _write(folder / "comparison.csv", comparison_csv(comparison))
    _write(folder / "findings.json", json.dumps(findings_json(comparison), indent=2) + "\n")
    for picture in drawn:
        png = _rendered(picture.figure, "png", dpi=200)
        write_atomically(folder / f"{picture.name}.png", lambda file, png=png: file.write(png))  # type: ignore[misc]


def comparison_page(comparison: Comparison, drawn: Sequence[Picture]) -> str:
    """The page as HTML, with its pictures inside."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["typeset"] = _typeset
    return environment.get_template(_TEMPLATE).render(_content(comparison, drawn))


def comparison_csv(comparison: Comparison) -> str:
    """One row an arm and test size, unrounded fractions of 1; cells are empty where a figure is not known."""
    text = io.StringIO()
    columns = ["arm", "baseline", "image_size", "num_runs", "top1", "top1_std", "top1_min", "top1_max", *_FIGURES]
    columns += ["gflops", "paired_seeds", "difference", "low", "high", "lower_bound", "p_value", "holm_p_value"]
    columns += ["image_low", "image_high", "image_lower_bound", "verdict"]
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    against: dict[str, Versus | None] = {comparison.baseline.name: None}
    against |= {versus.arm.name: versus for versus in comparison.others}
    for arm in comparison.arms:
        versus = against[arm.name]
        for size in arm.eval_sizes:
            one = None if versus is None else versus.at(size)
            writer.writerow(_row(arm, size) | {"baseline": int(versus is None)} | ({} if one is None else _tested(one)))
    return text.getvalue()


def findings_json(comparison: Comparison) -> dict[str, Any]:
    """The sentences and what they are about, as JSON-ready values."""
    return {
        "baseline": comparison.baseline.name,
        "margin": comparison.margin,
        "arms": [
            {"name": arm.name, "runs": [{"path": str(run.path), "seed": run.seed} for run in arm.runs]}
            for arm in comparison.arms
        ],
        "findings": [asdict(finding) for finding in findings(comparison)],
        "by_size": [
            {"arm": versus.arm.name, "image_size": one.image_size, "verdict": one.verdict,
             "text": sentence_at(versus, one)}
            for versus in comparison.others
            for one in versus.by_size
        ],
        "set_aside": [asdict(one) | {"path": str(one.path)} for one in comparison.set_aside],
        "remarks": list(comparison.remarks),
    }  # fmt: skip


def _row(arm: Arm, image_size: int) -> dict[str, Any]:
    accuracies = arm.accuracies(image_size)
    further = {
        name: mean(run.figures[image_size][name] for run in arm.runs)
        for name in _FIGURES
        if all(name in run.figures[image_size] for run in arm.runs)
    }
    return {
        "arm": arm.name,
        "image_size": image_size,
        "num_runs": len(accuracies),
        "top1": mean(accuracies),
        "top1_std": stdev(accuracies) if len(accuracies) > 1 else None,
        "top1_min": min(accuracies),
        "top1_max": max(accuracies),
        "gflops": arm.gflops.get(image_size),
        **further,
    }


def _tested(one: SizeDifference) -> dict[str, Any]:
    test, over_images = one.test, one.over_images
    return {
        "paired_seeds": test.num_pairs,
        "difference": test.mean,
        "low": test.low,
        "high": test.high,
        "lower_bound": test.lower_bound,
        "p_value": test.p_value,
        "holm_p_value": one.adjusted_p,
        **{f"image_{name}": end for name, end in ({} if over_images is None else over_images._asdict()).items()},
        "verdict": one.verdict,
    }


def _content(comparison: Comparison, drawn: Sequence[Picture]) -> dict[str, Any]:
    """What the template shows, as text."""
    told, runs = findings(comparison), _runs(comparison)
    others = [versus.arm.name for versus in comparison.others]
    return {
        "title": f"{_joined(others) if len(others) < 3 else f'{len(others)} arms'} against {comparison.baseline.name}",
        "facts": _facts(comparison),
        "findings": [
            (versus.arm.name, [finding for finding in told if finding.arm == versus.arm.name])
            for versus in comparison.others
        ],
        "several": len(comparison.others) > 1,
        "glance": _glance(comparison),
        "baseline": comparison.baseline.name,
        "margin": points(comparison.margin),
        "colours": colours(comparison),
        "set_aside": _grouped(comparison.set_aside),
        "remarks": comparison.remarks,
        "pictures": {picture.name: _shown(picture) for picture in drawn},
        "arms": [arm.name for arm in comparison.arms],
        "accuracy": _accuracy_rows(comparison),
        "differences": [(one.arm.name, list(map(_difference_row, one.by_size))) for one in comparison.others],
        "spent": [_spent_row(arm, comparison) for arm in comparison.arms],
        "target": None if comparison.target is None else f"{points(comparison.target)} %",
        "unit": None if comparison.unit is None else comparison.unit.name,
        "time_recorded": any(validation.seconds is not None for run in runs for validation in run.validations),
        "front": [_front_row(point) for point in cost_front(cost_points(comparison))],
        "plans": [_plan(arm) for arm in comparison.arms],
        "options": option_table(comparison.arms),
        "runs": [(arm.name, run, _duration(run.training_seconds)) for arm in comparison.arms for run in arm.runs],
    }


def _runs(comparison: Comparison) -> list[RunRecord]:
    return [run for arm in comparison.arms for run in arm.runs]


def _facts(comparison: Comparison) -> list[tuple[str, str]]:
    runs = _runs(comparison)
    networks = {str(run.config.get("model.name") or run.config.get("model._target_")) for run in runs}
    devices = {run.environment.get("device", "not recorded") for run in runs}
    return [
        ("Data", _joined(sorted({run.data for run in runs}))),
        ("Network", _joined(sorted(networks))),
        ("Runs", f"{len(runs)} in {len(comparison.arms)} arms"),
        ("Baseline", comparison.baseline.name),
        ("Base size", f"{comparison.base_size} px"),
        ("Matched in", _joined(sorted({str(run.config.get("match", "not recorded")) for run in runs}))),
        ("Device", _joined(sorted(devices))),
    ]


def _grouped(set_aside: Sequence[SetAside]) -> list[tuple[tuple[str, str], list[Path]]]:
    """Folders with the same state and reason together."""
    groups: dict[tuple[str, str], list[Path]] = {}
    for one in set_aside:
        groups.setdefault((one.state, one.reason), []).append(one.path)
    return list(groups.items())


def _shown(picture: Picture) -> dict[str, str]:
    svg = _rendered(picture.figure, "svg", metadata={"Date": None})
    return {
        "title": picture.title,
        "caption": picture.caption,
        "source": f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}",
    }


def _rendered(figure: Figure, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "sizemix"}):  # names inside the picture are otherwise drawn anew each time
        figure.savefig(file, format=kind, **options)
    return file.getvalue()


def _accuracy_rows(comparison: Comparison) -> list[tuple[str, list[str]]]:
    sizes = sorted({size for arm in comparison.arms for size in arm.eval_sizes})
    return [(f"{size} px", [_accuracy_cell(arm, size) for arm in comparison.arms]) for size in sizes]


def _accuracy_cell(arm: Arm, image_size: int) -> str:
    if image_size not in arm.eval_sizes:
        return ""
    accuracies = arm.accuracies(image_size)
    spread = f" ± {points(stdev(accuracies))}" if len(accuracies) > 1 else ""
    return f"{points(mean(accuracies))}{spread}"


def _glance(comparison: Comparison) -> dict[str, Any]:
    """Differences and verdicts of all arms at all sizes."""
    sizes = sorted({one.image_size for versus in comparison.others for one in versus.by_size})
    cells = [(versus, [versus.at(size) for size in sizes]) for versus in comparison.others]
    return {
        "sizes": sizes,
        "rows": [
            (versus.arm.name, [None if one is None else (_signed(one.test.mean), one.verdict) for one in row])
            for versus, row in cells
        ],
    }


def _signed(fraction: float) -> str:
    return f"{'+' if float(points(fraction)) > 0 else ''}{points(fraction)}"


def _difference_row(one: SizeDifference) -> dict[str, str]:
    test = one.test
    return {
        "size": f"{one.image_size} px",
        "difference": _signed(test.mean),
        "interval": _interval(test.low, test.high),
        "images": "" if one.over_images is None else _interval(one.over_images.low, one.over_images.high),
        "p": "" if one.adjusted_p is None else p_text(one.adjusted_p).removeprefix("p ").removeprefix("= "),
        "bound": "" if one.lower_bound is None else points(one.lower_bound),
        "verdict": one.verdict,
    }


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{points(low)} to {points(high)}"


def _spent_row(arm: Arm, comparison: Comparison) -> dict[str, str]:
    own, whole = comparison.spent(arm), comparison.spent(comparison.baseline)
    versus = next((one for one in comparison.others if one.arm is arm), None)
    ratios = versus is not None
    return {
        "arm": arm.name,
        "runs": f"{len(arm.runs)}",
        "steps": _with_ratio(_amount(own.steps), own.steps, whole.steps, shown=ratios),
        "images": _with_ratio(_amount(own.images_seen), own.images_seen, whole.images_seen, shown=ratios),
        "compute": _with_ratio(_amount(own.compute), own.compute, whole.compute, shown=ratios),
        "seconds": _with_ratio(_duration(own.seconds), own.seconds, whole.seconds, shown=ratios),
        **_reached_cells(comparison.own_reaching if versus is None else versus.reaching),
    }


def _with_ratio(amount: str, own: float | None, whole: float | None, *, shown: bool) -> str:
    return f"{amount} ({own / whole:.2f} x)" if shown and own is not None and whole else amount


def _amount(number: float | None) -> str:
    if number is None:
        return ""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def _reached_cells(reached: Reaching | None) -> dict[str, str]:
    if reached is None:
        return {"reached": "not known", "reached_compute": "", "reached_seconds": ""}
    compute = [ratio for ratio in reached.compute if ratio is not None]
    seconds = [ratio for ratio in reached.seconds if ratio is not None]
    return {
        "reached": f"{len(reached.compute)} of {reached.num_runs} runs",
        "reached_compute": f"{mean(compute):.2f} x" if compute else "",
        "reached_seconds": f"{mean(seconds):.2f} x" if seconds else "",
    }


def _front_row(point: CostPoint) -> dict[str, str]:
    return {
        "arm": point.arm,
        "size": f"{point.image_size} px",
        "gflops": f"{point.gflops:.3g}",
        "top1": points(point.accuracy),
    }


def _plan(arm: Arm) -> dict[str, Any]:
    run = arm.runs[0]
    rows = [
        {
            "size": f"{row.image_size} px",
            "images": f"{100 * row.image_share:.1f}",
            "batch": "" if row.global_batch_size is None else f"{row.global_batch_size} x {row.num_repeats}",
            "steps": f"{row.steps:,}",
            "compute": f"{100 * row.compute_share:.1f}",
        }
        for row in run.sizes
    ]
    return {"arm": arm.name, "rows": rows, "cost": f"{run.relative_cost:.2f}", "seed": run.seed}


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _joined(names: Sequence[str]) -> str:
    if len(names) > 4:
        return f"{', '.join(names[:3])} and {len(names) - 3} more"
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def _typeset(text: object) -> Markup:
    """A hyphen before a number as the sign it stands for, and numbers on one line with their units."""
    return Markup(_TOGETHER.sub("&nbsp;", _MINUS.sub("&minus;", str(escape(text)))))


def _write(path: Path, text: str) -> None:
    write_atomically(path, lambda file: file.write(text.encode()))
