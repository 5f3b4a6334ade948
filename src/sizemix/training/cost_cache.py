"""Training costs that were measured before, so that a plan need not build the network again."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from sizemix import __version__
from sizemix.runs.atomic import write_atomically


def cached_costs(
    architecture: Mapping[str, Any],
    image_sizes: Iterable[int],
    *,
    measure: Callable[[list[int]], Mapping[int, float]],
    folder: Path | None = None,
) -> dict[int, float]:
    """The cost of each size; where an earlier command has not measured all of them, they are measured now and kept.

    Args:
        architecture: what the network is built from, in plain values; costs are kept for it and for these versions of
            torch, timm and sizemix.
        image_sizes: sides in pixels.
        measure: the cost of sizes, as models.backbone.training_flops gives it.
        folder: where costs are kept, a file an architecture; None: sizemix's folder in the user's cache.
    """
    versions = {"sizemix": __version__, "torch": version("torch"), "timm": version("timm")}
    key = json.dumps({**architecture, "versions": versions}, sort_keys=True)
    name = hashlib.sha256(key.encode()).hexdigest()[:16]
    file = (folder or user_cache_path("sizemix")) / "training_flops" / f"{name}.json"
    sizes = sorted(image_sizes)
    known = _read(file)
    if not known.keys() >= set(sizes):
        known |= measure(sizes)  # all of them, as only together they show whether the cost follows the size
        text = json.dumps({str(size): cost for size, cost in sorted(known.items())})
        with suppress(OSError):  # a home that cannot be written to
            write_atomically(file, lambda opened: opened.write(text.encode()))
    return {size: known[size] for size in sizes}


class CostBySize(dict[int, float]):
    """Training cost of an image by image_size; of further sizes, as a longer schedule may bring, when first asked for.

    Args:
        known: costs by image_size.
        measure: the cost of sizes, as models.backbone.training_flops gives it.
    """

    def __init__(self, known: Mapping[int, float], *, measure: Callable[[list[int]], Mapping[int, float]]) -> None:
        super().__init__(known)
        self._measure = measure

    def __missing__(self, image_size: int) -> float:
        self.update(self._measure([image_size]))
        return self[image_size]


def _read(file: Path) -> dict[int, float]:
    try:
        return {int(size): float(cost) for size, cost in json.loads(file.read_text()).items()}
    except (OSError, ValueError):  # not measured yet, or damaged: measured anew
        return {}
