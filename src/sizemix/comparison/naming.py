"""What arms are called: in their user's words where these tell them apart, and by no more options than that takes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sizemix.comparison.choices import (
    GROUPS,
    Options,
    arm_options,
    choice,
    explained,
    is_default_name,
    kind,
    set_by_arms,
    shipped_arm,
    tells,
)

_LONGEST_VALUE = 28
_BUDGET = "sizes.budget"  # with the sizes it is the method, so that it is said wherever sizes are and it is not theirs

Features = Mapping[str, Sequence[Any]]  # what may tell arms apart: each arm's choice of a group, or value of an option


@dataclass(frozen=True)
class Naming:
    """Names of arms.

    Attributes:
        names: all different.
        untold: groups and options, as a name would say them, in which arms differ without a name that says so.
    """

    names: list[str]
    untold: list[str]


def differing_options(configs: Sequence[Options]) -> list[str]:
    """Names of the options that are not the same in all configurations; one that is absent is as good as null."""
    names = dict.fromkeys(name for config in configs for name in config)
    return [name for name in names if any(config.get(name) != configs[0].get(name) for config in configs)]


def named(configs: Sequence[Options], run_names: Sequence[str] = ()) -> Naming:
    """A name for each configuration: "mixed (budget=B+)", "model=resnet50", "fixres", or the runs' own.

    Arms are called as their runs are, where a user has named these and no two alike; else by arm=; else by their sizes.
    Those that are called alike get the fewest options that tell them apart. A group's part is named by the shipped
    choice (conf/sizes/mixed.yaml) that it is nearest to; what follows from that or another option is no difference.

    Args:
        configs: options by full name.
        run_names: what the runs of each call themselves; empty where they do not agree.
    """
    labels = _labels(configs, run_names or [""] * len(configs))
    keys = _keys(configs, labels)
    names, found, said = [""] * len(configs), set[str](), [set[str]() for _ in configs]
    for label in dict.fromkeys(labels.texts):
        places = [place for place, other in enumerate(labels.texts) if other == label]
        own_keys = [key for key in keys if labels.by != "arm" or key not in arm_options(label)]
        features = _features([configs[place] for place in places], own_keys)
        fewest = _fewest(features, len(places), always=_BUDGET if labels.by == "sizes" else None)
        for number, place in enumerate(places):
            names[place] = _name(label, {_short(key, keys): features[key][number] for key in fewest})
            said[place] = set(fewest)
        found |= set(features)
    told = {
        key
        for key in found
        if all(key in own or _in_label(config, key, labels) for config, own in zip(configs, said, strict=True))
    }
    untold = [_short(key, keys) for key in keys if key in found - told]
    return Naming([_distinct(names, place) for place in range(len(names))], untold)


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


@dataclass(frozen=True)
class _Labels:
    """What arms are called before any option, and by what: their runs' names, arm=, their sizes, or nothing yet."""

    texts: Sequence[str]
    by: Literal["run", "arm", "sizes", "nothing"]


def _labels(configs: Sequence[Options], run_names: Sequence[str]) -> _Labels:
    chosen = [not is_default_name(config, name) for config, name in zip(configs, run_names, strict=True)]
    if all(run_names) and any(chosen) and len(set(run_names)) == len(configs):
        return _Labels(run_names, "run")
    arms = [shipped_arm(config, name) for config, name in zip(configs, run_names, strict=True)]
    known = [arm for arm in arms if arm is not None]
    if len(known) == len(configs) and len(set(known)) > 1:
        return _Labels(known, "arm")
    kinds = [kind(config, "sizes") for config in configs]
    return _Labels(kinds, "sizes") if len(set(kinds)) > 1 else _Labels([""] * len(configs), "nothing")


def _in_label(config: Options, key: str, labels: _Labels) -> bool:
    """Whether an arm's label says it: the sizes, and what follows from their choice."""
    if labels.by not in ("arm", "sizes"):
        return False
    return key == "sizes" or (key.startswith("sizes.") and explained(config, key, choice(config, "sizes")))


def _keys(configs: Sequence[Options], labels: _Labels) -> list[str]:
    """Groups and options in which configurations differ, by more than arm= has set; the sizes first."""
    options = differing_options(configs)
    if labels.by == "arm":
        options = [name for name in options if not set_by_arms(name, configs, labels.texts)]
    keys: list[str] = []
    groups = dict.fromkeys(name.partition(".")[0] for name in options)
    for group in sorted(groups, key=lambda group: group != "sizes"):
        if group in GROUPS and len({kind(config, group) for config in configs}) > 1:
            keys.append(group)
        keys += [name for name in options if name.partition(".")[0] == group]
    return keys


def _features(configs: Sequence[Options], keys: Sequence[str]) -> Features:
    """Of the keys, what does not follow from another one for all of these configurations."""
    features: dict[str, Sequence[Any]] = {}
    for key in keys:
        if key in GROUPS:
            features[key] = [kind(config, key) for config in configs]
        elif not _follows(configs, key):
            features[key] = [config.get(key) for config in configs]
    return features


def _follows(configs: Sequence[Options], name: str) -> bool:
    """Whether every value of an option is what the choice of its group gives, or comes from another option."""
    shipped = [choice(config, name.partition(".")[0]) for config in configs]
    return not any(
        not explained(config, name, own)
        or any(
            tells(other, config, name, own) for other, of_other in zip(configs, shipped, strict=True) if of_other == own
        )
        for config, own in zip(configs, shipped, strict=True)
    )


def _fewest(features: Features, number: int, *, always: str | None) -> list[str]:
    """The features that tell so many arms apart: first what divides most, numbers rather than lists; none in vain.

    Args:
        features: of the arms.
        number: of arms.
        always: a feature that is said in any case.
    """

    def told_apart(keys: Sequence[str]) -> int:
        return len({repr([features[key][arm] for key in keys]) for arm in range(number)})

    taken = [] if always is None or always not in features else [always]
    while len(taken) < len(features):
        best = max(features, key=lambda key: (told_apart([*taken, key]), not _has_lists(features[key])))
        if told_apart([*taken, best]) == told_apart(taken):
            break
        taken.append(best)
    for key in [key for key in taken if key != always]:
        rest = [other for other in taken if other != key]
        taken = rest if told_apart(rest) == told_apart(taken) else taken
    return [key for key in features if key in taken]


def _has_lists(values: Sequence[Any]) -> bool:
    return any(isinstance(value, list | tuple) for value in values)


def _name(label: str, said: Mapping[str, Any]) -> str:
    parts = [f"{key}={value_text(value)}" for key, value in said.items() if value is not None or not label]
    first, *others = [label, *parts] if label else parts or ["as configured"]
    return f"{first} ({', '.join(others)})" if others else first


def _short(name: str, names: Sequence[str]) -> str:
    """The last part, unless another of the options ends alike."""
    last = name.rpartition(".")[2]
    return last if [other.rpartition(".")[2] for other in names].count(last) == 1 else name


def _distinct(names: Sequence[str], place: int) -> str:
    """The name, numbered where another arm has the same."""
    same = [other for other, name in enumerate(names) if name == names[place]]
    return names[place] if len(same) == 1 else f"{names[place]} ({same.index(place) + 1})"
