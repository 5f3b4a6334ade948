"""The progress bar: epoch, step, current image size, loss, images a second."""

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import TQDMProgressBar

_LABELS = {
    "train/image_size": ("size", "{:.0f} px"),
    "train/loss": ("loss", "{:.3f}"),
    "throughput/images_per_second": ("images/s", "{:.0f}"),
}


class SizeProgressBar(TQDMProgressBar):
    """Lightning's bar with the figures of mixed-size training."""

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        """Size, loss and speed as last logged, and the last validation accuracy."""
        logged = trainer.callback_metrics
        shown = {label: form.format(logged[key].item()) for key, (label, form) in _LABELS.items() if key in logged}
        validation = {key: f"{value.item():.1%}" for key, value in logged.items() if key.startswith("val/top1")}
        return shown | validation
