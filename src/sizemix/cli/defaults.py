"""What a run is configured with where the user does not say: the recipe follows from the model."""

from collections.abc import Sequence

import hydra
from omegaconf import DictConfig


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
