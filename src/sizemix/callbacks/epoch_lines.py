"""A line for every finished epoch."""

import time
from statistics import mean

import pytorch_lightning as pl

from sizemix.callbacks.progress import tell
from sizemix.runs.metrics import MetricsCsv
from sizemix.sizes.plan import SizePlan


class EpochLines(pl.Callback):
    """Tells what an epoch gave, in a line that stays: its loss is the mean over the steps that were logged.

    Args:
        metrics: rows of the run.
        val_metric: key of the validation accuracy, top-1.
        val_size: image_size of validation, pixels.
    """

    def __init__(self, metrics: MetricsCsv, *, val_metric: str, val_size: int) -> None:
        self._metrics = metrics
        self._val_metric = val_metric
        self._val_size = val_size
        self._since = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Starts the clock of an epoch that goes on, whose own start Lightning does not tell again."""
        self._since = time.perf_counter()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Starts the clock; in a resumed epoch it counts this process alone."""
        self._since = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Tells; validation is over by now."""
        if trainer.is_global_zero:
            tell(trainer, self._line(trainer))

    def _line(self, trainer: pl.Trainer) -> str:
        plan: SizePlan = trainer.datamodule.plan  # type: ignore[attr-defined]
        epoch = trainer.current_epoch
        steps = trainer.global_step - sum(plan.epoch_length(earlier) for earlier in range(epoch))
        rows = [row for row in self._metrics.rows if row.get("epoch") == str(epoch)]
        losses = [float(row["train/loss"]) for row in rows if "train/loss" in row]
        parts = [f"{steps:,} step{'' if steps == 1 else 's'} at {_sizes(plan, epoch)}"]
        if losses:
            parts.append(f"loss {mean(losses):.3f}")
        if self._val_metric in trainer.callback_metrics:
            parts.append(f"val top-1 {trainer.callback_metrics[self._val_metric].item():.2%} at {self._val_size} px")
        parts.append(f"{time.perf_counter() - self._since:.0f} s")
        return f"Epoch {epoch + 1}/{plan.num_epochs}: {', '.join(parts)}"


def _sizes(plan: SizePlan, epoch: int) -> str:
    sizes = {size for size in plan.image_sizes if plan.steps_at(size, epoch=epoch)}
    return f"{min(sizes)} px" if len(sizes) == 1 else f"{min(sizes)} to {max(sizes)} px"
