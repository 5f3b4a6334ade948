"""What several tests need: a tiny data set, a configuration composed as the command would, finished runs."""

import os
import runpy
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import hydra
import numpy as np
import pytest
import torch
from omegaconf import DictConfig
from timm.models import register_model

from sizemix.cli.compose import CONF
from sizemix.data import sources
from sizemix.data.sources import ImageDataset, Split
from sizemix.models.resnet_cifar import ResNetCifar
from sizemix.runs.folder import RunFolder
from sizemix.training.run import carry_out

os.environ["WANDB_SILENT"] = "true"
# Networks and images here are so small that a second thread costs more than it brings; processes started by tests
# inherit this.
os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(1)


@register_model
def resnet8_cifar(
    pretrained: bool = False, *, num_classes: int = 10, drop_path_rate: float = 0.0, **of_timm: object
) -> ResNetCifar:
    """One block a stage, for runs in this process where the depth shows nothing: a third of ResNet-20's time."""
    return ResNetCifar(1, num_classes=num_classes, drop_path_rate=drop_path_rate)


@pytest.fixture(scope="session", autouse=True)
def _few_test_images():
    """Runs in this process look at 200 validation and 400 test images: evaluation took longer than training."""
    whole = sources.fashion_mnist

    def head(split, num_images):
        return split.subset(sources.balanced_head(split.targets, num_images, num_classes=10))

    def fashion_mnist(**options):
        dataset = whole(**options)
        return replace(dataset, val=head(dataset.val, 200), test=head(dataset.test, 400))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "fashion_mnist", fashion_mnist)
        yield


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


_QUICK = (
    "trainer.accelerator=cpu",
    "trainer.enable_progress_bar=false",
    "trainer.log_every_n_steps=1",
    "recipe.base_batch_size=20",
    "evaluation.calibration_images=40",
    "evaluation.measure=gflops",
    "name=tiny",
)


def _finished(path, *options):
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        folder = RunFolder.create(path, hydra.compose("train", [*_QUICK, *options]))
    carry_out(folder)
    return folder


@pytest.fixture(scope="session")
def small_run(tmp_path_factory):
    """Of a ResNet-20 on the embedded images, at 12, 16 and 20 px."""
    return _finished(
        tmp_path_factory.mktemp("small") / "run",
        "data.train_images=400",
        "trainer.max_epochs=2",
        "sizes.image_sizes=[12,20]",
        "sizes.shares=[0.5,0.5]",
        "sizes.base_size=20",
        "evaluation.eval_sizes=[12,16,20]",
    )


@pytest.fixture
def copied(small_run, tmp_path):
    """The same run, to be changed."""
    shutil.copytree(small_run.path, tmp_path / "copy")
    return RunFolder(tmp_path / "copy")


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """A folder of 64 photos of four classes."""
    folder = tmp_path_factory.mktemp("photos") / "photos"
    make_photos = runpy.run_path(str(Path(__file__).parents[1] / "tools" / "make_photos.py"))["make_photos"]
    make_photos(folder, images_per_class=16, broken=0, rng=np.random.default_rng(0))
    return folder


@pytest.fixture(scope="session", params=["test_resnet", "test_vit"])
def photo_run(request, tmp_path_factory, photos):
    """Of a network with batch norms, and of one without, on photos at 64 and 96 px."""
    return _finished(
        tmp_path_factory.mktemp("photo") / "run",
        *("data=folder", f"data.root={photos}", "data.num_workers=0", "data.test_fraction=0.3"),
        *("model=timm", f"model.name={request.param}", "recipe=adamw", "recipe.base_batch_size=8"),
        *("sizes=fixed", "sizes.base_size=64", "evaluation.eval_sizes=[64,96]", "trainer.max_epochs=1"),
    )
