"""Which files could not be read, whichever rank has met them."""

import pytorch_lightning as pl

from sizemix.data.datamodule import SizedDataModule
from sizemix.evaluation.ranks import gathered


def share_unreadable(datamodule: SizedDataModule) -> None:
    """Lets every rank know of the files that any of them could not read; to be called by all ranks."""
    datamodule.unreadable = set().union(*gathered(datamodule.unreadable))


class SharedUnreadable(pl.Callback):
    """Shares them when an epoch ends, so that its checkpoint, which rank 0 writes, names all of them."""

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Shares; LastCheckpoint saves behind this."""
        datamodule = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(datamodule, SizedDataModule)
        share_unreadable(datamodule)
