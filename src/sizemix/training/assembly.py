"""A run's configuration to the objects that carry it out; the one place that knows both."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.accelerators import CPUAccelerator
from pytorch_lightning.callbacks import ModelCheckpoint, Timer
from torch import nn

from sizemix.callbacks.data_wait import DataWait
from sizemix.callbacks.fitting_batches import FittingBatches
from sizemix.callbacks.size_scheduler import SizeScheduler
from sizemix.checkpointing.io import AtomicCheckpointIO
from sizemix.checkpointing.last import LastCheckpoint
from sizemix.checkpointing.newest import newest_whole
from sizemix.data.balance import balanced_class_weights
from sizemix.data.datamodule import SizedDataModule
from sizemix.data.preprocessing import Preprocessing
from sizemix.data.sources import DataSource
from sizemix.errors import UserError
from sizemix.loggers.guarded import GuardedLogger
from sizemix.loggers.services import guarded
from sizemix.models.backbone import check_logits, preprocessing_of, training_flops
from sizemix.models.trainable import train_only
from sizemix.runs.folder import RunFolder
from sizemix.runs.metrics import MetricsCsv
from sizemix.sizes.schedule import SizeSchedule
from sizemix.training.callbacks import finetuning_of, run_callbacks
from sizemix.training.classifier import ImageClassifier
from sizemix.training.compilation import check_cuda_graphs, compile_for_sizes
from sizemix.training.cost_cache import CostBySize
from sizemix.training.images import open_dataset, rank_before_training, serve
from sizemix.training.instantiate import NOT_THE_ARCHITECTURE, TIMM, WITH_CUDA_GRAPHS, instantiate, plain, without
from sizemix.training.launch import check_started, cluster_environment
from sizemix.training.matching import kept_step_seconds, with_matched_length
from sizemix.training.measured_steps import steps_on_device
from sizemix.training.plan_inputs import images_of, plan_settings, size_schedule
from sizemix.training.quiet import quieten
from sizemix.training.unprofiled import Unprofiled


@dataclass(frozen=True)
class Run:
    """Everything a run needs.

    Attributes:
        trainer: Lightning's trainer, with all callbacks.
        model: the network with its loss and metrics.
        datamodule: the images.
        scheduler: the callback that holds the plan.
        metrics: the writer of metrics.csv.
        loggers: those besides, which the trainer has as well.
        timer: the seconds of training, kept across resumes.
        best: the callback that keeps the best checkpoint on validation.
        last: the callback that keeps the newest state.
        data_wait: the callback that measures waiting for data, on this rank.
    """

    trainer: pl.Trainer
    model: ImageClassifier
    datamodule: SizedDataModule
    scheduler: SizeScheduler
    metrics: MetricsCsv
    loggers: Sequence[GuardedLogger]
    timer: Timer
    best: ModelCheckpoint
    last: LastCheckpoint
    data_wait: DataWait


def assemble(config: DictConfig, folder: RunFolder) -> Run:
    """Builds a run.

    Raises:
        UserError: anything in the configuration that does not fit.
    """
    pl.seed_everything(config.seed, verbose=False)  # initial weights; everything else draws from its own generator
    schedule = size_schedule(config)
    dataset = open_dataset(config, folder)
    net, cost = _network(config, folder, schedule, num_classes=len(dataset.class_names))
    config = _of_matched_length(config, folder, dataset, net=net, cost=cost)
    schedule = size_schedule(config)
    preprocessing = _preprocessing(config, net, dataset)
    fitting = FittingBatches(net, folder.fitting_csv)
    scheduler = SizeScheduler(schedule, **plan_settings(config), cost=cost, fitting=fitting)
    model = _classifier(config, net, dataset, preprocessing)
    metrics = MetricsCsv(folder.metrics_csv)
    callbacks = run_callbacks(
        config,
        folder,
        scheduler=scheduler,
        net=net,
        num_sizes=len(schedule.image_sizes),
        dataset=dataset,
        val_metric=model.val_metric,
        metrics=metrics,
    )
    loggers = additional_loggers(
        config,
        folder.path,
        images_seen=lambda step: scheduler.planned.images_before(min(step + 1, scheduler.planned.num_steps)),
    )
    trainer = _trainer(config, folder, callbacks=callbacks.every, loggers=[metrics, *loggers])
    if config.model.get("compile") == WITH_CUDA_GRAPHS:
        check_cuda_graphs(trainer)
    return Run(
        trainer=trainer,
        model=model,
        datamodule=serve(config, dataset, preprocessing),
        scheduler=scheduler,
        metrics=metrics,
        loggers=loggers,
        timer=callbacks.timer,
        best=callbacks.best,
        last=callbacks.last,
        data_wait=callbacks.data_wait,
    )


def _of_matched_length(
    config: DictConfig, folder: RunFolder, dataset: DataSource, *, net: nn.Module, cost: Mapping[int, float]
) -> DictConfig:
    """The configuration with as many epochs as option match wants."""

    def measure(local_images: Mapping[int, int]) -> dict[int, float]:
        trainer, micro_batches = idle_trainer(config), config.trainer.accumulate_grad_batches
        steps = steps_on_device(net, trainer, local_images=local_images, micro_batches=micro_batches, flops=cost)
        return {size: step.seconds for size, step in steps.items()}

    return with_matched_length(
        config,
        num_images=images_of(config, dataset).num_images,
        cost=cost,
        step_seconds=kept_step_seconds(measure, folder, rank=rank_before_training()),
    )


def idle_trainer(config: DictConfig) -> pl.Trainer:
    """A trainer that is not meant to be started: it knows device, precision and number of ranks.

    Raises:
        UserError: options of the trainer that do not fit this machine.
    """
    quieten()
    return _trainer(config, RunFolder("."), callbacks=[], loggers=[])


def additional_loggers(config: DictConfig, folder: Path, *, images_seen: Callable[[int], int]) -> list[GuardedLogger]:
    """The loggers that are asked for besides the files in a run's folder.

    Args:
        config: names them in logger.additional.
        folder: takes their files.
        images_seen: source images that training has consumed behind a step.

    Raises:
        UserError: one cannot be made.
    """
    if config.logger.additional is None:
        return []
    logger = instantiate(config.logger.additional, "logger", save_dir=str(folder))
    return [guarded(logger, images_seen=images_seen)]


def trainable_network(config: DictConfig, *, num_classes: int) -> nn.Module:
    """The network as it will train, with its weights, and frozen where it will not.

    Raises:
        UserError: a network that cannot be built.
    """
    net: nn.Module = instantiate(without(config.model, "compile"), "model", num_classes=num_classes)
    _frozen_norms(config, net)
    return net


def _network(
    config: DictConfig, folder: RunFolder, schedule: SizeSchedule, *, num_classes: int
) -> tuple[Any, Mapping[int, float]]:
    settings = _with_own_weights(config.model, folder)
    net = instantiate(without(settings, "compile"), "model", num_classes=num_classes)
    evaluated = {*config.evaluation.eval_sizes, config.evaluation.val_size, config.sizes.base_size}
    sizes = sorted({*schedule.image_sizes, *evaluated})
    name = settings.get("name", settings._target_)
    cost = CostBySize(training_flops(net, sizes, name=name), measure=lambda more: training_flops(net, more, name=name))
    check_logits(net, sizes[0], num_classes=num_classes, name=name)
    if settings.get("compile"):
        compiled_at = {*schedule.image_sizes, config.evaluation.val_size}
        compile_for_sizes(net, compiled_at, cuda_graphs=settings.compile == WITH_CUDA_GRAPHS)
    return net, cost


def _classifier(
    config: DictConfig, net: nn.Module, dataset: DataSource, preprocessing: Preprocessing
) -> ImageClassifier:
    recipe, num_classes = config.recipe, len(dataset.class_names)
    weighted = config.training.imbalance == "class_weights"
    return ImageClassifier(
        net,
        architecture=plain(without(config.model, *NOT_THE_ARCHITECTURE)),
        num_classes=num_classes,
        optimizer=plain(recipe.optimizer),
        lr_schedule=instantiate(recipe.lr_schedule, "recipe.lr_schedule"),
        val_size=config.evaluation.val_size,
        label_smoothing=recipe.label_smoothing,
        base_batch_size=recipe.base_batch_size,
        loss_scale=recipe.loss_scale,
        lr_scaling=recipe.lr_scaling,
        preprocessing=preprocessing,
        average=recipe.averaging_half_life is not None,
        class_weights=balanced_class_weights(dataset.train.targets, num_classes) if weighted else None,
        frozen_norms=_frozen_norms(config, net),
        finetuning=finetuning_of(config),
    )


def _with_own_weights(settings: DictConfig, folder: RunFolder) -> DictConfig:
    """A run that goes on builds its network from its own checkpoint, as the file or hub it began with may be gone."""
    # Nobody knows what the same names mean to a user's own function.
    begun_with_others = settings._target_ == TIMM and (settings.get("pretrained") or settings.get("checkpoint"))
    newest = newest_whole(folder) if begun_with_others else None
    if newest is None:
        return settings
    own = OmegaConf.merge(settings, {"pretrained": False, "checkpoint": str(newest.path)})
    assert isinstance(own, DictConfig)
    return own


def _preprocessing(config: DictConfig, net: nn.Module, dataset: DataSource) -> Preprocessing:
    """What trained weights were shown; else what the data set says of itself; else the network's configuration."""
    trained = config.model.get("pretrained") or config.model.get("checkpoint")
    if dataset.preprocessing is None:
        return preprocessing_of(net)
    return preprocessing_of(net).of_small_images if trained else dataset.preprocessing


def _frozen_norms(config: DictConfig, net: nn.Module) -> list[nn.Module]:
    part, only_at_the_end = config.training.train_only, config.training.train_only_part is not None
    return [] if part is None or only_at_the_end else train_only(net, part)


def _trainer(config: DictConfig, folder: RunFolder, *, callbacks: list[pl.Callback], loggers: list[Any]) -> pl.Trainer:
    trainer = instantiate(
        without(config.trainer, "max_time", "sync_batchnorm"),  # which RankStatistics does
        "trainer",
        profiler=config.trainer.get("profiler") or Unprofiled(),
        callbacks=callbacks,
        logger=loggers,
        plugins=[AtomicCheckpointIO(), cluster_environment()],
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
    check_started(trainer)
    return trainer
