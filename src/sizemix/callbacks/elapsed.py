"""When each validation was, so that accuracy can be shown over time."""

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Timer

ELAPSED_SECONDS = "throughput/elapsed_seconds"


class Elapsed(pl.Callback):
    """Logs beside every validation how long training has taken, over all processes that a resumed run took.

    Args:
        timer: that counts.
    """

    def __init__(self, timer: Timer) -> None:
        self._timer = timer

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Reads the clock; that of the rank that has taken longest counts."""
        if not trainer.sanity_checking:
            seconds = self._timer.time_elapsed("train")
            pl_module.log(ELAPSED_SECONDS, seconds, sync_dist=True, reduce_fx="max")
