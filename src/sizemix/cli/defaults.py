"""What follows from a user's configuration: the recipe from the model, whole paths from relative ones."""

from collections.abc import Sequence
from pathlib import Path

import hydra
from omegaconf import DictConfig, OmegaConf

_PATHS = ("data.root", "data.split_file", "model.checkpoint")


def with_fitting_recipe(config: DictConfig, overrides: Sequence[str]) -> DictConfig:
    """A model with trained weights gets recipe=finetune, unless the user chose a recipe or an experiment; it says so.

    Args:
        config: as composed from the overrides.
        overrides: of this job; Hydra is still set up when it runs.
    """
    trained = config.model.get("pretrained") or config.model.get("checkpoint")
    chosen = any(override.partition("=")[0] in ("recipe", "experiment") for override in overrides)
    if not trained or chosen:
        return config
    print("The model has trained weights: using recipe=finetune. Choose another with recipe=...", flush=True)
    return hydra.compose("train", [*overrides, "recipe=finetune"])


def make_paths_absolute(config: DictConfig) -> None:
    """A run is resumed from wherever the user then stands."""
    for name in _PATHS:
        path = OmegaConf.select(config, name)
        if isinstance(path, str):
            OmegaConf.update(config, name, str(Path(path).expanduser().absolute()))
