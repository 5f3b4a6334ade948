"""Ends a run that has diverged, before anything is saved or validated that holds no numbers any more."""

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import STEP_OUTPUT
from torch import Tensor

from sizemix.data.batches import Batch
from sizemix.errors import UserError
from sizemix.sizes.plan import SizePlan

_NEVER = 2**62


class FiniteTraining(pl.Callback):
    """Ends training behind a loss, or at weights, that are nan or infinite; all ranks end together.

    The device is waited for only where it is anyway: at steps that are logged, before validation and before a save.

    Args:
        log_every_steps: the trainer's logging interval, optimizer steps.
    """

    def __init__(self, *, log_every_steps: int) -> None:
        self._log_every_steps = log_every_steps
        self._losses: list[tuple[int, Tensor]] = []  # step and loss of every micro-batch since the last check

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: STEP_OUTPUT, batch: Batch, batch_idx: int
    ) -> None:
        """Notes the loss; looks at all that were noted where Lightning logs.

        Raises:
            UserError: one of them is no finite number.
        """
        assert isinstance(outputs, dict)
        assert batch.item is not None
        self._losses.append((batch.item // trainer.accumulate_grad_batches, outputs["loss"]))
        whole_step = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        if whole_step and trainer.global_step % self._log_every_steps == 0:
            self._check_losses(trainer)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Looks at losses and weights, as the best checkpoint may follow.

        Raises:
            UserError: they are no finite numbers.
        """
        self.check(trainer)

    def check(self, trainer: pl.Trainer) -> None:
        """Looks at the losses since the last check, and at the weights, whose last gradient no loss has shown yet.

        Raises:
            UserError: they are no finite numbers.
        """
        self._check_losses(trainer)
        floats = [value for value in trainer.lightning_module.state_dict().values() if value.is_floating_point()]
        finite = torch.stack([value.isfinite().all() for value in floats]).all()
        step = trainer.global_step - 1
        if _first_step(trainer, [step], finite.view(1)) is not None:
            raise _divergence(trainer, step, "weights")

    def _check_losses(self, trainer: pl.Trainer) -> None:
        if not self._losses:
            return
        steps, losses = zip(*self._losses, strict=True)
        self._losses = []
        step = _first_step(trainer, steps, torch.stack(losses).isfinite())
        if step is not None:
            raise _divergence(trainer, step, "a loss")


def _first_step(trainer: pl.Trainer, steps: list[int] | tuple[int, ...], finite: Tensor) -> int | None:
    """The first of the steps that is not finite on any rank; None: they all are.

    Args:
        trainer: whose ranks agree.
        steps: numbers of steps.
        finite: (len(steps),) whether this rank's are.
    """
    bad = torch.where(finite, _NEVER, torch.tensor(steps, device=finite.device)).min()
    first = int(trainer.strategy.reduce(bad, reduce_op="min"))
    return None if first == _NEVER else first


def _divergence(trainer: pl.Trainer, step: int, what: str) -> UserError:
    plan: SizePlan = trainer.datamodule.plan  # type: ignore[attr-defined]
    scheduler = trainer.lr_scheduler_configs[0].scheduler
    assert isinstance(scheduler, torch.optim.lr_scheduler.LambdaLR)
    lr = max(base * factor(step) for base, factor in zip(scheduler.base_lrs, scheduler.lr_lambdas, strict=True))
    precision = ", or in trainer.precision=bf16-mixed or 32-true" if trainer.precision == "16-mixed" else ""
    return UserError(
        f"expected finite numbers in training, got {what} of nan or inf in step {step} ({plan.spec(step).image_size} "
        f"px, learning rate {lr:.3g}); start a new run with a lower recipe.optimizer.lr, a longer "
        f"recipe.lr_schedule.warmup or trainer.gradient_clip_val=1{precision}, as this one would diverge again."
    )
