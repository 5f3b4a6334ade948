"""README.md of an export: what the network is, how good it is, how it is loaded, and what it cannot do."""

from collections.abc import Iterator, Mapping
from typing import Any

from sizemix import __version__
from sizemix.inference.exporting.checking import Checked
from sizemix.inference.exporting.subject import Subject


def card(subject: Subject, *, checked: Checked, loading: str, library: str) -> str:
    """Markdown with the hub's header.

    Args:
        subject: what is exported.
        checked: how it agrees with the run's network.
        loading: Python that loads it.
        library: what loads it, as the hub names it.
    """
    return "\n".join([*_head(subject, library), *_accuracy(subject), *_use(subject, checked, loading),
                      *_training(subject), *_limits(subject, checked)]) + "\n"  # fmt: skip


def _head(subject: Subject, library: str) -> Iterator[str]:
    summary = subject.summary
    yield from ("---", "tags:", "- image-classification", "- sizemix", "pipeline_tag: image-classification")
    yield from (f"library_name: {library}", "---", f"# {summary['name']} at {subject.image_size} px", "")
    yield f"{subject.architecture}, {len(subject.class_names)} classes, trained on {summary['data']} by sizemix"
    yield f"{summary['versions']['sizemix']}, exported for images of {subject.image_size} px by sizemix {__version__}."
    if subject.recalibrated:
        yield f"Its batch-norm statistics were measured at {subject.image_size} px."


def _accuracy(subject: Subject) -> Iterator[str]:
    curve, costs = subject.summary["curve"], {one["image_size"]: one for one in subject.summary["cost"]}
    timed = all(cost["latency_ms"] is not None for cost in costs.values())
    on = f", time on {subject.summary['cost_measured_on']}" if timed else ""
    yield from ("", "## Accuracy and cost by image size", "")
    yield f"Of {curve[0]['num_images']:,} test images, with the 95 % interval; cost of an image's forward pass"
    yield f"(a multiply-add is two){on}."
    if subject.recalibrated:
        yield "Each size has batch-norm statistics of its own."
    columns = ["image size", "top-1", "interval", "GFLOPs", *(["ms"] if timed else [])]
    yield from ("", f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}")
    for point in curve:
        cost, size = costs[point["image_size"]], point["image_size"]
        best = point["top1"] if point["top1_recalibrated"] is None else point["top1_recalibrated"]
        cells = [f"**{size} px**" if size == subject.image_size else f"{size} px", f"{best:.2%}"]
        cells += [f"{point['top1_low']:.1%} to {point['top1_high']:.1%}", f"{cost['gflops']:.3g}"]
        cells += [f"{cost['latency_ms']:.3g}"] if timed else []
        yield f"| {' | '.join(cells)} |"


def _use(subject: Subject, checked: Checked, loading: str) -> Iterator[str]:
    seen, size = subject.preprocessing, subject.image_size
    yield from ("", "## Use", "", "```python", loading, "```", "")
    yield f"`images` is (batch, 3, {size}, {size}), float32: short side to {round(size / seen.crop_ratio)} px"
    yield f"({seen.interpolation}, antialiased), the middle {size} x {size} px cut out, scaled to [0, 1], less the mean"
    yield f"{_listed(seen.mean)}, divided by {_listed(seen.std)}. `logits` is"
    yield f"(batch, {len(subject.class_names)}); config.json names the classes. The files were {checked}."


def _training(subject: Subject) -> Iterator[str]:
    summary, config = subject.summary, subject.config
    spent = [row for row in summary["plan"]["spending"]["sizes"] if row["steps"]]
    yield from ("", "## Training", "")
    yield f"- sizes, and the share of images shown at each: {', '.join(_share(row) for row in spent)}"
    trained = summary["trained"]
    yield f"- {trained['steps']:,} steps, {trained['images_seen']:,} images seen, seed {summary['seed']}"
    budget = config.sizes.get("budget", "constant")
    yield f"- batch {config.recipe.base_batch_size} at {config.sizes.base_size} px, {budget}"
    optimizer = ", ".join(f"{name} {value}" for name, value in config.recipe.optimizer.items())
    yield f"- optimizer: {optimizer}"
    yield f"- begun from {_origin(config.model)}"
    yield f"- {summary['world_size']} x {summary['device']}, {summary['precision']}; {_versions(summary)}"


def _limits(subject: Subject, checked: Checked) -> Iterator[str]:
    yield from ("", "## Limits", "")
    yield "- The figures hold for images like those of the test; other cameras, crops or classes were not tried."
    yield f"- {_sizes(subject, checked)}"
    if subject.recalibrated:
        yield f"- The batch-norm statistics are those of {subject.image_size} px: for another size export again."
    if subject.image_size not in [point["image_size"] for point in subject.summary["curve"]]:
        yield f"- The accuracy at {subject.image_size} px is not among the figures above."
    yield "- Probabilities are those of softmax, not calibrated; the run's curve.csv has the calibration error."
    yield "- The terms of the data, and of weights that training began from, apply; this file states none."


def _sizes(subject: Subject, checked: Checked) -> str:
    if len(checked.image_sizes) == 1:
        return f"It takes images of {subject.image_size} px alone."
    if checked.refused:
        return "Of other sizes it takes those named above; any that was not checked may be refused or answered wrongly."
    low, high = min(checked.image_sizes), max(checked.image_sizes)
    return (
        f"That it answers as the run's network does was checked for square images of {low} to {high} px, at the ends "
        "and in between; smaller and larger ones were not tried."
    )


def _versions(summary: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {number}" for name, number in summary["versions"].items())


def _share(row: Mapping[str, Any]) -> str:
    return f"{row['image_size']} px {row['image_share']:.0%}"


def _origin(model: Mapping[str, Any]) -> str:
    if model.get("checkpoint"):
        return "weights of a file"  # its path says nothing elsewhere
    return "timm's published weights" if model.get("pretrained") else "random weights"


def _listed(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)
