"""Carries out the run that a folder describes: `python -m sizemix.training.run FOLDER`.

A process of its own for every run, behind both `python train.py` and sweeps: Lightning starts the processes of
further devices by repeating the command line, which must not compose the configuration again.
"""

import argparse
import logging
import platform
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import torch
import wandb
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.utilities.exceptions import MisconfigurationException, SIGTERMException
from rich.console import Console

from sizemix import __version__
from sizemix.errors import UserError
from sizemix.evaluation.curve import CurvePoint, accuracy_curve
from sizemix.report.curve import curve_table, draw_curve, write_curve_csv
from sizemix.report.plan import plan_table, write_plan_csv
from sizemix.runs.folder import RunFolder
from sizemix.training.assembly import Run, assemble

_EXIT_USER_ERROR, _EXIT_INTERRUPTED, _EXIT_TERMINATED = 2, 130, 143


def main(arguments: Sequence[str]) -> int:
    """Runs or continues the run; a user's mistake is one sentence on stderr."""
    parser = argparse.ArgumentParser(description="Carries out the run that a run folder describes.")
    parser.add_argument("folder")
    folder = RunFolder(parser.parse_args(arguments).folder)
    try:
        carry_out(folder)
    except (UserError, MisconfigurationException) as error:
        print(f"sizemix: {' '.join(str(error).split())}", file=sys.stderr)
        return _EXIT_USER_ERROR
    except (KeyboardInterrupt, SystemExit) as stop:  # Lightning turns Ctrl-C and SIGTERM into kinds of SystemExit
        print(f"sizemix: interrupted; continue with resume={folder.path}", file=sys.stderr)
        return _EXIT_TERMINATED if isinstance(stop, SIGTERMException) else _EXIT_INTERRUPTED
    return 0


def carry_out(folder: RunFolder) -> None:
    """Trains from the newest checkpoint or from the start, evaluates at all sizes, and writes the summary."""
    _quieten()
    console = Console()
    config = RunFolder.open(folder.path).config()
    if folder.finished:
        console.print(f"Finished already: {folder.path}")
        return
    run = assemble(config, folder)
    started = time.perf_counter()
    if run.trainer.is_global_zero:
        _announce(run, folder, console)
        for logger in run.trainer.loggers:
            logger.log_hyperparams(_options(config))
    fit(run, folder)
    if not run.trainer.is_global_zero:
        return
    trained = time.perf_counter()
    points = _evaluate(run, config)
    write_curve_csv(points, folder.curve_csv)
    title = f"{config.name} on {run.datamodule.dataset.name}"
    sizes = run.scheduler.planned.image_sizes
    draw_curve(points, folder.curve_png, title=title, train_sizes=sizes)
    seconds = {
        "training": run.timer.time_elapsed("train") + run.timer.time_elapsed("validate"),
        "evaluation": time.perf_counter() - trained,
        "this_process": time.perf_counter() - started,
    }
    _log_curve(run, points)
    folder.save_summary(_summary(run, config, points, seconds))
    console.print(curve_table(points, title=f"Test top-1 by image size, {title}"))
    console.print(f"Trained in {seconds['training']:.0f} s. Run folder: {folder.path}", soft_wrap=True)


def _announce(run: Run, folder: RunFolder, console: Console) -> None:
    """Shows the plan before anything trains."""
    trainer = run.trainer
    plan = run.scheduler.plan(
        num_images=run.datamodule.num_images,
        num_epochs=trainer.max_epochs or 0,
        world_size=trainer.world_size,
        micro_batches=trainer.accumulate_grad_batches,
    )
    write_plan_csv(plan, folder.plan_csv)
    console.print(plan_table(plan))
    console.print(f"Training on {trainer.num_devices} x {trainer.strategy.root_device.type}, {trainer.precision}.")


def fit(run: Run, folder: RunFolder) -> None:
    """Trains to the end, from the folder's checkpoint where there is one."""
    checkpoint = folder.last_checkpoint if folder.last_checkpoint.exists() else None
    if checkpoint is not None:
        step = int(torch.load(checkpoint, map_location="cpu", weights_only=True)["global_step"])
        run.metrics.drop_after(step)
        if run.trainer.is_global_zero:
            print(f"Continuing behind step {step}.")
    run.trainer.fit(run.model, datamodule=run.datamodule, ckpt_path=checkpoint, weights_only=True)


def _evaluate(run: Run, config: DictConfig) -> list[CurvePoint]:
    settings, datamodule = config.evaluation, run.datamodule
    net = run.model.net.to(run.trainer.strategy.root_device)
    with run.trainer.precision_plugin.forward_context():
        return accuracy_curve(
            net,
            eval_sizes=list(settings.eval_sizes),
            test_batches=datamodule.test_batches,
            calibration_batches=lambda size: datamodule.calibration_batches(
                size,
                num_images=settings.calibration_images,
                batch_size=config.recipe.base_batch_size,
                augment=settings.calibration_transform == "train",
            ),
            show_progress=config.trainer.enable_progress_bar,
        )


def _log_curve(run: Run, points: list[CurvePoint]) -> None:
    """The curve for the loggers besides metrics.csv, which then close."""
    figures = {f"test/top1@{point.image_size}": point.top1 for point in points}
    for point in points:
        if point.top1_recalibrated is not None:
            figures[f"test/top1_recalibrated@{point.image_size}"] = point.top1_recalibrated
    for logger in run.trainer.loggers:
        if logger is not run.metrics:
            logger.log_metrics(figures, step=run.scheduler.planned.num_steps)
            logger.finalize("success")
    wandb.finish()


def _summary(run: Run, config: DictConfig, points: list[CurvePoint], seconds: dict[str, float]) -> dict[str, Any]:
    plan = run.scheduler.planned
    final = run.trainer.callback_metrics
    best = run.best.best_model_score
    return {
        "name": config.name,
        "seed": config.seed,
        "data": run.datamodule.dataset.name,
        "model": config.model.name,
        "validation": {
            "image_size": config.evaluation.val_size,
            "final_top1": float(final[run.model.val_metric]),
            "best_top1": None if best is None else float(best),
        },
        "curve": [asdict(point) for point in points],
        "plan": {
            "fingerprint": plan.fingerprint,
            "steps": plan.num_steps,
            "images_seen": plan.images_seen,
            "mean_size": plan.mean_size,
            "rms_size": plan.rms_size,
            "cost_against_base_size": plan.relative_cost,
            "sizes": [asdict(totals) for totals in plan.totals],
        },
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "device": str(run.trainer.strategy.root_device),
        "num_threads": torch.get_num_threads(),
        "versions": {
            "sizemix": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "torchvision", "pytorch-lightning", "timm")},
        },
    }


def _options(config: DictConfig) -> dict[str, Any]:
    options = OmegaConf.to_container(config)
    assert isinstance(options, dict)
    return {str(name): value for name, value in options.items() if name != "hydra"}


def _quieten() -> None:
    """Hides what Lightning says of situations that are meant, and its advertisements."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.. is deprecated")
    warnings.filterwarnings("ignore", message="The number of training batches .* is smaller than the logging interval")
    warnings.filterwarnings("ignore", message="You're resuming from a checkpoint that ended before the epoch")
    warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")
    warnings.filterwarnings("ignore", message="GPU available but not used")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
