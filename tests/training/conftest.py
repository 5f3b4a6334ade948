from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image


@pytest.fixture
def photos(tmp_path: Path) -> Callable[[dict[str, int]], Path]:
    """Writes so many small JPEGs into each folder, of a colour each."""

    def write(number_by_folder: dict[str, int]) -> Path:
        for name, number in number_by_folder.items():
            folder = tmp_path / "photos" / name
            folder.mkdir(parents=True)
            for at in range(number):
                Image.new("RGB", (24, 16), (10 * at, 100, 200 - 10 * at)).save(folder / f"{at:03}.jpg")
        return tmp_path / "photos"

    return write
