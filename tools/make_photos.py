"""Makes a folder of photos to try sizemix on: four shapes on noisy grounds, of many sizes and formats, some broken.

python tools/make_photos.py photos --images-per-class 60 --broken 3
"""

import argparse
import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

SHAPES = ("circle", "cross", "square", "triangle")
FORMATS = ("jpeg",) * 6 + ("grey", "cmyk", "png", "turned")
ORIENTATION_TAG, TURNED_LEFT = 0x0112, 8


def main() -> None:
    """Reads the arguments, writes the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images-per-class", type=int, default=60)
    parser.add_argument("--broken", type=int, default=3, help="cut-off or empty files in all, besides the others")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    make_photos(
        arguments.folder,
        images_per_class=arguments.images_per_class,
        broken=arguments.broken,
        rng=np.random.default_rng(arguments.seed),
    )
    print(f"{len(SHAPES) * arguments.images_per_class + arguments.broken} files in {arguments.folder}")


def make_photos(folder: Path, *, images_per_class: int, broken: int, rng: np.random.Generator) -> None:
    """A folder for each shape."""
    for shape in SHAPES:
        (folder / shape).mkdir(parents=True, exist_ok=True)
        for number in range(images_per_class):
            write(photo(shape, rng), folder / shape / f"{number:04}", kind=str(rng.choice(FORMATS)))
    for number in range(broken):
        shape = SHAPES[number % len(SHAPES)]
        whole = io.BytesIO()
        photo(shape, rng).save(whole, "jpeg")
        (folder / shape / f"broken{number}.jpg").write_bytes(whole.getvalue()[: 10 * (number % 2)])


def photo(shape: str, rng: np.random.Generator) -> Image.Image:
    """One shape somewhere on a ground of coarse noise, upright or lying, 120 to 700 px."""
    width, height = (int(side) for side in rng.integers(120, 700, 2))
    coarse = rng.integers(0, 200, (height // 40 + 1, width // 40 + 1, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    side = min(width, height) * rng.uniform(0.35, 0.8)
    left, top = rng.uniform(0, width - side), rng.uniform(0, height - side)
    colour = tuple(int(level) for level in rng.integers(120, 256, 3))
    draw(ImageDraw.Draw(image), shape, left, top, side, colour)
    return image


def draw(
    canvas: ImageDraw.ImageDraw, shape: str, left: float, top: float, side: float, colour: tuple[int, ...]
) -> None:
    """A shape in a square."""
    right, bottom, third = left + side, top + side, side / 3
    if shape == "circle":
        canvas.ellipse((left, top, right, bottom), fill=colour)
    elif shape == "square":
        canvas.rectangle((left, top, right, bottom), fill=colour)
    elif shape == "triangle":
        canvas.polygon([(left, bottom), (right, bottom), (left + side / 2, top)], fill=colour)
    else:
        canvas.rectangle((left + third, top, right - third, bottom), fill=colour)
        canvas.rectangle((left, top + third, right, bottom - third), fill=colour)


def write(image: Image.Image, stem: Path, *, kind: str) -> None:
    """As a camera, a scanner or a print shop might."""
    if kind == "png":
        image.save(stem.with_suffix(".png"))
    elif kind == "turned":  # stored lying, with a tag that says how to hold it
        exif = Image.Exif()
        exif[ORIENTATION_TAG] = TURNED_LEFT
        image.transpose(Image.Transpose.ROTATE_270).save(stem.with_suffix(".jpg"), quality=90, exif=exif)
    else:
        mode = {"grey": "L", "cmyk": "CMYK"}.get(kind, "RGB")
        image.convert(mode).save(stem.with_suffix(".jpg"), quality=90)


if __name__ == "__main__":
    main()
