"""Which functions a run's config.yaml may name: a run folder may come from somebody else, and to call is to execute."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from sizemix.errors import UserError
from sizemix.training.instantiate import plain

# Whole names, as a beginning such as "sizemix." would reach every module that one of ours imports.
SHIPPED_TARGETS = frozenset(
    (
        "pytorch_lightning.Trainer",
        "sizemix.data.cifar.cifar",
        "sizemix.data.folder.folder",
        "sizemix.data.pack.pack",
        "sizemix.data.sources.fashion_mnist",
        "sizemix.models.backbone.build_backbone",
    )
)


def check_targets(*settings: DictConfig, where: Path, trust_target: bool) -> None:
    """Refuses to call what sizemix does not ship, however deep in the settings it stands.

    Args:
        settings: groups of a run's configuration that are about to be instantiated.
        where: the run's folder.
        trust_target: call it nevertheless.

    Raises:
        UserError: another function.
    """
    named = (target for group in settings for target in _targets(plain(group)))
    foreign = next((target for target in named if target not in SHIPPED_TARGETS), None)
    if foreign is not None and not trust_target:
        raise UserError(
            f"{where}: expected a run of what sizemix ships, got {foreign} in its config.yaml, which would be called; "
            "if you trust it, say trust_target=True (--trust-target)."
        )


def _targets(settings: Any) -> Iterator[str]:
    if isinstance(settings, dict):
        if "_target_" in settings:
            yield str(settings["_target_"])
        settings = list(settings.values())
    if isinstance(settings, list):
        for value in settings:
            yield from _targets(value)
