"""Carries out the run that a folder describes: `python -m sizemix.training.run FOLDER`.

A process of its own for every run, behind both `python train.py` and sweeps: Lightning starts the processes of
further devices by repeating the command line, which must not compose the configuration again.
"""

import argparse
import logging
import sys
import time
import warnings
from collections.abc import Sequence

import torch
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import LambdaCallback
from pytorch_lightning.utilities.exceptions import MisconfigurationException, SIGTERMException
from rich.console import Console

from sizemix.errors import UserError
from sizemix.evaluation.curve import Curve, accuracy_curve
from sizemix.report.curve import class_table, curve_table
from sizemix.report.plan import plan_table, write_plan_csv
from sizemix.runs.folder import RunFolder
from sizemix.training.assembly import Run, assemble
from sizemix.training.results import save_results, title_of, training_seconds

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
        print(f"\nsizemix: interrupted; continue with resume={folder.path}", file=sys.stderr)
        return _EXIT_TERMINATED if isinstance(stop, SIGTERMException) else _EXIT_INTERRUPTED
    return 0


def carry_out(folder: RunFolder) -> None:
    """Trains from the newest checkpoint or from the start, evaluates at all sizes, and writes the summary."""
    _quieten()
    console = Console(highlight=False)
    config = RunFolder.open(folder.path).config()
    if folder.finished:
        console.print(f"Finished already: {folder.path}")
        return
    run = assemble(config, folder)
    if run.trainer.is_global_zero:
        announce = LambdaCallback(on_fit_start=lambda *_: _announce(run, config, folder, console))
        run.trainer.callbacks.append(announce)  # type: ignore[attr-defined]
    fit(run, folder)
    if not run.trainer.is_global_zero:
        return
    trained = time.perf_counter()
    curve = _evaluate(run, config)
    evaluation_seconds = time.perf_counter() - trained
    save_results(run, config, folder, curve=curve, evaluation_seconds=evaluation_seconds)
    console.print(curve_table(curve.points, title=f"Test top-1, {title_of(run, config)}"))
    names, size = run.datamodule.dataset.class_names, _nearest(config.sizes.base_size, config.evaluation.eval_sizes)
    console.print(class_table(curve.classes, names, image_size=size))
    if run.trainer.global_step < run.scheduler.planned.num_steps:
        console.print(f"Stopped early, behind step {run.trainer.global_step} of {run.scheduler.planned.num_steps}.")
    if run.datamodule.unreadable:
        console.print(f"{len(run.datamodule.unreadable)} files broke during the run; summary.json names them.")
    console.print(f"Trained in {training_seconds(run):.0f} s. Run folder: {folder.path}", soft_wrap=True)


def _announce(run: Run, config: DictConfig, folder: RunFolder, console: Console) -> None:
    """Shows the plan before anything trains, and tells the loggers the configuration."""
    trainer, plan = run.trainer, run.scheduler.planned
    write_plan_csv(plan, folder.plan_csv)
    for logger in trainer.loggers:
        logger.log_hyperparams(OmegaConf.to_container(config))  # type: ignore[arg-type]
    console.print(plan_table(plan))
    console.print(f"Training on {trainer.num_devices} x {trainer.strategy.root_device.type}, {trainer.precision}.")


def fit(run: Run, folder: RunFolder) -> None:
    """Trains to the end, from the folder's checkpoint where there is one."""
    checkpoint = folder.last_checkpoint if folder.last_checkpoint.exists() else None
    step = 0 if checkpoint is None else int(torch.load(checkpoint, mmap=True, weights_only=True)["global_step"])
    run.metrics.drop_after(step)
    if step and run.trainer.is_global_zero:
        print(f"Continuing behind step {step}.")
    run.trainer.fit(run.model, datamodule=run.datamodule, ckpt_path=checkpoint, weights_only=True)


def _nearest(image_size: int, sizes: Sequence[int]) -> int:
    """The size among several that is next to one."""
    return min(sizes, key=lambda size: (abs(size - image_size), size))


def _evaluate(run: Run, config: DictConfig) -> Curve:
    settings, datamodule = config.evaluation, run.datamodule
    net = run.model.evaluated.to(run.trainer.strategy.root_device)
    with run.trainer.precision_plugin.forward_context():
        return accuracy_curve(
            net,
            eval_sizes=list(settings.eval_sizes),
            num_classes=len(datamodule.dataset.class_names),
            test_batches=datamodule.test_batches,
            calibration_batches=lambda size: datamodule.calibration_batches(
                size,
                num_images=settings.calibration_images,
                batch_size=config.recipe.base_batch_size,
                augment=settings.calibration_transform == "train",
            ),
            show_progress=config.trainer.enable_progress_bar,
        )


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
