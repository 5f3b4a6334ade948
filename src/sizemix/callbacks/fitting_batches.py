"""The batches of sizes.budget=memory: measured when a run begins, the same on all ranks, kept for its resumes."""

import csv
from collections.abc import Iterable
from pathlib import Path

import pytorch_lightning as pl
import torch
from torch import nn
from tqdm import tqdm

from sizemix.callbacks.memory_check import sharing_ranks
from sizemix.models.memory import step_fits
from sizemix.runs.tables import write_csv
from sizemix.sizes.budget import fitting_batches

# So many times the images must fit. On a CUDA device, where a step is tried: fragments, and whatever else is kept.
# On a CPU the estimate may be as low as 0.55 of the need (resnet20_cifar at 16 and 28 px; resnet50's is right).
_RESERVE = {"cpu": 2.0}
_RESERVE_ELSEWHERE = 1.1


class FittingBatches:
    """Finds the largest local batch of each size that fits into every rank's memory.

    Args:
        net: the network.
        path: where the table is kept, as image_size,local_batch_size; None measures in every process anew.
    """

    def __init__(self, net: nn.Module, path: Path | None = None) -> None:
        self._net = net
        self._path = path

    def __call__(self, trainer: pl.Trainer, *, image_sizes: Iterable[int], num_images: int) -> dict[int, int]:
        """The local batch of each size.

        Args:
            trainer: whose process group exists already, as in a callback's setup.
            image_sizes: sides in pixels.
            num_images: training images.

        Raises:
            UserError: not even one image fits.
        """
        if self._path is not None and self._path.exists():
            return _read(self._path)
        table = self._of_all_ranks(trainer, self._measured(trainer, image_sizes, num_images))
        if self._path is not None:
            trainer.strategy.barrier("all ranks have looked for the table")
            if trainer.is_global_zero:
                _write(table, self._path)
        return table

    def _measured(self, trainer: pl.Trainer, image_sizes: Iterable[int], num_images: int) -> dict[int, int]:
        device = trainer.strategy.root_device
        sharing = sharing_ranks(trainer)
        with tqdm(desc="Measuring what fits", unit="trial", leave=False, disable=None) as bar:

            def fits(image_size: int, local_batch_size: int) -> bool:
                bar.set_postfix_str(f"{local_batch_size} x {image_size} px")
                bar.update()
                return step_fits(
                    self._net,
                    image_size,
                    int(_RESERVE.get(device.type, _RESERVE_ELSEWHERE) * sharing * local_batch_size + 1),
                    device=device,
                    autocast=trainer.precision_plugin.forward_context,
                )

            shards = trainer.world_size * trainer.accumulate_grad_batches
            return fitting_batches(fits, image_sizes, num_images=num_images, num_shards=shards)

    def _of_all_ranks(self, trainer: pl.Trainer, table: dict[int, int]) -> dict[int, int]:
        batches = torch.tensor(list(table.values()), device=trainer.strategy.root_device)
        least = trainer.strategy.all_gather(batches).view(-1, len(table)).amin(0)
        return dict(zip(table, least.tolist(), strict=True))


def _write(table: dict[int, int], path: Path) -> None:
    write_csv(path, ["image_size", "local_batch_size"], sorted(table.items()))


def _read(path: Path) -> dict[int, int]:
    with path.open(newline="", encoding="utf-8") as file:
        return {int(row["image_size"]): int(row["local_batch_size"]) for row in csv.DictReader(file)}
