"""What a terminal or a log shows of training: a bar with the current step, and whatever else is told meanwhile."""

import sys
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import TQDMProgressBar

# The validation accuracy comes first: what does not fit into a narrow terminal is cut off at the end.
_LABELS = {
    "train/loss": ("loss", "{:.3f}"),
    "train/image_size": ("px", "{:.0f}"),
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
        self._begins = False
        if not sys.stdout.isatty():
            self.disable()

    def on_train_epoch_start(self, trainer: pl.Trainer, *arguments: Any) -> None:
        """Names the epoch as all other lines do."""
        super().on_train_epoch_start(trainer, *arguments)
        self.train_progress_bar.set_description(f"Epoch {trainer.current_epoch + 1}/{trainer.max_epochs}")
        self._begins = True

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Begins where the run does: a resumed one may be in the middle of an epoch."""
        if self._begins:
            self.train_progress_bar.initial = self.train_progress_bar.n = batch_idx
            self._begins = False

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        """The last validation accuracy, and loss, size and speed as last logged."""
        logged = trainer.callback_metrics
        validation = [("val", f"{value.item():.1%}") for key, value in logged.items() if key.startswith("val/top1")]
        shown = {label: form.format(logged[key].item()) for key, (label, form) in _LABELS.items() if key in logged}
        return dict(validation) | shown
