"""Which shipped choices (conf/sizes/mixed.yaml, conf/arm/fixres.yaml) a configuration is, and what follows of that."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

import sizemix
from sizemix.comparison.reading import flat

_CONF = Path(sizemix.__file__).parent / "conf"
GROUPS = ("data", "model", "sizes", "recipe", "augment", "trainer")
_INTERPOLATION, _MANDATORY = "${", "???"

Options = Mapping[str, Any]


def choice(config: Options, group: str) -> str | None:
    """The shipped choice of a group with most values in common; None for a class of the user's own."""
    if group not in GROUPS:
        return None
    found = ((name, _score(config, group, options)) for name, options in _choices(group).items())
    scores = {name: score for name, score in found if score is not None}
    return max(scores, key=lambda name: scores[name], default=None)


def kind(config: Options, group: str) -> str:
    """The choice, or the class's name."""
    return choice(config, group) or str(config.get(f"{group}._target_", "own")).rpartition(".")[2]


def explained(config: Options, name: str, shipped: str | None) -> bool:
    """Whether a value is what the choice of its group gives: written there, or following from another option."""
    if shipped is None:
        return False
    options = _choices(name.partition(".")[0])[shipped]
    if name not in options:
        return config.get(name) is None
    given = options[name]
    if _is_literal(given):
        return bool(config.get(name) == given)
    return bool(given != _MANDATORY and config.get(name) == config.get(_source(given)))


def tells(other: Options, config: Options, name: str, shipped: str | None) -> bool:
    """Whether an option tells two arms of one choice apart, and not the option from which it follows."""
    if other.get(name) == config.get(name):
        return False
    source = None if shipped is None else _choices(name.partition(".")[0])[shipped].get(name)
    return _is_literal(source) or other.get(_source(source)) == config.get(_source(source))


def shipped_arm(config: Options, run_name: str) -> str | None:
    """The shipped arm by whose name a run goes and whose options it has."""
    fitting = [
        name
        for name, arm in _shipped_arms().items()
        if run_name.endswith(arm.ending)
        and arm.sizes in (None, choice(config, "sizes"))
        and all(config.get(option) == value for option, value in arm.options.items())
    ]
    return max(fitting, key=lambda name: len(_shipped_arms()[name].ending), default=None)


def is_default_name(config: Options, run_name: str) -> bool:
    """Whether a run is called by its network and its choice of sizes or arm, as conf/ does it."""
    endings = [*(f"-{name}" for name in _choices("sizes")), *(arm.ending for arm in _shipped_arms().values())]
    model = config.get("model.name")
    return any(run_name.endswith(end) if model is None else run_name == f"{model}{end}" for end in endings)


def set_by_arms(name: str, configs: Sequence[Options], shipped: Sequence[str]) -> bool:
    """Whether an option differs only by what the arms' files say."""
    others = [config.get(name) for config, arm in zip(configs, shipped, strict=True)
              if name not in _shipped_arms()[arm].options]  # fmt: skip
    return len(others) < len(configs) and all(value == others[0] for value in others)


def arm_options(name: str) -> Options:
    """The options that a shipped arm sets."""
    return _shipped_arms()[name].options


@dataclass(frozen=True)
class _Arm:
    """A choice of conf/arm/: the choice of sizes it makes, the end of its runs' names, and the options it sets."""

    sizes: str | None
    ending: str
    options: Options


def _score(config: Options, group: str, options: Options) -> int | None:
    """Literal values in common less those that differ; a choice of another class is none."""
    literal = {name: value for name, value in options.items() if _is_literal(value)}
    if literal.get(f"{group}._target_") != config.get(f"{group}._target_"):
        return None
    return sum(1 if config.get(name) == value else -1 for name, value in literal.items())


def _is_literal(value: Any) -> bool:
    return not isinstance(value, str) or (_INTERPOLATION not in value and value != _MANDATORY)


def _source(interpolation: Any) -> str:
    """The option that ${...} names; nothing for ???."""
    return str(interpolation)[2:-1]


@cache
def _shipped_arms() -> dict[str, _Arm]:
    arms = {}
    for file in sorted((_CONF / "arm").glob("*.yaml")):
        content = OmegaConf.to_container(OmegaConf.load(file), resolve=False)
        assert isinstance(content, dict)
        choices = [one["override /sizes"] for one in content.pop("defaults", []) if "override /sizes" in one]
        ending = str(content.pop("name")).rpartition("}")[2]
        arms[file.stem] = _Arm(choices[0] if choices else None, ending, dict(flat(content)))
    return arms


@cache
def _choices(group: str) -> dict[str, dict[str, Any]]:
    """Options of a group's shipped choices, by the choice's name."""
    return {file.stem: _options(group, file.stem) for file in sorted((_CONF / group).glob("*.yaml"))}


def _options(group: str, choice: str) -> dict[str, Any]:
    content = OmegaConf.to_container(OmegaConf.load(_CONF / group / f"{choice}.yaml"), resolve=False)
    assert isinstance(content, dict)
    inherited: dict[str, Any] = {}
    for parent in content.pop("defaults", []):
        if isinstance(parent, str) and parent != "_self_":
            inherited |= _options(group, parent)
    return inherited | {f"{group}.{name}": value for name, value in flat(content)}
