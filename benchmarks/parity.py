"""Does decoding only what a crop needs cost accuracy? Runs with data.decode_gap at its default and far beyond it.

    python benchmarks/parity.py --source FOLDER [--seeds 3] [--epochs 8]

FOLDER holds train/CLASS/ and test/CLASS/ with small images, as CIFAR-10's. They are enlarged (bicubic, about 300 px,
JPEG of quality 90) into a temporary folder; then `data=folder` trains and tests at 64 px, once from crops decoded at a
half or less where the gap allows it, once from crops decoded in full. Runs of a seed share order, crops and initial
weights; the table of their final test top-1 goes into docs/results.md.
"""

import argparse
import csv
import itertools
import runpy
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import stats

from sizemix.data.cropping import GAP, denominator
from sizemix.data.crops import NUM_CROP_DRAWS, RandomResizedCrop

ROOT = Path(__file__).parents[1]
SIZE = 64
CROP_SCALE = (0.35, 1.0)  # cuts away less than the default, for short training
GAPS = {"fast": GAP, "full": 1000.0}  # no crop has so many pixels for each of its 64: nothing is decoded smaller
FIGURES = {"training statistics": "top1", "recalibrated": "top1_recalibrated"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--train-images", type=int, default=2000)
    parser.add_argument("--test-images", type=int, default=1000)
    parser.add_argument("--model", default="test_resnet")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--document", type=Path, default=ROOT / "docs" / "results.md")
    arguments = parser.parse_args()
    found: dict[str, list[dict[str, float]]] = {arm: [] for arm in GAPS}
    with tempfile.TemporaryDirectory() as made:
        photos = Path(made) / "photos"
        for split, number in (("train", arguments.train_images), ("test", arguments.test_images)):
            enlarge(arguments.source / split, photos / split, number)
        print(f"{share_of_smaller_crops(photos):.0%} of training crops are decoded at less than full size", flush=True)
        for seed, arm in itertools.product(range(arguments.seeds), GAPS):
            run = Path(made) / f"{arm}-{seed}"
            found[arm].append(trained(photos, run, arm=arm, seed=seed, model=arguments.model, epochs=arguments.epochs))
            print(f"seed {seed}, {arm}: {found[arm][-1]}", flush=True)
    columns, rows = table(found)
    write_table = runpy.run_path(str(ROOT / "tools" / "tables.py"))["write_table"]
    write_table(arguments.document, "parity", columns, rows)
    print("\n".join(" | ".join(row) for row in (columns, *rows)))


def enlarge(source: Path, destination: Path, number: int) -> None:
    """The first images of every class, equally many, at ten times their size or about that."""
    classes = sorted(folder for folder in source.iterdir() if folder.is_dir())
    files = [file for folder in classes for file in sorted(folder.iterdir())[: number // len(classes)]]
    for folder in classes:
        (destination / folder.name).mkdir(parents=True)

    def save(file: Path) -> None:
        aspect = np.random.default_rng(sum(file.stem.encode())).uniform(0.85, 1.18)  # as photos are rarely square
        width, height = round(300 * aspect**0.5), round(300 / aspect**0.5)
        with Image.open(file) as small:
            large = small.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
        large.save(destination / file.parent.name / f"{file.stem}.jpg", quality=90)

    with ThreadPoolExecutor() as threads:
        list(threads.map(save, files))


def share_of_smaller_crops(photos: Path) -> float:
    """The part of training's crops that the default gap decodes at less than full size."""
    crop, random = RandomResizedCrop(scale=CROP_SCALE), np.random.default_rng(0)
    boxes = []
    for file in photos.glob("train/*/*.jpg"):
        with Image.open(file) as photo:
            boxes.append(crop.box(*photo.size, image_size=SIZE, draws=random.random(NUM_CROP_DRAWS)))
    return statistics.mean(denominator([box], image_size=SIZE, gap=GAP) > 1 for box in boxes)


def trained(photos: Path, run: Path, *, arm: str, seed: int, model: str, epochs: int) -> dict[str, float]:
    """Final test top-1, in per cent, of a run in a process of its own."""
    options = {
        "data": "folder",
        "data.root": photos,
        "data.decode_gap": GAPS[arm],
        "data.crop_scale": f"[{CROP_SCALE[0]},{CROP_SCALE[1]}]",
        "data.num_workers": 1,
        "data.eval_sizes": f"[{SIZE}]",
        "model": "timm",
        "model.name": model,
        "sizes": "fixed",
        "sizes.base_size": SIZE,
        "recipe.optimizer.lr": 0.1,
        "evaluation.calibration_images": 1280,
        "evaluation.measure": "gflops",
        "trainer": "cpu",
        "trainer.max_epochs": epochs,
        "trainer.enable_progress_bar": "false",
        "seed": seed,
        "hydra.run.dir": run,
    }
    command = [sys.executable, str(ROOT / "train.py"), *(f"{name}={value}" for name, value in options.items())]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    with (run / "curve.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    return {name: 100 * float(row[key]) for name, key in FIGURES.items()}


def table(found: dict[str, list[dict[str, float]]]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Both arms, and the mean of the seeds' differences with its 95 % interval."""
    rows = []
    for name in FIGURES:
        fast, full = ([run[name] for run in found[arm]] for arm in GAPS)
        differences = [one - other for one, other in zip(fast, full, strict=True)]
        error = statistics.stdev(differences) / len(differences) ** 0.5
        interval = stats.t.ppf(0.975, len(differences) - 1) * error
        each = ", ".join(f"{difference:+.1f}" for difference in differences)
        means = (f"{statistics.mean(top1):.1f} ± {statistics.stdev(top1):.1f}" for top1 in (fast, full))
        rows.append((name, *means, each, f"{statistics.mean(differences):+.1f} ± {interval:.1f}"))
    columns = ("test top-1 at 64 px", f"gap {GAP:g}", "full decoding", "differences, by seed", "mean, 95 % interval")
    return columns, rows


if __name__ == "__main__":
    main()
