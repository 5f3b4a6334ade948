"""What a finished run leaves in its folder and tells its loggers."""

from dataclasses import asdict
from typing import Any

import torch
from omegaconf import DictConfig

from sizemix.evaluation.evaluation import Evaluation
from sizemix.loggers.described import versions
from sizemix.report.evaluation import curve_figures, evaluation_figures, write_evaluation
from sizemix.runs.folder import RunFolder
from sizemix.sizes.spending import spending
from sizemix.training.assembly import Run
from sizemix.training.images import broken_files


def save_results(
    run: Run, config: DictConfig, folder: RunFolder, *, evaluation: Evaluation, evaluation_seconds: float
) -> None:
    """Writes the files of the evaluation and, last, summary.json, which marks the run as finished."""
    write_evaluation(
        evaluation,
        folder.evaluation,
        class_names=run.datamodule.dataset.class_names,
        title=title_of(run, config),
        train_sizes=_trained_at(run),
    )
    _log_evaluation(run, folder, evaluation)
    folder.save_summary(_summary(run, config, folder, evaluation, evaluation_seconds))


def _trained_at(run: Run) -> list[int]:
    return [row.image_size for row in spending(run.scheduler.planned).sizes if row.steps]


def title_of(run: Run, config: DictConfig) -> str:
    """What tables and pictures call the run."""
    return f"{config.name} on {run.datamodule.dataset.name}"


def training_seconds(run: Run) -> float:
    """Seconds of training and its validations, over all processes that a resumed run took."""
    return run.timer.time_elapsed("train")


def _log_evaluation(run: Run, folder: RunFolder, evaluation: Evaluation) -> None:
    """The curve for the loggers besides metrics.csv."""
    for logger in run.loggers:
        logger.log_metrics(curve_figures(evaluation), step=run.trainer.global_step)
        logger.show_evaluation(evaluation, folder.evaluation)
        logger.save()


def _summary(
    run: Run, config: DictConfig, folder: RunFolder, evaluation: Evaluation, evaluation_seconds: float
) -> dict[str, Any]:
    plan, best = run.scheduler.planned, run.best.best_model_score
    device = run.trainer.strategy.root_device
    return {
        "name": config.name,
        "seed": config.seed,
        "data": run.datamodule.dataset.name,
        "model": config.model.get("name") or config.model._target_,
        "class_names": list(run.datamodule.dataset.class_names),
        "preprocessing": asdict(run.datamodule.preprocessing),
        "files": {"broken": broken_files(folder), "unreadable": sorted(run.datamodule.unreadable)},
        "validation": {
            "image_size": config.evaluation.val_size,
            "final_top1": run.metrics.last(run.model.val_metric),
            "best_top1": None if best is None else round(float(best), 6),
        },
        **evaluation_figures(evaluation),
        "training_fingerprint": run.datamodule.dataset.train.fingerprint,
        "plan": {
            "fingerprint": plan.fingerprint,
            "steps": plan.num_steps,
            "images_seen": plan.images_seen,
            "spending": asdict(spending(plan)),
        },
        "trained": {
            "steps": run.trainer.global_step,
            "images_seen": plan.images_before(run.trainer.global_step),
            "stopped_early": run.trainer.global_step < plan.num_steps,
        },
        "waiting_for_data": [asdict(wait) | {"share": wait.share} for wait in run.data_wait.waits],
        "seconds": {"training": round(training_seconds(run), 3), "evaluation": round(evaluation_seconds, 3)},
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "world_size": run.trainer.world_size,
        "precision": str(run.trainer.precision),
        "num_threads": torch.get_num_threads(),
        "versions": versions(),
    }
