"""Plans ImageNet training with every shipped sizes= and writes the plans as a table into docs/methods.md.

    python tools/regimes.py

1,281,167 images, base size 224, batch 256, 90 epochs, resnet50: what `sizemix plan` prints for the arguments below, one
row a choice. mixed_cifar is planned for CIFAR-10 instead.
"""

import sys
from pathlib import Path

from tables import write_table

from sizemix.cli.compose import compose
from sizemix.sizes.plan import SizePlan
from sizemix.sizes.spending import spending
from sizemix.training.forecast import forecast
from sizemix.training.plan_inputs import Images

DOCS = Path(__file__).parents[1] / "docs" / "methods.md"
IMAGENET = ("data=imagenet", "data.root=.", "model=resnet50", "recipe.base_batch_size=256", "trainer.max_epochs=90")
CIFAR = ("data=cifar10", "data.root=.", "model=resnet44_cifar", "recipe.base_batch_size=64", "trainer.max_epochs=200")
FURTHER = {"finetuned": ("training.train_only=head_and_last_norm", "training.train_only_part=0.125")}
COLUMNS = ("sizes=", "budget", "size: % of images, batch x copies", "mean side", "rms side", "steps / epoch", "compute",
           "source")  # fmt: skip

SOURCES = {
    "alternating": "He et al. 2014 (1406.4729): 180 and 224 px, as with sizes.multiple_of=4",
    "finetuned": "FixRes, Touvron et al. 2019 (1906.06423): the last eighth at 8/7 of the size",
    "fixed": "",
    "mixed": "the paper's mean 224, around the base size",
    "mixed_cifar": "the authors' CIFAR regime",
    "mixed_fast": "the paper's mean 144, around the base size",
    "mixed_imagenet": "the authors' regime",
    "mixed_imagenet_fast": "the authors' regime",
    "progressive_mixed": "timm 1.0.31's progressive schedule",
    "ramp": "progressive resizing, as MosaicML's Composer and FFCV's ImageNet code do it",
    "range": "",
    "stages": "Tan & Le 2021 (2104.00298): 4 stages",
}


def main() -> int:
    """Plans every choice."""
    choices = sorted(path.stem for path in (DOCS.parents[1] / "conf" / "sizes").glob("*.yaml"))
    rows = [(f"`{choice}`", *figures(planned(choice)), SOURCES[choice]) for choice in choices]
    write_table(DOCS, "regimes", COLUMNS, rows)
    return 0


def planned(choice: str) -> tuple[SizePlan, str]:
    """The plan of a choice, and its budget."""
    arguments, images = (CIFAR, Images(50_000, 10)) if choice == "mixed_cifar" else (IMAGENET, Images(1_281_167, 1000))
    config = compose([*arguments, f"sizes={choice}", *FURTHER.get(choice, ())])
    return forecast(config, images, probe=False).plan, config.sizes.budget


def figures(plan_and_budget: tuple[SizePlan, str]) -> tuple[str, ...]:
    """A table's cells."""
    plan, budget = plan_and_budget
    spent = spending(plan)
    sizes = "; ".join(
        f"{row.image_size}: {100 * row.image_share:.0f} %, {plan.inputs.shapes[row.image_size].global_batch_size}"
        f" x {plan.inputs.shapes[row.image_size].num_repeats}"
        for row in spent.sizes
    )
    return (
        budget,
        sizes,
        f"{spent.mean_size:.0f}",
        f"{spent.rms_size:.0f}",
        f"{plan.num_steps / plan.num_epochs:,.0f}",
        f"{spent.relative_cost:.2f}",
    )


if __name__ == "__main__":
    sys.exit(main())
