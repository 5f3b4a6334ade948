"""Keeps a run that early stopping has ended from training on when it is resumed for its evaluation."""

import pytorch_lightning as pl
from pytorch_lightning.callbacks import EarlyStopping
from pytorch_lightning.callbacks.early_stopping import EarlyStoppingReason


class StayStopped(pl.Callback):
    """Repeats the decision that a checkpoint holds: Lightning restores it and does not act on it.

    The time limit needs nothing like this, as Lightning's Timer looks at the time when training begins.

    Args:
        early_stopping: the callback that decides.
    """

    def __init__(self, early_stopping: EarlyStopping) -> None:
        self._early_stopping = early_stopping

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stops before the first step; the checkpoint's state has been restored by now."""
        if self._early_stopping.stopping_reason is not EarlyStoppingReason.NOT_STOPPED:
            trainer.should_stop = True
