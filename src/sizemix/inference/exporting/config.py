"""config.json of all formats, with timm's names."""

from collections.abc import Sequence
from typing import Any

from sizemix import __version__
from sizemix.inference.exporting.subject import Subject

CONFIG = "config.json"


def configuration(subject: Subject, *, image_sizes: Sequence[int]) -> dict[str, Any]:
    """Architecture, classes, input, and where it comes from.

    Args:
        subject: what is exported.
        image_sizes: sides in pixels at which the files answer as the run's network does; one: they take no other.
    """
    seen = subject.preprocessing
    return {
        "architecture": subject.architecture,
        "num_classes": len(subject.class_names),
        "label_names": list(subject.class_names),
        "pretrained_cfg": {
            "input_size": [3, subject.image_size, subject.image_size],
            "fixed_input_size": len(image_sizes) == 1,
            "mean": list(seen.mean),
            "std": list(seen.std),
            "interpolation": seen.interpolation,
            "crop_pct": seen.crop_ratio,
            "crop_mode": "center",
            "num_classes": len(subject.class_names),
        },
        "sizemix": {
            "version": __version__,
            "run": subject.summary["name"],
            "data": subject.summary["data"],
            "batch_norm_statistics_of_px": subject.image_size if subject.recalibrated else None,
            "checked_at_px": sorted(image_sizes),
            "not_for_px": sorted(set(subject.image_sizes) - set(image_sizes)),
        },
    }
