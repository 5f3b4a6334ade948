"""A run's callbacks, in the order in which Lightning calls them."""

from dataclasses import dataclass

import pytorch_lightning as pl
from omegaconf import DictConfig
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint, Timer
from torch import nn

from sizemix.callbacks.averaging import WeightAveraging
from sizemix.callbacks.data_wait import DataWait
from sizemix.callbacks.determinism import Determinism
from sizemix.callbacks.elapsed import Elapsed
from sizemix.callbacks.epoch_lines import EpochLines
from sizemix.callbacks.expected_end import ExpectedEnd
from sizemix.callbacks.finite import FiniteTraining
from sizemix.callbacks.gradient_smoothing import GradientSmoothing
from sizemix.callbacks.late_freezing import LateFreezing
from sizemix.callbacks.memory_check import MemoryCheck
from sizemix.callbacks.progress import SizeProgressBar
from sizemix.callbacks.rank_statistics import RankStatistics
from sizemix.callbacks.size_scheduler import SizeScheduler
from sizemix.callbacks.stay_stopped import StayStopped
from sizemix.callbacks.step_figures import StepFigures
from sizemix.callbacks.throughput import Throughput
from sizemix.callbacks.time_limit import TimeLimit
from sizemix.callbacks.unreadable import SharedUnreadable
from sizemix.checkpointing.best import BestCheckpoint
from sizemix.checkpointing.last import LastCheckpoint
from sizemix.data.sources import DataSource
from sizemix.errors import UserError
from sizemix.models.trainable import trained_part
from sizemix.runs.folder import RunFolder
from sizemix.runs.metrics import MetricsCsv
from sizemix.sizes.progressive import last_epochs
from sizemix.training.images import evaluated_batches
from sizemix.training.optim import Finetuning

_SGD = ("sgd", "momentum", "nesterov")


@dataclass(frozen=True)
class RunCallbacks:
    """All callbacks of a run; those that somebody asks for something have a name.

    Attributes:
        every: all of them, in their order.
        timer: the seconds of training, kept across resumes.
        best: keeps the best checkpoint on validation.
        last: keeps the newest state.
        data_wait: measures waiting for data, on this rank.
    """

    every: list[pl.Callback]
    timer: Timer
    best: ModelCheckpoint
    last: LastCheckpoint
    data_wait: DataWait


def run_callbacks(
    config: DictConfig,
    folder: RunFolder,
    *,
    scheduler: SizeScheduler,
    num_sizes: int,
    dataset: DataSource,
    net: nn.Module,
    val_metric: str,
    metrics: MetricsCsv,
) -> RunCallbacks:
    """Builds them.

    Args:
        config: the run's.
        folder: takes the checkpoints.
        scheduler: holds the plan; goes early, as others ask it.
        net: as it trains.
        num_sizes: training sizes of the run.
        dataset: the images.
        val_metric: key of the validation accuracy.
        metrics: rows of the run.

    Raises:
        UserError: options that do not go together.
    """
    log_every_steps = config.trainer.log_every_n_steps
    finite, data_wait = FiniteTraining(log_every_steps=log_every_steps), DataWait()
    timer = Timer(duration=config.trainer.max_time, interval="epoch", verbose=False)
    best = _best(folder, val_metric)
    last = LastCheckpoint(
        folder.last_checkpoint,
        previous=folder.previous_checkpoint,
        metrics=metrics,
        check=finite.check,
        log_every_steps=log_every_steps,
        every_steps=config.checkpoint.every_steps,
        every_minutes=config.checkpoint.every_minutes,
    )
    every = [
        *_time_limit(config, timer),  # before those that log, as Lightning logs the last step whatever its number
        scheduler,
        MemoryCheck(scheduler, evaluated=evaluated_batches(config, dataset)),
        Determinism(config.seed),
        finite,
        *_late_freezing(config, net),
        *smoothing_of(config, num_sizes=num_sizes),
        *_averaging(config),
        *_early_stopping(config, val_metric),
        RankStatistics(synchronise=config.trainer.sync_batchnorm),
        ExpectedEnd(timer),
        StepFigures(),
        Throughput(),
        data_wait,
        SharedUnreadable(),
        EpochLines(val_metric=val_metric, val_size=config.evaluation.val_size),
        timer,
        Elapsed(timer),
        best,
        last,
        *_progress_bar(config),
    ]
    return RunCallbacks(every, timer, best, last, data_wait)


