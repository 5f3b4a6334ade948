"""Errors of the configuration libraries, told as one sentence."""

from collections.abc import Sequence
from difflib import get_close_matches

from hydra.errors import MissingConfigException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import ConfigAttributeError, ConfigKeyError

_LISTS_OF_SIZES = ("image_sizes", "relative_sizes", "shares")


def one_sentence(error: Exception) -> str:
    """What was expected, what came, and what to do, without line breaks."""
    if isinstance(error, OverrideParseException):
        return (
            f"expected option=value, got {error.override}; put quotes around a value with commas, brackets or spaces."
        )
    if isinstance(error, MissingConfigException) and error.options:
        return _unknown_choice(str(error.missing_cfg_file), error.options)
    unknown = next(
        (one for one in (error, error.__cause__) if isinstance(one, ConfigAttributeError | ConfigKeyError)), None
    )
    if unknown is not None and isinstance(unknown.parent_node, DictConfig):
        return _unknown_option(str(unknown.full_key), unknown.parent_node)
    message = " ".join(str(error).split()).rstrip(".")
    if message.startswith("Ambiguous value"):
        return f"{message.split(' 1. ')[0]}: several values are a sweep; add -m, or write a list as [1,2]."
    return f"{message}."


def _unknown_choice(path: str, choices: Sequence[str]) -> str:
    group, _, choice = path.rpartition("/")
    hint = "; any other timm model is model=timm model.name=NAME" if group == "model" else ""
    return f"{group}: expected one of {', '.join(choices)}, got {choice}{hint}."


def _unknown_option(full_key: str, siblings: DictConfig) -> str:
    group, _, key = full_key.rpartition(".")
    similar = get_close_matches(key, [str(name) for name in siblings], n=1)
    if group == "sizes" and key in _LISTS_OF_SIZES:
        hint = "; sizes=mixed takes lists of sizes and shares."
    else:
        hint = f"; did you mean {similar[0]}?" if similar else "."
    known = ", ".join(sorted(str(name) for name in siblings if name not in ("hydra", "_target_")))
    return f"unknown option {full_key}: expected one of those {f'of {group}' if group else 'there are'}: {known}{hint}"
