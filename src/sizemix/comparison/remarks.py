"""What to know of the arms of a comparison before reading on, as sentences."""

from collections.abc import Sequence

from sizemix.comparison.arms import Arm, environment_differences

_NAMED_OPTIONS = 6


def remarks(baseline: Arm, others: Sequence[Arm], *, untold: Sequence[str]) -> list[str]:
    """All sentences.

    Args:
        baseline: what the others are compared with.
        others: the other arms.
        untold: options in which arms differ without a name that says so.
    """
    arms = [baseline, *others]
    found = [*_untold(untold), *environment_differences(arms)]
    for arm in others:
        lonely = sorted(set(arm.by_seed) ^ set(baseline.by_seed))
        if lonely:
            found.append(
                f"{arm.name} and {baseline.name} do not have the same seeds: {', '.join(map(str, lonely))} in one, "
                "which is left out of their differences."
            )
        missing = sorted(set(arm.eval_sizes) ^ set(baseline.eval_sizes))
        if missing:
            found.append(
                f"{arm.name} and {baseline.name} were not tested at the same sizes: {', '.join(map(str, missing))} px "
                "in one, which is left out of their differences."
            )
    found += [
        f"{arm.name}: some of its runs stopped before the end of their plan."
        for arm in arms
        if any(run.steps < run.steps_planned for run in arm.runs)
    ]
    found += _missing_parts(arms)
    digests = {run.predictions.image_digest for arm in arms for run in arm.runs if run.predictions is not None}
    if len(digests) > 1:
        found.append("Predictions are of several lists of images, so such pairs have no interval over images.")
    return found


def _untold(options: Sequence[str]) -> list[str]:
    if not options:
        return []
    more = f" and {len(options) - _NAMED_OPTIONS} more" if len(options) > _NAMED_OPTIONS else ""
    named = ", ".join(options[:_NAMED_OPTIONS])
    return [f"Arms also differ in what their names leave out: {named}{more}; the table of options has the values."]


def _missing_parts(arms: Sequence[Arm]) -> list[str]:
    """What the folders lack, each thing once."""
    told: dict[str, list[str]] = {}
    for arm in arms:
        for run in arm.runs:
            for remark in run.remarks:
                told.setdefault(remark, []).append(f"{arm.name}, seed {run.seed}")
    number = sum(len(arm.runs) for arm in arms)
    return [f"{'All runs' if len(where) == number else '; '.join(where)}: {remark}" for remark, where in told.items()]
