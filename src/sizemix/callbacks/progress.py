"""What a terminal or a log shows of training: a bar with the current step, and whatever else is told meanwhile."""

import sys
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import TQDMProgressBar
from pytorch_lightning.utilities.types import STEP_OUTPUT

from sizemix.data.batches import Batch

# The validation accuracy comes first: what does not fit into a narrow terminal is cut off at the end.
_LABELS = {
    "val/top1": ("val", "{:.1%}"),
    "train/loss": ("loss", "{:.3f}"),
    "image_size": ("px", "{:.0f}"),
    "throughput/images_per_second": ("images/s", "{:.0f}"),
}


def tell(trainer: pl.Trainer, text: str) -> None:
    """Prints a line that stays, above the bar where there is one."""
    bar = trainer.progress_bar_callback
    if bar is None or (isinstance(bar, TQDMProgressBar) and bar.is_disabled):
        print(text, flush=True)
    else:
        bar.print(text)


class SizeProgressBar(TQDMProgressBar):
    """Lightning's bar with the figures of mixed-size training, in 80 columns; a log file gets none.

    Args:
        refresh_rate: batches between two looks at it.
    """

    BAR_FORMAT = "{desc} {n_fmt}/{total_fmt} |{bar}| {remaining} left{postfix}"

    def __init__(self, refresh_rate: int = 1) -> None:
        super().__init__(refresh_rate)
        self._epoch: int | None = None
        self._image_size: int | None = None
        if not sys.stdout.isatty():
            self.disable()

    def on_train_epoch_start(self, trainer: pl.Trainer, *arguments: Any) -> None:
        """Names the epoch as all other lines do."""
        super().on_train_epoch_start(trainer, *arguments)
        self.train_progress_bar.set_description(f"Epoch {trainer.current_epoch + 1}/{trainer.max_epochs}")

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Begins where the run does, which may go on within an epoch; Lightning does not tell the start of that."""
        if self._epoch == trainer.current_epoch:
            return
        self._epoch = trainer.current_epoch
        if batch_idx:
            self.on_train_epoch_start(trainer)
            self.train_progress_bar.initial = self.train_progress_bar.n = batch_idx

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: STEP_OUTPUT, batch: Batch, batch_idx: int
    ) -> None:
        """Keeps the size of the newest batch."""
        self._image_size = batch.image_size
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        """The size of the newest batch; validation accuracy, loss and speed as last logged."""
        figures: dict[str, Any] = {key.partition("@")[0]: value for key, value in trainer.callback_metrics.items()}
        if self._image_size is not None:
            figures["image_size"] = self._image_size
        return {label: form.format(float(figures[key])) for key, (label, form) in _LABELS.items() if key in figures}
