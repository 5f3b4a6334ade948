"""Small folders of photos."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def save_photo(path: Path, *, width: int = 48, height: int = 32, level: int = 100, **options) -> Path:
    """A photo of one colour, brighter to the right, so that crops and mirrors differ."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ramp = np.linspace(0, 50, width).astype(np.uint8)
    pixels = np.broadcast_to((level + ramp)[None, :, None], (height, width, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return path


@pytest.fixture
def photos(tmp_path):
    """Two classes, twenty photos each; their brightness tells them apart."""
    for label, name in enumerate(("dark", "light")):
        for number in range(20):
            save_photo(tmp_path / "photos" / name / f"{number:03}.png", level=20 + 120 * label + number)
    return tmp_path / "photos"


@pytest.fixture
def large_photos(tmp_path):
    """JPEGs that are decoded at a half, a quarter or an eighth for small sizes."""
    for name in ("even", "odd"):
        for number in range(6):
            save_photo(tmp_path / "large" / name / f"{number}.jpg", width=900, height=700, level=60 + 20 * number)
    return tmp_path / "large"
