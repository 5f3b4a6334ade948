"""What arms are called: by the options in which they differ, in the words with which a user chose them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

import sizemix
from sizemix.comparison.reading import flat

_CONF = Path(sizemix.__file__).parent / "conf"
_GROUPS = ("data", "model", "sizes", "recipe", "augment", "trainer")
_SIZES = "sizes="
_LONGEST_VALUE = 28
_INTERPOLATION, _MANDATORY = "${", "???"

Options = Mapping[str, Any]


def differing_options(configs: Sequence[Options]) -> list[str]:
    """Names of the options that are not the same in all configurations; one that is absent is as good as null."""
    names = dict.fromkeys(name for config in configs for name in config)
    return [name for name in names if any(config.get(name) != configs[0].get(name) for config in configs)]


def arm_names(configs: Sequence[Options], run_names: Sequence[str] = ()) -> list[str]:
    """A name for each configuration, all different: "mixed (budget=B+)", "model=resnet50 (lr=0.1)", "fixres".

    A group's part is named by the shipped choice (conf/sizes/mixed.yaml) that it is nearest to; what that choice says
    itself, or follows from another option, is not repeated.

    Args:
        configs: options by full name.
        run_names: what the runs call themselves; where that says a choice of conf/arm/ for all, arms are called so.
    """
    differing = differing_options(configs)
    arms = [_shipped_arm(config, name) for config, name in zip(configs, run_names, strict=False)]
    known = [arm for arm in arms if arm is not None]
    shipped = known if len(known) == len(configs) and len(set(known)) > 1 else None
    parts: list[list[str]] = [[arm] for arm in shipped] if shipped else [[] for _ in configs]
    if shipped:
        differing = [name for name in differing if not _set_by_arms(name, configs, shipped)]
    groups = dict.fromkeys(name.partition(".")[0] for name in differing)
    for group in sorted(groups, key=lambda group: group != "sizes"):
        _add_group(parts, configs, group, differing, shipped)
    names = [_name(own, only_sizes=all(other and other[0].startswith(_SIZES) for other in parts)) for own in parts]
    return [_distinct(names, place) for place in range(len(names))]


def _name(parts: Sequence[str], *, only_sizes: bool) -> str:
    first, *others = parts or ["as configured"]
    if only_sizes:  # the usual question, for which "mixed" says enough
        first = first.removeprefix(_SIZES)
    return f"{first} ({', '.join(others)})" if others else first


def value_text(value: Any) -> str:
    """A value as it is written on the command line, short."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        items = [value_text(item) for item in value]
        text = f"[{', '.join(items)}]"
        return text if len(text) <= _LONGEST_VALUE or len(items) < 4 else f"[{items[0]}, {items[1]}, ..., {items[-1]}]"
    return str(value)


def _add_group(
    parts: list[list[str]],
    configs: Sequence[Options],
    group: str,
    differing: Sequence[str],
    shipped: Sequence[str] | None,
) -> None:
    names = [name for name in differing if name.partition(".")[0] == group]
    choices = [_choice(config, group) for config in configs]
    several = len(set(choices)) > 1 and (shipped is None or group != "sizes")
    kinds = shipped if shipped and group == "sizes" else choices
    for own, config, choice, kind in zip(parts, configs, choices, kinds, strict=True):
        peers = [other for other, of_other in zip(configs, kinds, strict=True) if of_other == kind]
        if several:
            own.append(f"{group}={choice or _class_name(config, group)}")
        for name in names:
            explained = choice is not None and _explained(config, group, choice, name)
            explained = explained or (kinds is shipped and name in _shipped_arms()[str(kind)].options)
            if not explained or any(_tells(other, config, name, choice) for other in peers):
                own.append(f"{_short(name, differing)}={value_text(config.get(name))}")


def _tells(other: Options, config: Options, name: str, choice: str | None) -> bool:
    """Whether an option tells two arms of one choice apart, and not the option from which it follows."""
    if other.get(name) == config.get(name):
        return False
    source = _choices(name.partition(".")[0])[choice].get(name) if choice is not None else None
    return _is_literal(source) or other.get(_source(source)) == config.get(_source(source))


def _source(interpolation: Any) -> str:
    """The option that ${...} names; nothing for ???."""
    return str(interpolation)[2:-1]


def _short(name: str, names: Sequence[str]) -> str:
    """The last part, unless another of the options ends alike."""
    last = name.rpartition(".")[2]
    return last if [other.rpartition(".")[2] for other in names].count(last) == 1 else name


def _class_name(config: Options, group: str) -> str:
    return str(config.get(f"{group}._target_", "own")).rpartition(".")[2]


def _choice(config: Options, group: str) -> str | None:
    """The shipped choice of a group with most values in common; None for a class of the user's own."""
    if group not in _GROUPS:
        return None
    found = ((name, _score(config, group, options)) for name, options in _choices(group).items())
    scores = {name: score for name, score in found if score is not None}
    return max(scores, key=lambda name: scores[name], default=None)


def _score(config: Options, group: str, options: Options) -> int | None:
    """Literal values in common less those that differ; a choice of another class is none."""
    literal = {name: value for name, value in options.items() if _is_literal(value)}
    if literal.get(f"{group}._target_") != config.get(f"{group}._target_"):
        return None
    return sum(1 if config.get(name) == value else -1 for name, value in literal.items())


def _explained(config: Options, group: str, choice: str, name: str) -> bool:
    """Whether a value is what the choice gives: written there, or following from another option."""
    if name not in _choices(group)[choice]:
        return config.get(name) is None
    given = _choices(group)[choice][name]
    if _is_literal(given):
        return bool(config.get(name) == given)
    return bool(given != _MANDATORY and config.get(name) == config.get(_source(given)))


def _is_literal(value: Any) -> bool:
    return not isinstance(value, str) or (_INTERPOLATION not in value and value != _MANDATORY)


def _set_by_arms(name: str, configs: Sequence[Options], shipped: Sequence[str]) -> bool:
    """Whether an option differs only by what the arms' files say."""
    others = [config.get(name) for config, arm in zip(configs, shipped, strict=True)
              if name not in _shipped_arms()[arm].options]  # fmt: skip
    return len(others) < len(configs) and all(value == others[0] for value in others)


@dataclass(frozen=True)
class _Arm:
    """A choice of conf/arm/: the choice of sizes it makes, the end of its runs' names, and the options it sets."""

    sizes: str | None
    ending: str
    options: Options


def _shipped_arm(config: Options, run_name: str) -> str | None:
    """The shipped arm by whose name a run goes and whose options it has."""
    fitting = [
        name
        for name, arm in _shipped_arms().items()
        if run_name.endswith(arm.ending)
        and arm.sizes in (None, _choice(config, "sizes"))
        and all(config.get(option) == value for option, value in arm.options.items())
    ]
    return max(fitting, key=lambda name: len(_shipped_arms()[name].ending), default=None)


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


def _distinct(names: Sequence[str], place: int) -> str:
    """The name, numbered where another arm has the same."""
    same = [other for other, name in enumerate(names) if name == names[place]]
    return names[place] if len(same) == 1 else f"{names[place]} ({same.index(place) + 1})"
