"""ImageClassifier: a network, its loss and metrics, for Lightning."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins import MixedPrecision
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy

from sizemix.data.batches import NOT_SHOWN, Batch
from sizemix.data.datamodule import SizedDataModule
from sizemix.data.preprocessing import Preprocessing
from sizemix.errors import UserError
from sizemix.models.averaging import averaged_copy
from sizemix.sizes.plan import SizePlan
from sizemix.training.loss import cross_entropy
from sizemix.training.optim import (
    BatchScaling,
    Finetuning,
    LRSchedule,
    batch_factor,
    build_optimizer,
    lr_factor_by_step,
)


class ImageClassifier(pl.LightningModule):
    """Trains a network to classify images of many sizes.

    Args:
        net: images (batch, 3, size, size), float, normalised, to logits (batch, num_classes).
        architecture: what the network was built from, in plain values; a checkpoint of another one is refused by it.
        num_classes: outputs of the network.
        optimizer: arguments of timm's optimizer factory.
        lr_schedule: factor of the learning rate by images seen.
        val_size: image_size of validation, pixels; it names the metric.
        label_smoothing: probability spread evenly over all classes.
        base_batch_size: source images of a step whose loss and learning rate are not scaled.
        loss_scale: how the loss of a step follows its batch; optim.batch_factor.
        lr_scaling: how the learning rate does.
        preprocessing: what the network is shown, to be kept with its weights.
        average: whether an averaged network stands beside, for the WeightAveraging callback; it is then the one that
            is validated.
        class_weights: (num_classes,) weights of the loss.
        frozen_norms: normalisation layers that do not train, whose statistics stay.
        finetuning: a last part of the run with a learning rate of its own.
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        architecture: Mapping[str, Any],
        num_classes: int,
        optimizer: Mapping[str, Any],
        lr_schedule: LRSchedule,
        val_size: int,
        label_smoothing: float = 0.0,
        base_batch_size: int = 1,
        loss_scale: BatchScaling = "none",
        lr_scaling: BatchScaling = "none",
        preprocessing: Preprocessing | None = None,
        average: bool = False,
        class_weights: Tensor | None = None,
        frozen_norms: Sequence[nn.Module] = (),
        finetuning: Finetuning | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise UserError(f"recipe.label_smoothing: expected 0 to under 1, got {label_smoothing}.")
        self.net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack it
        self.averaged = averaged_copy(self.net) if average else None
        self._class_weights: Tensor | None
        self.register_buffer("_class_weights", class_weights, persistent=False)
        self._architecture = dict(architecture)
        self._preprocessing = None if preprocessing is None else asdict(preprocessing)
        self._frozen_norms = tuple(frozen_norms)
        self._finetuning = finetuning
        self.val_metric = f"val/top1@{val_size}"
        self._optimizer = optimizer
        self._lr_schedule = lr_schedule
        self._label_smoothing = label_smoothing
        self._base_batch_size = base_batch_size
        self._loss_scale = loss_scale
        self._lr_scaling = lr_scaling
        # Unchecked, as looking for the values of all targets waits for the device.
        accuracy = partial(MulticlassAccuracy, num_classes, ignore_index=NOT_SHOWN, validate_args=False)
        self.val_top1, self.val_balanced = accuracy(average="micro"), accuracy(average="macro")
        self._balanced_metric = f"val/balanced_accuracy@{val_size}"
        self.val_loss = MeanMetric()

    @property
    def evaluated(self) -> nn.Module:
        """The network that validation and the curve look at: the averaged one where there is one."""
        return self.net if self.averaged is None else self.averaged

    def forward(self, images: Tensor) -> Tensor:
        """Images (batch, 3, size, size) to logits (batch, num_classes)."""
        logits: Tensor = self.net(images)
        return logits

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Mean cross-entropy over all copies of all images; as loss, which is what trains, scaled by the batch."""
        loss = cross_entropy(
            self(batch.images),
            batch.targets,
            class_weights=self._class_weights,
            label_smoothing=self._label_smoothing,
        )
        factor = batch_factor(self._loss_scale, self._batch_ratio())
        return {"loss": loss * factor, "cross_entropy": loss.detach()}

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Top-1, balanced accuracy and loss at the validation size."""
        logits = self.evaluated(batch.images)
        self.val_top1(logits, batch.targets)
        self.val_balanced(logits, batch.targets)
        self.val_loss(F.cross_entropy(logits, batch.targets, ignore_index=NOT_SHOWN), weight=len(batch.targets))
        self.log(self.val_metric, self.val_top1, prog_bar=True)
        self.log(self._balanced_metric, self.val_balanced)
        self.log("val/loss", self.val_loss)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Keeps the statistics of layers that do not train; at every step, as a run may go on within an epoch."""
        for norm in self._frozen_norms:
            norm.eval()

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """The optimizer, with a learning rate for every step of the plan."""
        fused = _may_be_fused(self.trainer)
        if self._optimizer.get("fused") and not fused:
            raise UserError(
                "recipe.optimizer.fused: expected no fused step with trainer.precision=16-mixed, nor with "
                "trainer.gradient_clip_val and bf16-mixed, got true; leave it out."
            )
        optimizer = build_optimizer(self.net, self._optimizer, fused=fused)
        factor = lr_factor_by_step(
            self._lr_schedule,
            self._plan,
            scaling=self._lr_scaling,
            base_batch_size=self._base_batch_size,
            finetuning=self._finetuning,
        )
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _batch_ratio(self) -> float:
        return self._plan.spec(self.trainer.global_step).global_batch_size / self._base_batch_size

    @property
    def _plan(self) -> SizePlan:
        datamodule = self.trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(datamodule, SizedDataModule), "ImageClassifier trains with a SizedDataModule"
        assert datamodule.plan is not None, "the plan comes from the SizeScheduler callback"
        return datamodule.plan

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Notes which network the weights belong to, and what it is shown."""
        checkpoint["architecture"] = self._architecture
        checkpoint["preprocessing"] = self._preprocessing

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuses the weights of another network.

        Raises:
            UserError: names both networks.
        """
        theirs = checkpoint.get("architecture")
        if theirs != self._architecture:
            raise UserError(f"the checkpoint holds {theirs}, this run builds {self._architecture}; start a new run.")


def _may_be_fused(trainer: pl.Trainer) -> bool:
    """A fused step unscales the gradients of fp16 itself, too late for clipping and smoothing.

    Lightning refuses to clip before one in bf16 as well, where nothing is scaled.
    """
    plugin = trainer.precision_plugin
    return not isinstance(plugin, MixedPrecision) or (plugin.scaler is None and not trainer.gradient_clip_val)
