"""How closely size plans keep the shares that were asked for: timm's scheduled sampler and ours.

    python benchmarks/shares.py

The authors' CIFAR regime with B+ (larger batches at small sizes) on 50,000 images, ten epochs, 20 seeds. timm's sampler
draws a size for every batch, so it is given the probabilities that mean the wanted shares of images. The table goes
into docs/results.md.
"""

import argparse
import runpy
import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from timm.data import ScheduledBatchSampler

from sizemix.sizes.budget import step_shapes
from sizemix.sizes.plan import plan_run
from sizemix.sizes.schedule import MixedSizes

ROOT = Path(__file__).parents[1]
SHARES = {16: 0.2, 24: 0.3, 32: 0.3, 48: 0.2}  # of images
BUDGET: dict[str, Any] = {"budget": "B+", "base_size": 32, "base_batch_size": 64}
NUM_IMAGES, EPOCHS, SEEDS = 50_000, 10, 20

Epoch = list[tuple[int, int]]  # image_size and images of every step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--document", type=Path, default=ROOT / "docs" / "results.md")
    document = parser.parse_args().document
    tables = runpy.run_path(str(ROOT / "tools" / "tables.py"))
    columns = (
        "sampler",
        "a size off its share, worst",
        "median of the seeds",
        "steps of an epoch",
        "images of ten passes not shown",
    )
    rows = [row(f"timm {version('timm')}", timms), row("sizemix", ours)]
    print("\n".join(" | ".join(one) for one in (columns, *rows)))
    tables["write_table"](document, "shares", columns, rows)


def row(name: str, run_of: Callable[[int], list[Epoch]]) -> tuple[str, ...]:
    """Figures over all seeds; shares are those of the whole run, in points."""
    runs = [run_of(seed) for seed in range(SEEDS)]
    off = [farthest_off(run) for run in runs]
    steps = [len(epoch) for run in runs for epoch in run]
    missing = [EPOCHS * NUM_IMAGES - sum(images for epoch in run for _, images in epoch) for run in runs]
    return (
        name,
        f"{max(off):.2f} points",
        f"{statistics.median(off):.2f}",
        f"{min(steps):,} to {max(steps):,}",
        f"{min(missing)} to {max(missing)}",
    )


def farthest_off(run: Sequence[Epoch]) -> float:
    """Points by which the share of images of some size differs from the wanted one, over the whole run."""
    seen: Counter[int] = Counter()
    for epoch in run:
        for size, images in epoch:
            seen[size] += images
    return max(100 * abs(seen[size] / seen.total() - share) for size, share in SHARES.items())


def timms(seed: int) -> list[Epoch]:
    """The constant schedule, which drops what is left of an epoch."""
    sizes = tuple(SHARES)
    batches = [shape.global_batch_size for shape in step_shapes(sizes, **BUDGET).values()]
    weights = [share / batch for share, batch in zip(SHARES.values(), batches, strict=True)]
    sampler = ScheduledBatchSampler(range(NUM_IMAGES), batches, weights, seed=seed)
    return [[(sizes[choice], images) for choice, images in sampler.schedule] for _ in range(EPOCHS)]


def ours(seed: int) -> list[Epoch]:
    """The plan that a run would follow."""
    schedule = MixedSizes(tuple(SHARES), tuple(SHARES.values()))
    plan = plan_run(schedule, **BUDGET, num_images=NUM_IMAGES, num_epochs=EPOCHS, seed=seed)
    return [[(spec.image_size, spec.global_batch_size) for spec in plan.epoch_specs(epoch)] for epoch in range(EPOCHS)]


if __name__ == "__main__":
    main()
