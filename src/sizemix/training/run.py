"""Carries out the run that a folder describes: `python -m sizemix.training.run FOLDER`.

A process of its own for every run, behind both `python train.py` and sweeps: Lightning starts the processes of
further devices by repeating the command line, which must not compose the configuration again.
"""

import argparse
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig
from pytorch_lightning.callbacks import LambdaCallback
from rich.console import Console

from sizemix.callbacks.unreadable import share_unreadable
from sizemix.checkpointing.newest import Newest, newest_whole, set_aside
from sizemix.checkpointing.signals import Interrupted, StopSignals, let_through
from sizemix.checkpointing.stopping import StopBehindStep
from sizemix.errors import UserError
from sizemix.evaluation.evaluation import Evaluation
from sizemix.limits import available_cores
from sizemix.loggers.described import described
from sizemix.loggers.guarded import close, opened
from sizemix.report.curve import class_table, curve_table
from sizemix.report.plan import draw_plan, plan_table, write_plan_csv
from sizemix.report.waiting import waiting_table
from sizemix.runs.atomic import remove_partial_files
from sizemix.runs.folder import RunFolder
from sizemix.runs.lock import take_lock
from sizemix.training.assembly import Run, assemble
from sizemix.training.ending import Ending
from sizemix.training.evaluating import evaluate_run
from sizemix.training.instantiate import plain
from sizemix.training.launch import host_own_ranks, join_ranks
from sizemix.training.lifeline import Lifeline
from sizemix.training.quiet import quieten
from sizemix.training.results import save_results, title_of, training_seconds
from sizemix.training.slurm import ending_signals, requeue


def main(arguments: Sequence[str], lifeline: Lifeline | None = None) -> int:
    """Runs or continues the run; a user's mistake is one sentence on stderr.

    Args:
        arguments: the command line.
        lifeline: to the run's other processes, if a launcher has started several; None looks for them.
    """
    parser = argparse.ArgumentParser(description="Carries out the run that a run folder describes.")
    parser.add_argument("folder")
    folder = RunFolder(parser.parse_args(arguments).folder)
    signals = StopSignals(*ending_signals())
    signals.install()
    try:
        return _run(folder, signals, lifeline)
    finally:
        signals.restore()


def _run(folder: RunFolder, signals: StopSignals, lifeline: Lifeline | None) -> int:
    try:
        lifeline = lifeline or join_ranks()
    except (UserError, Interrupted) as error:
        return Ending(Lifeline(), signals).tell(error)
    lifeline.remedy = f"; continue with resume={folder.path}"
    ending = Ending(lifeline, signals)
    try:
        let_through()  # a signal that came while this process started ends it here
        carry_out(folder, ending)
        signals.end()
    except BaseException as error:
        code = ending.tell(error)
        if ending.mistake and lifeline.rank == 0:
            _note(ending.mistake, folder)
        if isinstance(error, Interrupted) and error.number == signal.SIGUSR1 and lifeline.rank == 0:
            print(requeue(), file=sys.stderr)
    else:
        lifeline.finish()
        code = 0
    lifeline.wait_for_own()
    return code


def _note(mistake: str, folder: RunFolder) -> None:
    """For those who look at the folder later, and for a sweep."""
    with suppress(OSError):  # as the disk may be full, or the folder another's
        folder.failure_file.write_text(mistake)


def carry_out(folder: RunFolder, ending: Ending | None = None) -> None:
    """Trains from the newest checkpoint or from the start, evaluates at all sizes, and writes the summary.

    Args:
        folder: describes the run, and takes what it leaves.
        ending: holds several ranks together, and knows the signals that may end them.
    """
    quieten()
    console = Console(highlight=False, markup=False)
    config = RunFolder.open(folder.path).config()
    if folder.finished:
        console.print(f"Finished already: {folder.path}", soft_wrap=True)
        return
    ending = ending or Ending(Lifeline(), StopSignals())
    with _alone(folder, ending.lifeline.rank):
        folder.failure_file.unlink(missing_ok=True)  # of an attempt before this one
        _train_and_evaluate(config, folder, ending, console)


def _train_and_evaluate(config: DictConfig, folder: RunFolder, ending: Ending, console: Console) -> None:
    run = assemble(config, folder)
    ending.lifeline.last_wish = lambda: close(run.loggers, exit_code=1)
    with opened(run.loggers, required=not folder.last_checkpoint.exists()):
        _carry_through(run, config, folder, ending, console)


