"""A run's configuration to the objects that carry it out; the one place that knows both."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import hydra
import pytorch_lightning as pl
from hydra.errors import InstantiationException
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.accelerators import CPUAccelerator
from pytorch_lightning.callbacks import ModelCheckpoint, Timer
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from sizemix.callbacks.determinism import Determinism
from sizemix.callbacks.gradient_smoothing import GradientSmoothing
from sizemix.callbacks.progress import SizeProgressBar
from sizemix.callbacks.size_scheduler import SizeScheduler
from sizemix.callbacks.throughput import Throughput
from sizemix.checkpointing.io import AtomicCheckpointIO
from sizemix.checkpointing.last import LastCheckpoint
from sizemix.data.datamodule import SizedDataModule
from sizemix.data.sources import ImageDataset
from sizemix.errors import UserError
from sizemix.models.backbone import build_backbone, training_flops
from sizemix.runs.folder import RunFolder
from sizemix.runs.metrics import MetricsCsv
from sizemix.sizes.schedule import SizeSchedule
from sizemix.training.classifier import ImageClassifier, compile_for_sizes

_SGD = ("sgd", "momentum", "nesterov")


@dataclass(frozen=True)
class Run:
    """Everything a run needs.

    Attributes:
        trainer: Lightning's trainer, with all callbacks.
        model: the network with its loss and metrics.
        datamodule: the images.
        scheduler: the callback that holds the plan.
        metrics: the writer of metrics.csv.
        timer: the seconds of training, kept across resumes.
        best: the callback that keeps the best checkpoint on validation.
    """

    trainer: pl.Trainer
    model: ImageClassifier
    datamodule: SizedDataModule
    scheduler: SizeScheduler
    metrics: MetricsCsv
    timer: Timer
    best: ModelCheckpoint


def assemble(config: DictConfig, folder: RunFolder) -> Run:
    """Builds a run.

    Raises:
        UserError: anything in the configuration that does not fit.
    """
    pl.seed_everything(config.seed, verbose=False)  # initial weights; everything else draws from its own generator
    schedule = _schedule(config)
    dataset = _instantiate(config.data.source, "data.source")
    assert isinstance(dataset, ImageDataset)
    net, cost = _network(config, schedule, num_classes=len(dataset.class_names))
    scheduler = SizeScheduler(
        schedule,
        budget=config.sizes.budget,
        base_size=config.sizes.base_size,
        base_batch_size=config.recipe.base_batch_size,
        seed=config.seed,
        share_of=config.sizes.share_of,
        cost=cost,
    )
    model = ImageClassifier(
        net,
        architecture={name: value for name, value in _plain(config.model).items() if name != "compile"},
        num_classes=len(dataset.class_names),
        optimizer=_plain(config.recipe.optimizer),
        lr_schedule=_instantiate(config.recipe.lr_schedule, "recipe.lr_schedule"),
        val_size=config.evaluation.val_size,
        label_smoothing=config.recipe.label_smoothing,
    )
    datamodule = SizedDataModule(
        dataset,
        crop_padding=config.data.crop_padding,
        flip=config.data.flip,
        val_size=config.evaluation.val_size,
        eval_batch_size=config.evaluation.batch_size,
        num_workers=config.data.num_workers,
    )
    metrics = MetricsCsv(folder.metrics_csv)
    timer = Timer()
    best = ModelCheckpoint(
        dirpath=folder.checkpoints,
        filename="best",
        monitor=model.val_metric,
        mode="max",
        save_on_train_epoch_end=False,
        enable_version_counter=False,
    )
    callbacks = [
        scheduler,
        Determinism(config.seed),
        *_smoothing(config, schedule),
        Throughput(every_steps=config.trainer.log_every_n_steps),
        timer,
        best,
        LastCheckpoint(
            folder.last_checkpoint,
            metrics=metrics,
            log_every_steps=config.trainer.log_every_n_steps,
            every_steps=config.checkpoint.every_steps,
            every_minutes=config.checkpoint.every_minutes,
        ),
        *(
            [SizeProgressBar(refresh_rate=config.trainer.log_every_n_steps)]
            if config.trainer.enable_progress_bar
            else []
        ),
    ]
    trainer = _trainer(config, folder, callbacks=callbacks, loggers=[metrics, *_additional_logger(config, folder)])
    return Run(trainer, model, datamodule, scheduler, metrics, timer, best)


def _schedule(config: DictConfig) -> SizeSchedule:
    """Whatever class or function sizes._target_ names, given every key of the group that is not the budget's."""
    settings = {key: value for key, value in config.sizes.items() if key not in ("budget", "share_of")}
    schedule: SizeSchedule = _instantiate(OmegaConf.create(settings), "sizes")
    return schedule


