"""Batch-norm statistics over ranks: each rank's own in training, combined for validation, kept apart in checkpoints."""

from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.trainer.states import TrainerFn
from timm.layers import convert_sync_batchnorm
from torch import Tensor, nn

from sizemix.errors import UserError
from sizemix.models.batchnorm import batch_norms


def combine_statistics(means: Tensor, variances: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of all ranks' images, from each rank's; the ranks' batches are of one size.

    Args:
        means: (ranks, channels).
        variances: (ranks, channels).

    Returns:
        Mean of means, and mean of variances plus variance of means; (channels) each.
    """
    return means.mean(0), variances.mean(0) + means.var(0, correction=0)


def synchronise_batch_norms(model: nn.Module) -> None:
    """Replaces every batch norm inside by one that normalises with the statistics of all ranks; on CUDA only.

    timm's conversion keeps the activations of its fused layers, which torch's own and Trainer(sync_batchnorm=True)
    leave out. Names in the state_dict stay.
    """
    convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]


class RankStatistics(pl.Callback):
    """Lets every rank's images count in the running statistics of batch norm; on one device it does nothing.

    The statistics of all batch norms in the LightningModule, an averaged network's too, are combined when validation
    starts and when an epoch ends, and stay combined. Checkpoints within an epoch hold every rank's own, so that a
    resumed run goes on exactly.

    Args:
        synchronise: normalise with the statistics of all ranks in every training step already; needs several GPUs.
    """

    def __init__(self, *, synchronise: bool = False) -> None:
        self._synchronise = synchronise

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Prepares the network; Lightning calls this before it wraps it or makes an optimizer.

        Raises:
            UserError: synchronise, but not several GPUs.
        """
        if self._synchronise:
            _need_several_gpus(trainer)
            synchronise_batch_norms(pl_module)
        if isinstance(trainer.strategy, DDPStrategy):
            # DDP would overwrite all ranks' statistics by rank 0's before every forward pass. It reads its arguments
            # when Lightning wraps the module, behind this hook.
            trainer.strategy._ddp_kwargs["broadcast_buffers"] = False

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Combines, before the first batch."""
        _combine(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Combines where no validation has; equal statistics stay as they are, to the bit."""
        _combine(trainer, pl_module)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Adds each rank's statistics; Lightning calls this on all ranks."""
        if trainer.world_size > 1 and batch_norms(pl_module):
            checkpoint["rank_statistics"] = trainer.strategy.all_gather(_statistics(pl_module).flatten()).cpu()

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Gives each rank its own back, where training goes on.

        Raises:
            UserError: another number of ranks.
        """
        by_rank = checkpoint.get("rank_statistics")
        if by_rank is None or trainer.state.fn is not TrainerFn.FITTING:
            return
        if len(by_rank) != trainer.world_size:
            raise UserError(
                f"the checkpoint holds the batch-norm statistics of {len(by_rank)} ranks, this run has "
                f"{trainer.world_size}; continue with as many devices as before."
            )
        _put(pl_module, by_rank[trainer.global_rank].view(2, -1))


def _need_several_gpus(trainer: pl.Trainer) -> None:
    device = trainer.strategy.root_device.type
    if device != "cuda" or trainer.world_size == 1:
        raise UserError(
            f"trainer.sync_batchnorm: expected several GPUs, got {trainer.world_size} x {device}; set it to false: "
            "statistics are combined over ranks before every validation anyway."
        )


@torch.no_grad()
def _combine(trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
    if trainer.world_size > 1 and batch_norms(pl_module):
        by_rank = trainer.strategy.all_gather(_statistics(pl_module).double())  # (ranks, 2, channels)
        _put(pl_module, torch.stack(combine_statistics(by_rank[:, 0], by_rank[:, 1])))


def _statistics(model: nn.Module) -> Tensor:
    """Running means and variances of all layers, (2, channels), so that one message carries them."""
    layers = batch_norms(model)
    return torch.stack([torch.cat([getattr(layer, name) for layer in layers]) for name in _BUFFERS])


def _put(model: nn.Module, statistics: Tensor) -> None:
    layers = batch_norms(model)
    for name, values in zip(_BUFFERS, statistics, strict=True):
        for layer, value in zip(layers, values.split([layer.num_features for layer in layers]), strict=True):
            getattr(layer, name).copy_(value)


_BUFFERS = ("running_mean", "running_var")