def _carry_through(run: Run, config: DictConfig, folder: RunFolder, ending: Ending, console: Console) -> None:
    if run.trainer.is_global_zero:
        announce = LambdaCallback(on_fit_start=lambda *_: _announce(run, config, folder, console))
        run.trainer.callbacks.append(announce)  # type: ignore[attr-defined]
    stop = StopBehindStep(ending.signals, run.last, log_every_steps=config.trainer.log_every_n_steps)
    run.trainer.callbacks.append(stop)  # type: ignore[attr-defined]
    if run.trainer.world_size > 1:
        _hold_together(run.trainer, ending)
    fit(run, folder)
    trained = time.perf_counter()
    evaluation = evaluate_run(run, config)
    share_unreadable(run.datamodule)
    evaluation_seconds = time.perf_counter() - trained
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    if not run.trainer.is_global_zero:
        return
    save_results(run, config, folder, evaluation=evaluation, evaluation_seconds=evaluation_seconds)
    _report(run, config, folder, evaluation, console)


@contextmanager
def _alone(folder: RunFolder, rank: int) -> Iterator[None]:
    """Keeps a second process from writing the same files; rank 0 holds the lock for all ranks."""
    try:
        lock = take_lock(folder.lock_file) if rank == 0 else None
    except OSError as error:
        raise UserError(f"{folder.path}: expected a folder that can be written, got: {error.strerror}.") from error
    if rank == 0 and lock is None:
        raise UserError(f"{folder.path}: another process carries out this run; wait for its end, or end it.")
    try:
        yield
    finally:
        if lock is not None:
            lock.release()


def _report(run: Run, config: DictConfig, folder: RunFolder, evaluation: Evaluation, console: Console) -> None:
    """Shows what the run gave, and where it stands."""
    names = run.datamodule.dataset.class_names
    title = f"Test top-1, {title_of(run, config)}"
    console.print(curve_table(evaluation.points, evaluation.costs, title=title, num_classes=len(names)))
    console.print(class_table(evaluation.classes, names, image_size=evaluation.protocol.nearest_reference))
    console.print(
        waiting_table(
            run.data_wait.waits,
            num_workers=run.datamodule.num_workers,
            cores=available_cores() / run.trainer.num_devices,
        )
    )
    if run.trainer.global_step < run.scheduler.planned.num_steps:
        console.print(f"Stopped early, after step {run.trainer.global_step} of {run.scheduler.planned.num_steps}.")
    if run.datamodule.unreadable:
        console.print(f"{len(run.datamodule.unreadable)} files broke during the run; summary.json names them.")
    console.print(evaluation.advice().sentence)
    console.print(f"Trained in {training_seconds(run):.0f} s. Run folder: {folder.path}", soft_wrap=True)


def _hold_together(trainer: pl.Trainer, ending: Ending) -> None:
    """Lets one rank's end be that of all; it is told before Lightning tears down, which may wait for other ranks."""
    tell = LambdaCallback(on_exception=lambda trainer, module, error: ending.tell(error))
    trainer.callbacks.append(tell)  # type: ignore[attr-defined]
    if ending.lifeline.world_size == 1:  # no launcher has started the others: Lightning is about to
        host_own_ranks(ending.lifeline, trainer.world_size)


def _announce(run: Run, config: DictConfig, folder: RunFolder, console: Console) -> None:
    """Shows the plan before anything trains, and tells the loggers the configuration."""
    trainer, plan = run.trainer, run.scheduler.planned
    write_plan_csv(plan, folder.plan_csv)
    draw_plan(plan, folder.plan_png, title=title_of(run, config))
    for logger in run.loggers:
        logger.log_hyperparams(described(plain(config)))
        logger.show_plan(folder.plan_png)
    dataset = run.datamodule.dataset
    train, val, test = (len(split.targets) for split in (dataset.train, dataset.val, dataset.test))
    console.print(
        f"Images: {train:,} for training, {val:,} for validation, {test:,} for the test, of "
        f"{len(dataset.class_names)} classes.",
        soft_wrap=True,
    )
    console.print(plan_table(plan, costs_are_flops=True))
    console.print(f"Training on {trainer.world_size} x {trainer.strategy.root_device.type}, {trainer.precision}.")


def fit(run: Run, folder: RunFolder) -> None:
    """Trains to the end, from the folder's newest whole checkpoint where there is one."""
    newest = newest_whole(folder)
    if run.trainer.is_global_zero:
        _tidy(folder, newest)
    run.metrics.drop_after(0 if newest is None else newest.step)
    path = None if newest is None else newest.path
    run.trainer.fit(run.model, datamodule=run.datamodule, ckpt_path=path, weights_only=True)


def _tidy(folder: RunFolder, newest: Newest | None) -> None:
    """Says where the run goes on, and removes what a killed process has left unfinished."""
    for place in (folder.path, folder.checkpoints):
        remove_partial_files(place)
    if newest is None:
        return
    if newest.damaged is not None:
        print(f"{newest.damaged}: it is now damaged.ckpt, and the run goes on from the one before.")
        set_aside(folder)
    if newest.step:
        print(f"Continuing after step {newest.step}.")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