def _network(config: DictConfig, schedule: SizeSchedule, *, num_classes: int) -> tuple[Any, Mapping[int, float]]:
    settings = config.model
    net = build_backbone(
        settings.name,
        num_classes=num_classes,
        drop_path_rate=settings.drop_path_rate,
        kwargs=_plain(settings.kwargs),
    )
    evaluated = {*config.evaluation.eval_sizes, config.evaluation.val_size, config.sizes.base_size}
    sizes = sorted({*schedule.image_sizes, *evaluated})
    cost = training_flops(net, sizes, name=settings.name)
    if settings.compile:
        compile_for_sizes(net, sizes)
    return net, cost


def _smoothing(config: DictConfig, schedule: SizeSchedule) -> list[pl.Callback]:
    wanted = config.recipe.gradient_smoothing
    if wanted == "auto":
        wanted = len(schedule.image_sizes) > 1 and config.recipe.optimizer.opt in _SGD
    return [GradientSmoothing()] if wanted else []


def _additional_logger(config: DictConfig, folder: RunFolder) -> list[Any]:
    if config.logger.additional is None:
        return []
    logger = _instantiate(config.logger.additional, "logger", save_dir=str(folder.path))
    if isinstance(logger, WandbLogger):
        _open(logger)
    return [logger]


def _open(logger: WandbLogger) -> None:
    """Connects now, so that a missing login is noticed before anything trains."""
    import wandb  # half a second that only its users should wait

    try:
        logger.experiment  # noqa: B018
    except wandb.Error as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise UserError(f"logger: W&B says: {reason}; run `wandb login`, or set logger.mode=offline.") from error


def _trainer(config: DictConfig, folder: RunFolder, *, callbacks: list[pl.Callback], loggers: list[Any]) -> pl.Trainer:
    trainer = _instantiate(
        config.trainer,
        "trainer",
        callbacks=callbacks,
        logger=loggers,
        plugins=[AtomicCheckpointIO()],
        default_root_dir=str(folder.path),
        num_sanity_val_steps=0,
        enable_model_summary=False,
    )
    assert isinstance(trainer, pl.Trainer)
    cores = os.cpu_count() or 1
    if isinstance(trainer.accelerator, CPUAccelerator) and trainer.num_devices > cores:
        raise UserError(
            f"trainer.devices: expected at most {cores}, the CPU cores of this machine, got {trainer.num_devices}."
        )
    return trainer


def _instantiate(settings: DictConfig, where: str, **more: Any) -> Any:
    """Calls what a _target_ names; a user's mistake inside it becomes a sentence that says where."""
    try:
        return hydra.utils.instantiate(settings, **more, _convert_="all")
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, UserError):
            raise cause from error
        if isinstance(cause, TypeError | ValueError | ImportError | MisconfigurationException) or cause is None:
            reason = " ".join(str(cause or error).split())
            raise UserError(f"{where}: {reason.rstrip('.')}; see conf/ for what it takes.") from error
        raise


def _plain(settings: DictConfig) -> dict[str, Any]:
    plain = OmegaConf.to_container(settings, resolve=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}
