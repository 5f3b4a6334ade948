"""sizemix trains one image classifier for many image sizes, and measures what that buys.

The names below are what a Lightning user needs to train at mixed sizes with a model and a Trainer of their own, and
load and Cascade, which put a finished run to use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sizemix.callbacks.gradient_smoothing import GradientSmoothing
    from sizemix.callbacks.size_scheduler import SizeScheduler
    from sizemix.data.batches import Batch
    from sizemix.data.datamodule import SizedDataModule
    from sizemix.data.sources import ImageDataset, Split, fashion_mnist
    from sizemix.inference.cascade import Cascade
    from sizemix.inference.loading import SizedClassifier, load
    from sizemix.sizes.schedule import MixedSizes

__version__ = "0.1.0"
__all__ = [
    "Batch",
    "Cascade",
    "GradientSmoothing",
    "ImageDataset",
    "MixedSizes",
    "SizeScheduler",
    "SizedClassifier",
    "SizedDataModule",
    "Split",
    "fashion_mnist",
    "load",
]

_HOMES = {
    "Batch": "data.batches",
    "Cascade": "inference.cascade",
    "GradientSmoothing": "callbacks.gradient_smoothing",
    "ImageDataset": "data.sources",
    "MixedSizes": "sizes.schedule",
    "SizeScheduler": "callbacks.size_scheduler",
    "SizedClassifier": "inference.loading",
    "SizedDataModule": "data.datamodule",
    "Split": "data.sources",
    "fashion_mnist": "data.sources",
    "load": "inference.loading",
}


def __getattr__(name: str) -> Any:
    """Imports a name when it is first used, so that planning and `--help` do not wait for torch and Lightning."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
