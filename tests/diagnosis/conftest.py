"""Settings, and photos to look at."""

import numpy as np
import pytest
from PIL import Image

from sizemix.diagnosis.setting import look_at_setting

TINY = (
    "sizes.image_sizes=[8,12]",
    "sizes.shares=[0.5,0.5]",
    "sizes.base_size=12",
    "recipe.base_batch_size=8",
    "evaluation.eval_sizes=[8,16]",
    "evaluation.batch_size=4",
    "trainer.accelerator=cpu",
)


@pytest.fixture
def setting(compose):
    """What the options say, and nothing wrong with it."""

    def looked_at(*overrides):
        found = []
        setting = look_at_setting(compose(*TINY, *overrides), None, None, found)
        assert {finding.verdict for finding in found} == {"ok"}, found
        return setting

    return looked_at


@pytest.fixture
def photos(tmp_path):
    """24 photos of 40 x 30 px in two classes, and a file that is none."""
    rng = np.random.default_rng(0)
    for name, number in (("cat", 12), ("dog", 12)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for at in range(number):
            pixels = rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{at:02}.jpg")
    (tmp_path / "photos" / "dog" / "broken.jpg").write_bytes(b"no image")
    return tmp_path / "photos"
