"""The configuration of a run, for commands that look at it and start none."""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

import sizemix
from sizemix.cli.defaults import make_paths_absolute, with_fitting_recipe
from sizemix.cli.messages import one_sentence
from sizemix.cli.options import check_options
from sizemix.errors import UserError

CONF = Path(sizemix.__file__).parent / "conf"


def compose(arguments: Sequence[str], *, placeholders: Mapping[str, str] | None = None) -> DictConfig:
    """Composes what `sizemix train` would carry out for the same arguments, checked and resolved.

    Args:
        arguments: option=value, in Hydra's syntax.
        placeholders: values of mandatory options that the command does not need, by name; used where they are missing.

    Raises:
        UserError: an argument that is no option, several values of one, or an option that does not fit.
    """
    try:
        arguments = as_hydra_reads(_without_config_dir(arguments))
        _check_arguments(arguments)
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            config = hydra.compose("train", list(arguments), return_hydra_config=True)
            HydraConfig.instance().set_config(config)  # what the default of `name` asks for the groups' choices
            with open_dict(config):
                del config["hydra"]
            config = with_fitting_recipe(config, arguments)
        for name in set(placeholders or {}) & OmegaConf.missing_keys(config):
            OmegaConf.update(config, name, (placeholders or {})[name])
        check_options(config)
        make_paths_absolute(config)
        OmegaConf.resolve(config)
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(one_sentence(error)) from error
    return config


def as_hydra_reads(arguments: Sequence[str]) -> list[str]:
    """Arguments of which model.kwargs may have any key, and all values any letter.

    Hydra wants ++ before a key that no configuration file has, and quotes around letters that are not English ones.
    """
    opened = [f"++{argument}" if argument.startswith("model.kwargs.") else argument for argument in arguments]
    return [_quoted(argument) for argument in opened]


def _quoted(argument: str) -> str:
    """In Hydra's quotes, unless the user has put some or has written a list or more."""
    name, is_option, value = argument.partition("=")
    if not is_option or value.isascii() or set(value) & set("\"'[]{}()$\\"):
        return argument
    parts = ",".join(f"'{part}'" for part in value.split(","))
    return f"{name}={parts}"


def prepared(config: DictConfig, overrides: Sequence[str]) -> DictConfig:
    """A composed configuration with what follows from it, checked; while Hydra is still set up.

    Args:
        config: as composed from the overrides.
        overrides: of this run.

    Raises:
        UserError: an option that does not fit.
    """
    config = with_fitting_recipe(config, overrides)
    check_options(config)
    make_paths_absolute(config)
    return config


def _without_config_dir(arguments: Sequence[str]) -> list[str]:
    """--config-dir FOLDER, as sizemix train takes it, as the override that does the same."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config-dir", "-cd")
    found, others = parser.parse_known_args(list(arguments))
    if found.config_dir is None:
        return others
    folder = Path(found.config_dir).absolute()
    if not folder.is_dir():
        raise UserError(f"--config-dir: expected a folder, got {found.config_dir}, which is none.")
    return [*others, f"hydra.searchpath=[{json.dumps(f'file://{folder}')}]"]


def _check_arguments(arguments: Sequence[str]) -> None:
    for argument in arguments:
        if argument in ("-m", "--multirun"):
            raise UserError(f"expected the options of one run, got {argument}; only sizemix train starts sweeps.")
        if argument.startswith("-"):
            name = argument.lstrip("-").partition("=")[0]
            raise UserError(f"expected option=value, got {argument}; options have no dashes, as in {name}=VALUE.")
        if argument.startswith("resume="):
            raise UserError(f"expected the options of a new run, got {argument}; only sizemix train resumes runs.")
    for override in OverridesParser.create().parse_overrides(list(arguments)):
        if override.is_sweep_override():
            raise UserError(
                f"expected the options of one run, got several values in {override.input_line}; give one of them, or "
                "write a list as [1,2]."
            )
