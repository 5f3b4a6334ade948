"""The BN bank: batch-norm statistics of many image sizes, in a small file beside the checkpoint they belong to."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from sizemix.errors import UserError
from sizemix.models.batchnorm import Statistics, batch_norm_statistics
from sizemix.runs.atomic import write_atomically

_KIND = "sizemix BN bank 1"


@dataclass(frozen=True)
class Calibration:
    """What statistics were measured with.

    Attributes:
        num_images: training images.
        batch_size: images of a batch; statistics are the mean over batches.
        transform: test (shown as test images are) or train (with training augmentation).
    """

    num_images: int
    batch_size: int
    transform: str


@dataclass(frozen=True)
class BatchNormBank:
    """Statistics by image_size, for one network.

    Attributes:
        weights: digest of everything in the network but its statistics.
        calibration: how they were measured.
        statistics: by image_size; empty for a network without batch norms.
    """

    weights: str
    calibration: Calibration
    statistics: Mapping[int, Statistics] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """As a .safetensors file: tensors SIZE/NAME, and what they belong to."""
        tensors = {
            f"{size}/{name}": value.cpu().contiguous()
            for size, by_name in self.statistics.items()
            for name, value in by_name.items()
        }
        told = {"kind": _KIND, "weights": self.weights, "calibration": json.dumps(asdict(self.calibration))}
        contents = safetensors.torch.save(tensors, metadata=told)
        write_atomically(path, lambda file: file.write(contents))

    @classmethod
    def load(cls, path: Path) -> "BatchNormBank":
        """Reads a bank; such a file holds no code.

        Raises:
            UserError: it is not there, damaged, or something else.
        """
        told: Mapping[str, Any]
        try:
            with safe_open(path, framework="pt") as file:
                told = file.metadata() or {}
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # no mapping
            if told.get("kind") != _KIND:
                raise ValueError(f"it is of kind {told.get('kind')}")
            weights, calibration = told["weights"], Calibration(**json.loads(told["calibration"]))
            statistics: dict[int, dict[str, Tensor]] = {}
            for key, value in tensors.items():
                size, _, name = key.partition("/")
                statistics.setdefault(int(size), {})[name] = value
        except (OSError, SafetensorError, ValueError, TypeError, KeyError) as error:
            raise UserError(
                f"expected a BN bank, got {path} ({' '.join(str(error).split())}); make it anew by `sizemix evaluate`."
            ) from error
        return cls(weights, calibration, dict(sorted(statistics.items())))

    def check(self, net: nn.Module, path: Path) -> None:
        """Refuses the statistics of another network.

        Raises:
            UserError: the bank was made for other weights, or for other batch norms.
        """
        own = batch_norm_statistics(net)
        fits = all(
            {name: value.shape for name, value in statistics.items()}
            == {name: value.shape for name, value in own.items()}
            for statistics in self.statistics.values()
        )
        if not fits or self.weights != weights_digest(net):
            raise UserError(
                f"{path} holds the batch-norm statistics of other weights than this checkpoint's; make them anew by "
                "`sizemix evaluate`."
            )

    def belongs_to(self, other: "BatchNormBank") -> bool:
        """Whether both are of the same network, measured alike."""
        return (self.weights, self.calibration) == (other.weights, other.calibration)

    def with_more(self, older: "BatchNormBank") -> "BatchNormBank":
        """This one, and the sizes that an older one has beyond, if they belong together."""
        statistics = {**(older.statistics if self.belongs_to(older) else {}), **self.statistics}
        return BatchNormBank(self.weights, self.calibration, dict(sorted(statistics.items())))

    def nearest(self, image_size: int) -> int:
        """The size that is next to one; of two the smaller."""
        return min(self.statistics, key=lambda size: (abs(size - image_size), size))


def weights_digest(net: nn.Module) -> str:
    """Names everything in a network but its batch-norm statistics, wherever it is and in whatever memory order."""
    digest = hashlib.sha256()
    statistics = batch_norm_statistics(net)
    for name, value in sorted(net.state_dict().items()):
        if name not in statistics and not name.endswith("num_batches_tracked"):
            digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
            digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
