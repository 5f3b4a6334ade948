"""A run folder as a record of what a comparison needs, or the reason why there is none.

Whatever is wrong with a folder becomes a sentence: a comparison of thirty runs does not fail by one.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from sizemix.comparison.columns import PlanColumns, read_plan, read_predictions, read_rows, read_validations
from sizemix.comparison.records import RunRecord, SetAside, SizeRow
from sizemix.runs.folder import RunFolder


class _DamagedError(Exception):
    """A file that is not as a run writes it; the message says which and how."""


def read_run(path: Path) -> RunRecord | SetAside:
    """Reads a run folder."""
    folder = RunFolder(path)
    if folder.failure_file.is_file() and not folder.finished:
        told = folder.failure_file.read_text(errors="replace").strip().rstrip(".")
        return SetAside(path, "failed", f"{told}.")
    if not folder.finished:
        return SetAside(path, "unfinished", _how_far(folder))
    try:
        return _record(folder)
    except _DamagedError as error:
        return SetAside(path, "damaged", f"{error}.")


def flat(values: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Options by full name, as recipe.optimizer.lr; lists are values."""
    if isinstance(values, Mapping) and (values or not name):
        for key, value in values.items():
            yield from flat(value, f"{name}.{key}" if name else str(key))
    else:
        yield name, values


def _how_far(folder: RunFolder) -> str:
    logged = [row["step"] for row in read_rows(folder.metrics_csv) if row["step"].isdecimal()]
    steps = f"{int(logged[-1]) + 1} steps are logged" if logged else "no step is logged"
    return f"no summary.json: {steps}; it is still running, or resume={folder.path} finishes it."


def _record(folder: RunFolder) -> RunRecord:
    config = _config(folder)
    summary = _summary(folder)
    remarks: list[str] = []
    try:
        plan = read_plan(folder.plan_csv, remarks)
        record = _from_summary(folder.path, config, summary, plan)
        validations = read_validations(folder.metrics_csv, record.val_size, remarks)
        predictions = read_predictions(folder.evaluation.test_predictions, record.accuracy, remarks)
        return RunRecord(**vars(record) | {"validations": validations, "predictions": predictions,
                                           "remarks": tuple(remarks)})  # fmt: skip
    except KeyError as error:
        raise _DamagedError(f"summary.json or config.yaml has no {error.args[0]}") from error
    except (TypeError, ValueError, AttributeError, IndexError, ZeroDivisionError) as error:
        raise _DamagedError(f"summary.json does not hold what a run writes ({error})") from error


def _config(folder: RunFolder) -> dict[str, Any]:
    try:
        return dict(flat(OmegaConf.to_container(folder.config(), resolve=True)))
    except (YAMLError, OmegaConfBaseException, OSError, UnicodeDecodeError, AssertionError) as error:
        reason = " ".join(str(error).split()) or "no options in it"
        raise _DamagedError(f"config.yaml cannot be read ({reason})") from error


def _summary(folder: RunFolder) -> dict[str, Any]:
    try:
        summary = json.loads(folder.summary_file.read_text())
    except (OSError, ValueError) as error:
        raise _DamagedError(f"summary.json cannot be read ({error})") from error
    if not isinstance(summary, dict):
        raise _DamagedError("summary.json does not hold what a run writes")
    return summary


def _from_summary(
    path: Path, config: Mapping[str, Any], summary: Mapping[str, Any], plan: PlanColumns | None
) -> RunRecord:
    curve = sorted(summary["curve"], key=lambda point: int(point["image_size"]))
    recalibrated = all(point.get("top1_recalibrated") is not None for point in curve)
    suffix = "_recalibrated" if recalibrated else ""
    spending, trained = summary["plan"]["spending"], summary["trained"]
    classes = summary["class_names"]
    sizes = tuple(_size_row(row, plan) for row in spending["sizes"] if row["steps"])
    relative_cost, images_planned = float(spending["relative_cost"]), int(summary["plan"]["images_seen"])
    record = RunRecord(
        path=path,
        config=config,
        seed=int(summary["seed"]),
        data=str(summary["data"]),
        test=(summary.get("data_fingerprint"), f"{curve[0]['num_images']:,} images of {len(classes)} classes"),
        training_images=summary.get("training_fingerprint"),
        base_size=int(config["sizes.base_size"]),
        val_size=int(config["evaluation.val_size"]),
        accuracy={int(point["image_size"]): float(point[f"top1{suffix}"]) for point in curve},
        figures={int(point["image_size"]): _further(point, suffix) for point in curve},
        recalibrated=recalibrated,
        gflops={int(row["image_size"]): float(row["gflops"]) for row in summary.get("cost") or () if row.get("gflops")},
        fingerprint=str(summary["plan"]["fingerprint"]),
        steps=int(trained["steps"]),
        steps_planned=int(summary["plan"]["steps"]),
        images_seen=int(trained["images_seen"]),
        images_planned=images_planned,
        relative_cost=relative_cost,
        sizes=sizes,
        compute=None,
        validations=(),
        training_seconds=float(summary["seconds"]["training"]),
        environment=_environment(summary),
        predictions=None,
    )
    if plan is None:
        return record
    compute = plan.compute_before(sizes, total=relative_cost * images_planned)[: record.steps + 1]
    return RunRecord(**vars(record) | {"compute": compute})


def _further(point: Mapping[str, Any], suffix: str) -> dict[str, float]:
    names = {"balanced": "balanced", "top5": "top5", "loss": "loss", "calibration_error": "calibration_error"}
    chosen = {name: point.get(f"{column}{suffix}", point.get(column)) for name, column in names.items()}
    if suffix:
        chosen["top1_training_statistics"] = point["top1"]
    return {name: float(value) for name, value in chosen.items() if value is not None}


def _environment(summary: Mapping[str, Any]) -> dict[str, str]:
    about = {name: str(summary[name]) for name in ("device", "precision", "world_size") if name in summary}
    return about | {name: str(number) for name, number in summary.get("versions", {}).items()}


def _size_row(row: Mapping[str, Any], plan: PlanColumns | None) -> SizeRow:
    size = int(row["image_size"])
    shape = None if plan is None else plan.shape_at(size)
    return SizeRow(
        image_size=size,
        global_batch_size=None if shape is None else shape[0],
        num_repeats=None if shape is None else shape[1],
        steps=int(row["steps"]),
        images=int(row["images"]),
        image_share=float(row["image_share"]),
        step_share=float(row["step_share"]),
        compute_share=float(row["compute_share"]),
    )
