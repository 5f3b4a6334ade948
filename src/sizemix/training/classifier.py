"""ImageClassifier: a network, its loss and metrics, for Lightning."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy

from sizemix.data.batches import Batch
from sizemix.data.datamodule import SizedDataModule
from sizemix.errors import UserError
from sizemix.training.optim import LRSchedule, build_optimizer, lr_factor_by_step


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
    ) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise UserError(f"recipe.label_smoothing: expected 0 to under 1, got {label_smoothing}.")
        self.net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack it
        self._architecture = dict(architecture)
        self.val_metric = f"val/top1@{val_size}"
        self._optimizer = optimizer
        self._lr_schedule = lr_schedule
        self._label_smoothing = label_smoothing
        self.val_top1 = MulticlassAccuracy(num_classes, average="micro")
        self.val_loss = MeanMetric()

    def forward(self, images: Tensor) -> Tensor:
        """Images (batch, 3, size, size) to logits (batch, num_classes)."""
        logits: Tensor = self.net(images)
        return logits

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Mean cross-entropy over all copies of all images."""
        loss = F.cross_entropy(self(batch.images), batch.targets, label_smoothing=self._label_smoothing)
        self.log("train/loss", loss.detach(), batch_size=len(batch.targets))
        # On the CPU, as Lightning would copy a plain number to the device and wait for it, at every step.
        lr = torch.tensor(self.trainer.optimizers[0].param_groups[0]["lr"])
        self.log("train/lr", lr, batch_size=len(batch.targets))
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Top-1 and loss at the validation size."""
        logits = self(batch.images)
        self.val_top1(logits, batch.targets)
        self.val_loss(F.cross_entropy(logits, batch.targets), weight=len(batch.targets))
        self.log(self.val_metric, self.val_top1, prog_bar=True)
        self.log("val/loss", self.val_loss)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """The optimizer, with a learning rate for every step of the plan."""
        datamodule = self.trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(datamodule, SizedDataModule), "ImageClassifier trains with a SizedDataModule"
        assert datamodule.plan is not None, "the plan comes from the SizeScheduler callback"
        optimizer = build_optimizer(self.net, self._optimizer)
        factor = lr_factor_by_step(self._lr_schedule, datamodule.plan)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Notes which network the weights belong to."""
        checkpoint["architecture"] = self._architecture

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuses the weights of another network.

        Raises:
            UserError: names both networks.
        """
        theirs = checkpoint.get("architecture")
        if theirs != self._architecture:
            raise UserError(f"the checkpoint holds {theirs}, this run builds {self._architecture}; start a new run.")


def compile_for_sizes(net: nn.Module, image_sizes: Sequence[int]) -> None:
    """Compiles a network in place, one static shape for each size.

    torch stops compiling silently after a few shapes; the limit is raised to what the sizes need (each in train and
    eval mode, each evaluated with one more batch shape; recalibration runs uncompiled), and passing it is an error.
    """
    import torch._dynamo  # costs a second, so only where it is asked for

    torch._dynamo.config.recompile_limit = 8 + 4 * len(image_sizes)
    torch._dynamo.config.fail_on_recompile_limit_hit = True
    net.compile(dynamic=False)
