"""Runs become arms: those that differ in nothing but seed stand together, those that cannot be compared stand aside."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sizemix.comparison.naming import differing_options, named, value_text
from sizemix.comparison.records import RunRecord, SetAside
from sizemix.errors import UserError

# What a run may differ in without being another arm: its name, where its files are, what it runs on, what it reports.
_NOT_THE_ARM = (
    "seed",
    "run_id",
    "name",
    "data.root",
    "data.name",
    "data.download",
    "data.num_workers",
    "trainer.accelerator",
    "trainer.devices",
    "trainer.num_nodes",
    "trainer.strategy",
    "trainer.enable_progress_bar",
    "trainer.log_every_n_steps",
    "evaluation.batch_size",
    "evaluation.measure",
    "evaluation.eval_sizes",
    "evaluation.val_size",
    "data.eval_sizes",
)
_NOT_THE_ARM_GROUPS = ("logger", "checkpoint", "hydra")


@dataclass(frozen=True)
class Arm:
    """Runs of one configuration.

    Attributes:
        name: what tells it from the other arms.
        runs: one a seed, by increasing seed.
        options: the configuration, less what does not make an arm.
    """

    name: str
    runs: tuple[RunRecord, ...]
    options: Mapping[str, Any]

    @property
    def base_size(self) -> int:
        """Pixels; the same for all runs."""
        return self.runs[0].base_size

    @property
    def by_seed(self) -> dict[int, RunRecord]:
        """Runs by seed."""
        return {run.seed: run for run in self.runs}

    @property
    def eval_sizes(self) -> tuple[int, ...]:
        """Test sizes that all runs have, increasing."""
        return tuple(size for size in self.runs[0].accuracy if all(size in run.accuracy for run in self.runs))

    @property
    def gflops(self) -> Mapping[int, float]:
        """Of an image's forward pass by test size, from the first run that has recorded it."""
        return next((run.gflops for run in self.runs if run.gflops), {})

    def accuracies(self, image_size: int) -> list[float]:
        """Test top-1 of every run."""
        return [run.accuracy[image_size] for run in self.runs]

    def mean(self, image_size: int) -> float:
        """Mean test top-1 over the runs."""
        return sum(self.accuracies(image_size)) / len(self.runs)


@dataclass(frozen=True)
class Grouped:
    """What runs become.

    Attributes:
        arms: in the order of their first run.
        repeated: runs that repeat another's arm and seed.
        untold: options in which arms differ without a name that says so.
    """

    arms: list[Arm]
    repeated: list[SetAside]
    untold: list[str]


def group_into_arms(records: Sequence[RunRecord]) -> Grouped:
    """Runs that differ in nothing but seed stand together, under a name."""
    groups: list[tuple[dict[str, Any], dict[int, RunRecord]]] = []
    repeated: list[SetAside] = []
    image_sets = {record.training_images for record in records} - {None}  # None: not recorded
    for record in records:
        options = _options_of_arm(record.config)
        if len(image_sets) > 1 and record.training_images is not None:
            options["data.training_images"] = record.training_images[:8]  # whatever their folders are called
        runs = next((runs for other, runs in groups if other == options), None)
        if runs is None:
            groups.append((options, runs := {}))
        if record.seed in runs:
            reason = f"the same options and seed {record.seed} as {runs[record.seed].path}, which is taken."
            repeated.append(SetAside(record.path, "duplicate", reason))
        else:
            runs[record.seed] = record
    naming = named([options for options, _ in groups], [_run_name(runs.values()) for _, runs in groups])
    arms = [
        Arm(name, tuple(runs[seed] for seed in sorted(runs)), options)
        for name, (options, runs) in zip(naming.names, groups, strict=True)
    ]
    return Grouped(arms, repeated, naming.untold)


