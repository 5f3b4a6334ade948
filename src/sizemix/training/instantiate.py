"""Configurations that name a class or function of the user's choice, called with one sentence for every mistake."""

from typing import Any

import hydra
from hydra.errors import InstantiationException
from omegaconf import DictConfig, OmegaConf

from sizemix.errors import UserError


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
        if isinstance(cause, TypeError | ValueError | ImportError | MisconfigurationException) or cause is None:
            reason = " ".join(str(cause or error).split())
            raise UserError(f"{where}: {reason.rstrip('.')}; see conf/ for what it takes.") from error
        raise


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
