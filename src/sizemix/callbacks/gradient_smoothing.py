"""Gradient smoothing: every step's gradient is rescaled to the running mean of gradient norms."""

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.optim import Optimizer

from sizemix.callbacks.logged import is_logged
from sizemix.data.batches import Batch


def smooth_gradients(gradients: list[Tensor], running_norm: Tensor | None, *, decay: float) -> Tensor:
    """Rescales gradients in place so that their global norm is the running mean of such norms.

    Steps at different sizes have gradients of different norms; smoothing takes that difference out (Hoffer et al.
    2019, arXiv 1908.08986, on gradient smoothing): r <- decay * r + (1 - decay) * |g|, then g <- g * r / |g|.
    The first norm starts the mean, so the first step is not rescaled. Nothing here waits for the device. A norm that
    is not finite leaves the mean as it is and the gradients to the loss scaler.

    Args:
        gradients: of one step, all-reduced and unscaled.
        running_norm: the mean so far, a scalar; None at the first step.
        decay: weight of the past.

    Returns:
        The updated mean, a scalar.
    """
    norm = torch.nn.utils.get_total_norm(gradients)
    if running_norm is None:
        return norm
    finite, started = norm.isfinite(), running_norm.isfinite()  # fp16 may overflow first, while it finds its scale
    mean = torch.where(started, decay * running_norm + (1 - decay) * norm, norm)
    running_norm = torch.where(finite, mean, running_norm)
    factor = torch.where(finite & (norm > 0), running_norm / norm, torch.ones_like(norm))
    torch._foreach_mul_(gradients, factor)
    return running_norm


class GradientSmoothing(pl.Callback):
    """Smooths the gradients of every optimizer step, before clipping and weight decay.

    Args:
        decay: weight of the past in the running mean of norms; the authors use 0.9.
    """

    def __init__(self, decay: float = 0.9) -> None:
        self._decay = decay
        self._running_norm: Tensor | None = None

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        """Lightning has unscaled the gradients by now, and clips them afterwards."""
        parameters = (parameter for group in optimizer.param_groups for parameter in group["params"])
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if self._running_norm is not None:
            self._running_norm = self._running_norm.to(pl_module.device)
        self._running_norm = smooth_gradients(gradients, self._running_norm, decay=self._decay)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: object, batch: Batch, batch_idx: int
    ) -> None:
        """Logs the mean."""
        if self._running_norm is not None and is_logged(trainer, batch_idx):
            pl_module.log("train/smoothed_gradient_norm", self._running_norm, batch_size=len(batch.targets))

    def state_dict(self) -> dict[str, Any]:
        """The running mean."""
        return {"running_norm": self._running_norm}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the running mean."""
        self._running_norm = state_dict["running_norm"]
