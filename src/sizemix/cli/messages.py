"""Errors of the configuration libraries, told as one sentence."""

from collections import defaultdict
from collections.abc import Sequence
from difflib import get_close_matches

from hydra.errors import MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError

_ALSO_CALLED = {"learning_rate": "lr", "optimizer": "opt", "workers": "num_workers", "gpus": "devices"}
_LISTS_OF_SIZES = ("image_sizes", "relative_sizes", "shares")


def one_sentence(error: Exception) -> str:
    """What was expected, what came, and what to do, without line breaks."""
    if isinstance(error, OverrideParseException):
        name, is_option, value = str(error.override).partition("=")
        form = f"\"{name}='{value}'\"" if is_option else "\"option='value'\""
        return f"expected option=value, got {error.override}; a value with signs like , [ ] ( ) is written {form}."
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


def _elsewhere(key: str, part: DictConfig) -> list[str]:
    """Options of all groups whose last part is like the key, the likest first."""
    root = part._get_root()
    names = defaultdict[str, list[str]](list)
    for group in ("trainer", "recipe", "recipe.optimizer", "data", "model", "sizes", "evaluation", "training"):
        options = OmegaConf.select(root, group)
        for name in options if isinstance(options, DictConfig) else ():
            names[str(name)].append(f"{group}.{name!s}")
    likest = get_close_matches(_ALSO_CALLED.get(key, key), names, n=2)
    return [full for name in likest for full in names[name]][:2]


def _unknown_choice(path: str, choices: Sequence[str]) -> str:
    group, _, choice = path.rpartition("/")
    hint = "; any other timm model is model=timm model.name=NAME" if group == "model" else ""
    return f"{group}: expected one of {', '.join(choices)}, got {choice}{hint}."


def _unknown_option(full_key: str, siblings: DictConfig) -> str:
    group, _, key = full_key.rpartition(".")
    if group == "sizes" and key in _LISTS_OF_SIZES:
        hint = "; sizes=mixed takes lists of sizes and shares."
    elif full_key == "data.root":
        hint = "; photos of your own are data=folder data.root=FOLDER."
    else:
        similar = get_close_matches(key, [str(name) for name in siblings], n=1) or _elsewhere(key, siblings)
        hint = f"; did you mean {' or '.join(similar)}?" if similar else "."
    known = ", ".join(sorted(str(name) for name in siblings if name not in ("hydra", "_target_")))
    return f"unknown option {full_key}: expected one of those {f'of {group}' if group else 'there are'}: {known}{hint}"
