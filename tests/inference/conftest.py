"""Finished runs to load: one on images in memory, one on photos."""

import runpy
from pathlib import Path

import hydra
import numpy as np
import pytest

from sizemix.cli.compose import CONF
from sizemix.runs.folder import RunFolder
from sizemix.training.run import carry_out

_QUICK = (
    "trainer.accelerator=cpu",
    "trainer.enable_progress_bar=false",
    "trainer.log_every_n_steps=1",
    "recipe.base_batch_size=20",
    "evaluation.calibration_images=40",
    "evaluation.measure=gflops",
    "name=tiny",
)


def finished(path, *options):
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        folder = RunFolder.create(path, hydra.compose("train", [*_QUICK, *options]))
    carry_out(folder)
    return folder


@pytest.fixture(scope="session")
def small_run(tmp_path_factory):
    """Of a ResNet-20 on the embedded images, at 12, 16 and 20 px."""
    return finished(
        tmp_path_factory.mktemp("small") / "run",
        "data.train_images=400",
        "trainer.max_epochs=2",
        "sizes.image_sizes=[12,20]",
        "sizes.shares=[0.5,0.5]",
        "sizes.base_size=20",
        "evaluation.eval_sizes=[12,16,20]",
    )


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """A folder of 64 photos of four classes."""
    folder = tmp_path_factory.mktemp("photos") / "photos"
    make_photos = runpy.run_path(str(Path(__file__).parents[2] / "tools" / "make_photos.py"))["make_photos"]
    make_photos(folder, images_per_class=16, broken=0, rng=np.random.default_rng(0))
    return folder


@pytest.fixture(scope="session", params=["test_resnet", "test_vit"])
def photo_run(request, tmp_path_factory, photos):
    """Of a network with batch norms, and of one without, on photos at 64 and 96 px."""
    return finished(
        tmp_path_factory.mktemp("photo") / "run",
        *("data=folder", f"data.root={photos}", "data.num_workers=0", "data.test_fraction=0.3"),
        *("model=timm", f"model.name={request.param}", "recipe=adamw", "recipe.base_batch_size=8"),
        *("sizes=fixed", "sizes.base_size=64", "evaluation.eval_sizes=[64,96]", "trainer.max_epochs=1"),
    )
