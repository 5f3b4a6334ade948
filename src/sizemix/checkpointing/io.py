"""How checkpoints are written and read."""

from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from sizemix.runs.atomic import write_atomically


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's checkpoint reading and writing, with an atomic write; reading never unpickles code."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Path | None = None
    ) -> None:
        """Writes a checkpoint.

        Args:
            checkpoint: plain values and tensors.
            path: the file.
            storage_options: where the file that stands there goes, which Lightning hands on from its
                save_checkpoint; None drops it.

        Raises:
            DiskFullError: no room for it.
        """
        write_atomically(Path(path), lambda file: torch.save(checkpoint, file), previous=storage_options)

    def load_checkpoint(
        self, path: str | Path, map_location: Any = "cpu", weights_only: bool | None = True
    ) -> dict[str, Any]:
        """Reads a checkpoint of plain values and tensors."""
        loaded: dict[str, Any] = torch.load(path, map_location=map_location, weights_only=True)
        return loaded
