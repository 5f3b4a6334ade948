"""Configurations that name a class or function of the user's choice, called with one sentence for every mistake."""

import inspect
import re
from difflib import get_close_matches
from typing import Any

import hydra
from hydra.errors import InstantiationException
from omegaconf import DictConfig, OmegaConf

from sizemix.errors import UserError

TIMM = "sizemix.models.backbone.build_backbone"  # the _target_ of all shipped models
WITH_CUDA_GRAPHS = "reduce-overhead"  # of model.compile; torch.compile's name for it
NOT_THE_ARCHITECTURE = ("compile", "pretrained", "checkpoint")  # options of the model group that change no layer


def instantiate(settings: DictConfig, where: str, **more: Any) -> Any:
    """Calls what a _target_ names; a user's mistake inside it becomes a sentence that says where.

    Args:
        settings: _target_ and its arguments.
        where: the option that holds them.
        more: further arguments.

    Raises:
        UserError: the target is not there or does not take the arguments.
    """
    try:
        return hydra.utils.instantiate(settings, **more, _convert_="all")
    except InstantiationException as error:
        from pytorch_lightning.utilities.exceptions import MisconfigurationException  # seconds

        cause = error.__cause__
        if isinstance(cause, UserError):
            raise cause from error
        mistakes = (TypeError, ValueError, ImportError, MisconfigurationException)
        if isinstance(cause, (*mistakes, RuntimeError) if where == "trainer" else mistakes) or cause is None:
            raise UserError(f"{where}: {_what_to_change(settings, cause or error)}") from error
        raise


def _what_to_change(settings: DictConfig, error: Exception) -> str:
    """One sentence for an error of the class or function that was called, or of the one that is not there."""
    target, reason = str(settings._target_), " ".join(str(error).split()).rstrip(".")
    unknown = re.search(r"unexpected keyword argument '(\w+)'", reason)
    if unknown is None:
        return f"{target.rpartition('.')[2]} says: {reason}; change what this names."
    taken = list(inspect.signature(hydra.utils.get_object(target)).parameters)
    similar = get_close_matches(unknown[1], taken, n=1)
    remedy = f"did you mean {similar[0]}?" if similar else f"leave it out, or use {', '.join(taken)}."
    return f"expected options that {target} takes, got {unknown[1]}; {remedy}"


def without(settings: DictConfig, *names: str) -> DictConfig:
    """The settings that are not of those names."""
    rest = OmegaConf.create({name: value for name, value in plain(settings).items() if name not in names})
    assert isinstance(rest, DictConfig)
    return rest


def plain(settings: DictConfig) -> dict[str, Any]:
    """Plain values, as a checkpoint may hold them."""
    values = OmegaConf.to_container(settings, resolve=True)
    assert isinstance(values, dict)
    return {str(name): value for name, value in values.items()}
