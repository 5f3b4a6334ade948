"""What several tests need: a tiny data set, and a configuration composed as the command would."""

import os
from collections.abc import Callable

import hydra
import pytest
import torch
from omegaconf import DictConfig

from sizemix.cli.compose import CONF
from sizemix.data.sources import ImageDataset, Split

os.environ["WANDB_SILENT"] = "true"
# Networks and images here are so small that a second thread costs more than it brings; processes started by tests
# inherit this.
os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(1)


@pytest.fixture
def tiny_dataset() -> ImageDataset:
    """40 training, 12 validation and 12 test images of 8 x 8 grey pixels, two classes that brightness tells apart."""

    def split(num_images: int, seed: int) -> Split:
        generator = torch.Generator().manual_seed(seed)
        targets = torch.arange(num_images) % 2
        noise = torch.randint(0, 60, (num_images, 1, 8, 8), generator=generator)
        return Split((noise + 150 * targets.view(-1, 1, 1, 1)).to(torch.uint8), targets, crop_padding=1)

    half = (0.5, 0.5, 0.5)
    return ImageDataset("tiny", split(40, 0), split(12, 1), split(12, 2), ("dark", "bright"), mean=half, std=half)


@pytest.fixture
def compose() -> Callable[..., DictConfig]:
    """Composes conf/train.yaml with overrides, names filled in as Hydra would."""

    def composed(*overrides: str) -> DictConfig:
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            return hydra.compose("train", [*overrides, "name=test"])

    return composed
