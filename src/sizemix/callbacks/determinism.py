"""Makes dropout and stochastic depth depend on (seed, rank, batch) alone, and keeps the thread count."""

from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch

from sizemix.data.batches import Batch


class Determinism(pl.Callback):
    """Seeds torch's generators before every batch, as a checkpoint does not hold them.

    The number of CPU threads is kept with the checkpoint: sums over another number of threads round differently.

    Args:
        seed: seed of the run.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Seeds from (seed, rank, number of the batch in the run)."""
        assert batch.item is not None
        sequence = np.random.SeedSequence([self._seed, 3, trainer.global_rank, batch.item])
        _seed(int(sequence.generate_state(1)[0]), pl_module.device)

    def state_dict(self) -> dict[str, Any]:
        """The thread count."""
        return {"num_threads": torch.get_num_threads()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the thread count."""
        torch.set_num_threads(state_dict["num_threads"])


def _seed(seed: int, device: torch.device) -> None:
    """As torch.manual_seed, which takes a part of a millisecond for all the kinds of device that are not used."""
    torch.default_generator.manual_seed(seed)
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(seed)
