"""Curves of several arms over their seeds: a Markdown table (mean and standard deviation) and a picture.

    python benchmarks/curves.py fixed=multirun/fixed mixed=multirun/mixed --picture docs/images/fixed_vs_mixed.png

Each argument names an arm and the folder that holds its run folders.
"""

import argparse
import csv
import statistics
from pathlib import Path

from matplotlib.figure import Figure

COLOURS = ("#8c8c8c", "#0b6e99", "#c1582b", "#3a7d44")
STATISTICS = {"top1": "training statistics", "top1_recalibrated": "recalibrated"}

Curve = dict[int, list[float]]


def main() -> None:
    """Reads, prints, draws."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("arms", nargs="+", metavar="NAME=FOLDER")
    parser.add_argument("--picture", type=Path)
    arguments = parser.parse_args()
    arms = {name: Path(folder) for name, _, folder in (arm.partition("=") for arm in arguments.arms)}
    curves = {(name, column): read(folder, column) for name, folder in arms.items() for column in STATISTICS}
    print_table(curves)
    if arguments.picture:
        draw(curves, arguments.picture)


def read(folder: Path, column: str) -> Curve:
    """Top-1 in per cent of every run, by image size."""
    figures: Curve = {}
    for file in sorted(folder.glob("*/curve.csv")):
        with file.open(newline="") as opened:
            for row in csv.DictReader(opened):
                figures.setdefault(int(row["image_size"]), []).append(100 * float(row[column]))
    if not figures:
        raise SystemExit(f"expected run folders with a curve.csv in {folder}, found none.")
    return figures


def print_table(curves: dict[tuple[str, str], Curve]) -> None:
    """One row a size, one column an arm and kind of statistics."""
    print("| size |", " | ".join(f"{name}, {STATISTICS[column]}" for name, column in curves), "|")
    print("| ---: |", " | ".join("---:" for _ in curves), "|")
    for size in next(iter(curves.values())):
        cells = [f"{statistics.mean(c[size]):.1f} ± {statistics.stdev(c[size]):.1f}" for c in curves.values()]
        print(f"| {size} px |", " | ".join(cells), "|")


def draw(curves: dict[tuple[str, str], Curve], path: Path) -> None:
    """Mean over seeds, with the range of the seeds."""
    figure = Figure(figsize=(7, 4.4), layout="constrained")
    axes = figure.subplots()
    names = list(dict.fromkeys(name for name, _ in curves))
    for (name, column), curve in curves.items():
        colour = COLOURS[names.index(name)]
        recalibrated = column == "top1_recalibrated"
        sizes, figures = list(curve), list(curve.values())
        label = f"{name}, {STATISTICS[column]}"
        line = "o-" if recalibrated else "o--"
        axes.plot(sizes, [statistics.mean(f) for f in figures], line, color=colour, label=label, ms=5)
        if recalibrated:
            axes.fill_between(sizes, [min(f) for f in figures], [max(f) for f in figures], color=colour, alpha=0.15)
        axes.set_xticks(sizes)
    axes.set(xlabel="test image size (px)", ylabel="top-1 (%)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