def _best(folder: RunFolder, val_metric: str) -> BestCheckpoint:
    return BestCheckpoint(
        dirpath=folder.checkpoints,
        filename="best",
        monitor=val_metric,
        mode="max",
        save_on_train_epoch_end=False,
        enable_version_counter=False,
    )


def smoothing_of(config: DictConfig, *, num_sizes: int) -> list[pl.Callback]:
    """The callback that smooths gradients, or none.

    Raises:
        UserError: options that do not go together.
    """
    if config.recipe.loss_scale != "none" != config.recipe.lr_scaling:
        raise UserError(
            f"recipe: expected loss_scale or lr_scaling, got both ({config.recipe.loss_scale} and "
            f"{config.recipe.lr_scaling}), which would scale a step twice; set one of them to none."
        )
    wanted, scaled = config.recipe.gradient_smoothing, config.recipe.loss_scale != "none"
    if wanted == "auto":
        wanted = num_sizes > 1 and config.recipe.optimizer.get("opt") in _SGD and not scaled
    if wanted and scaled:
        raise UserError(
            f"recipe: expected gradient_smoothing=false with loss_scale={config.recipe.loss_scale}, got true: "
            "smoothing rescales every gradient and so undoes the scale; leave one out, or use lr_scaling."
        )
    return [GradientSmoothing()] if wanted else []


def finetuning_of(config: DictConfig) -> Finetuning | None:
    """The last epochs, in which only a part of the network trains; None: there are no such epochs.

    Raises:
        UserError: options that do not go together.
    """
    training = config.training
    if training.train_only_part is None:
        return None
    if training.train_only is None:
        raise UserError(
            f"training.train_only_part: expected training.train_only with {training.train_only_part}, got none; say "
            "what trains in that part, as head_and_last_norm."
        )
    if config.trainer.max_epochs < 2:
        raise UserError(
            "training.train_only_part: expected trainer.max_epochs of at least 2, as a part of them trains all, got "
            f"{config.trainer.max_epochs}; train for longer, or leave it out."
        )
    return Finetuning(last_epochs(training.train_only_part, config.trainer.max_epochs), training.train_only_lr_factor)


def _late_freezing(config: DictConfig, net: nn.Module) -> list[pl.Callback]:
    finetuning = finetuning_of(config)
    if finetuning is None:
        return []
    return [LateFreezing(trained_part(net, config.training.train_only), num_epochs=finetuning.num_epochs)]


def _averaging(config: DictConfig) -> list[pl.Callback]:
    half_life = config.recipe.averaging_half_life
    return [] if half_life is None else [WeightAveraging(half_life)]


def _early_stopping(config: DictConfig, val_metric: str) -> list[pl.Callback]:
    patience = config.training.early_stopping_patience
    if patience is None:
        return []
    early_stopping = EarlyStopping(monitor=val_metric, mode="max", patience=patience)
    return [early_stopping, StayStopped(early_stopping)]


def _time_limit(config: DictConfig, timer: Timer) -> list[pl.Callback]:
    limited = config.trainer.max_time is not None
    return [TimeLimit(timer, log_every_steps=config.trainer.log_every_n_steps)] if limited else []


def _progress_bar(config: DictConfig) -> list[pl.Callback]:
    shown = config.trainer.enable_progress_bar
    return [SizeProgressBar(refresh_rate=config.trainer.log_every_n_steps)] if shown else []