def without_other_data(records: Sequence[RunRecord]) -> tuple[list[RunRecord], list[SetAside]]:
    """Runs that were tested on the images of most, and those that were tested on others."""
    kinds = Counter(record.test[1] for record in records)
    described = kinds.most_common(1)[0][0] if kinds else ""
    digests = Counter(record.test[0] for record in records if record.test[1] == described and record.test[0])
    digest = digests.most_common(1)[0][0] if digests else None
    alike: list[RunRecord] = []
    others: list[SetAside] = []
    for record in records:
        if record.test[1] != described:
            reason = f"tested on {record.test[1]}, most others on {described}."
        elif record.test[0] not in (None, digest):
            reason = f"tested on other images than most (data: {record.data}, another data_fingerprint)."
        else:
            alike.append(record)
            continue
        others.append(SetAside(record.path, "unmatched", reason))
    return alike, others


def with_baseline_first(arms: Sequence[Arm], wanted: str | None) -> list[Arm]:
    """The arms behind the one that others are compared with.

    Args:
        arms: at least one.
        wanted: its name or a part that no other name has; None: training at its base size alone, without
            anything of mixed sizes, the one with most runs and then with the base size of most arms; or else at
            another single size, or else the first arm.

    Raises:
        UserError: no arm, or several, of that name.
    """
    baseline = _most_fixed(arms) if wanted is None else _named(arms, wanted)
    return [baseline, *(arm for arm in arms if arm is not baseline)]


def option_table(arms: Sequence[Arm]) -> dict[str, list[str]]:
    """The options in which arms differ, and each arm's value as text."""
    options = [arm.options for arm in arms]
    return {
        name: [value_text(own[name]) if name in own else "-" for own in options] for name in differing_options(options)
    }


def environment_differences(arms: Sequence[Arm]) -> list[str]:
    """A sentence for each version, device and such that is not the same for all runs."""
    runs = [(arm, run) for arm in arms for run in arm.runs]
    sentences = []
    for name in sorted({name for _, run in runs for name in run.environment}):
        found: dict[str, list[str]] = {}
        for arm, run in runs:
            found.setdefault(run.environment.get(name, "not recorded"), []).append(f"{arm.name} seed {run.seed}")
        if len(found) > 1:
            told = "; ".join(f"{value} in {_listed(where)}" for value, where in found.items())
            sentences.append(f"{name} is not the same for all runs: {told}.")
    return sentences


def _run_name(runs: Iterable[RunRecord]) -> str:
    """What all runs of an arm are called; nothing where they do not agree."""
    names = {str(run.config.get("name", "")) for run in runs}
    return names.pop() if len(names) == 1 else ""


def _options_of_arm(config: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in config.items()
        if name not in _NOT_THE_ARM and name.partition(".")[0] not in _NOT_THE_ARM_GROUPS and value is not None
    }


def _most_fixed(arms: Sequence[Arm]) -> Arm:
    base_sizes = Counter(arm.base_size for arm in arms)
    fixed = [arm for arm in arms if len(arm.runs[0].sizes) == 1]

    def fitness(arm: Arm) -> tuple[bool, bool, int, int]:
        at_base_size = arm.runs[0].sizes[0].image_size == arm.base_size  # and not a specialist for another
        return at_base_size, _is_plain(arm), len(arm.runs), base_sizes[arm.base_size]

    return max(fixed, key=fitness) if fixed else arms[0]


def _is_plain(arm: Arm) -> bool:
    """Nothing of mixed sizes put into training at one: their compute, their smoothing, their detail."""
    of_mixed = (arm.options.get("recipe.gradient_smoothing") is True, arm.options.get("augment.rescale"))
    return arm.options.get("length_factor", 1) == 1 and not any(of_mixed)


def _named(arms: Sequence[Arm], wanted: str) -> Arm:
    exact = [arm for arm in arms if arm.name == wanted]
    found = exact or [arm for arm in arms if wanted.lower() in arm.name.lower()]
    if len(found) != 1:
        names = "; ".join(arm.name for arm in arms)
        raise UserError(f"--baseline: expected one of the arms ({names}), got {wanted}, which {_fits(len(found))}.")
    return found[0]


def _fits(number: int) -> str:
    return "fits none of them" if not number else f"fits {number} of them; write more of the name"


def _listed(places: Sequence[str]) -> str:
    return ", ".join(places) if len(places) <= 3 else f"{places[0]} and {len(places) - 1} more"
