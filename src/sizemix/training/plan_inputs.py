"""What a plan takes from a configuration; imports no torch, so that planning starts at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, ListConfig

from sizemix.sizes.schedule import SizeSchedule
from sizemix.training.instantiate import instantiate, without

if TYPE_CHECKING:
    from sizemix.data.sources import DataSource

_FOR_OTHERS = ("base_size", "eval_sizes", "size_multiple", "calibration_transform", "num_workers")


@dataclass(frozen=True)
class Images:
    """What a plan and a network need to know of a data set.

    Attributes:
        num_images: of a training pass.
        num_classes: outputs of the network.
    """

    num_images: int
    num_classes: int


def size_schedule(config: DictConfig) -> SizeSchedule:
    """Whatever class or function sizes._target_ names, given every key of the group that is not the budget's.

    Raises:
        UserError: sizes that do not fit.
    """
    schedule: SizeSchedule = instantiate(without(config.sizes, "budget", "share_of"), "sizes")
    return schedule


def source_settings(config: DictConfig) -> DictConfig:
    """What data._target_ is called with: every key of the group that is not for others."""
    return without(config.data, *_FOR_OTHERS)


def count_images(config: DictConfig) -> Images:
    """Opens the data set as training does, which reads the header of every file.

    Raises:
        UserError: what the source says of the user's data.
    """
    return images_of(config, instantiate(source_settings(config), "data"))


def images_of(config: DictConfig, dataset: "DataSource") -> Images:
    """Counts those of an opened data set."""
    from sizemix.data.balance import oversampled_number

    targets = dataset.train.targets
    oversample = config.training.imbalance == "oversample"
    return Images(oversampled_number(targets) if oversample else len(targets), len(dataset.class_names))


def plan_settings(config: DictConfig) -> dict[str, Any]:
    """The arguments of plan_run and of SizeScheduler that are values of the configuration."""
    return {
        "budget": config.sizes.budget,
        "base_size": config.sizes.base_size,
        "base_batch_size": config.recipe.base_batch_size,
        "seed": config.seed,
        "share_of": config.sizes.share_of,
        "last_epoch": config.training.last_epoch,
    }


def num_shards(config: DictConfig) -> int:
    """Parts that a step is cut into: ranks times micro-batches."""
    return int(num_devices(config) * config.trainer.num_nodes * config.trainer.accumulate_grad_batches)


def num_devices(config: DictConfig) -> int:
    """Devices of one machine that trainer.devices asks for: a number, a list, or all of them."""
    devices = config.trainer.devices
    if isinstance(devices, str) and devices != "auto":  # "0,1" are two, "3," is number 3, "3" are three
        devices = devices.strip(",").split(",") if "," in devices else int(devices)
    if isinstance(devices, Sequence | ListConfig) and not isinstance(devices, str):
        return len(devices)
    if isinstance(devices, int) and devices > 0:
        return devices
    return 1 if config.trainer.accelerator == "cpu" else max(1, _num_gpus())


def _num_gpus() -> int:
    import torch  # seconds, which only those who ask for all devices should wait

    return torch.accelerator.device_count()
