"""A comparison in plain sentences, losses as prominent as gains, and nothing claimed that is not shown."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import mean

from sizemix.comparison.comparing import Comparison, SizeDifference, Versus
from sizemix.comparison.statistics import CONFIDENCE, MIN_PAIRS, is_no_worse
from sizemix.comparison.training import Reaching

_SURE = f"{100 * CONFIDENCE:.0f} %"


@dataclass(frozen=True)
class Finding:
    """One sentence.

    Attributes:
        arm: of whom.
        subject: sizes, gain, loss, base size, smaller size, reaching or spending.
        verdict: better, worse, both (at some sizes each), shown (no worse) or unclear; none where nothing is judged.
        text: the sentence.
    """

    arm: str
    subject: str
    verdict: str
    text: str


def findings(comparison: Comparison) -> list[Finding]:
    """All sentences, arm by arm."""
    return [finding for versus in comparison.others for finding in _of_arm(versus, comparison)]


def sentence_at(versus: Versus, one: SizeDifference) -> str:
    """What is known of a difference at one size."""
    name, points = versus.arm.name, 100 * one.test.mean
    if one.verdict == "unclear":
        told = f"{name} is {abs(points):.1f} points {'ahead' if points >= 0 else 'behind'}"
        doubt = "" if one.test.p_value is None else ", which may be chance"
    else:
        told, doubt = f"{name} is {abs(points):.1f} points {one.verdict}", ""
    return f"At {one.image_size} px {told}{doubt} ({_evidence(one)})."


def points(fraction: float) -> str:
    """A fraction as percentage points, never "-0.0"."""
    return f"{100 * fraction:.1f}".replace("-0.0", "0.0")


def _of_arm(versus: Versus, comparison: Comparison) -> Iterator[Finding]:
    name = versus.arm.name
    if not versus.by_size:
        reason = "no test size" if versus.seeds else "no seed"
        yield Finding(name, "sizes", "unclear", f"{name} and {comparison.baseline.name} have {reason} in common.")
    else:
        yield from _over_sizes(versus, comparison)
        yield from _at_base_size(versus, comparison)
        yield from _at_smaller_size(versus, comparison)
    yield from _reaching(versus, comparison)
    yield _spending(versus, comparison)


def _over_sizes(versus: Versus, comparison: Comparison) -> Iterator[Finding]:
    """How many sizes are better and worse; the largest gain and the largest loss, whether they are certain or not."""
    name, baseline = versus.arm.name, comparison.baseline.name
    sizes = {
        verdict: [one.image_size for one in versus.by_size if one.verdict == verdict]
        for verdict in ("better", "worse", "unclear")
    }
    if len(versus.seeds) < MIN_PAIRS:
        text = (
            f"{name} against {baseline}: no interval can be given with {_counted(len(versus.seeds), 'paired seed')}, "
            f"at least {MIN_PAIRS} are needed; every difference may be chance."
        )
    else:
        told = [f"{verdict} at {_listed(found)}" for verdict, found in sizes.items() if found and verdict != "unclear"]
        if sizes["unclear"]:
            told.append(f"not told apart at {_listed(sizes['unclear']) if told else 'any of them'}")
        text = f"{name} against {baseline} at {_counted(len(versus.by_size), 'test size')}: {'; '.join(told)}."
    both = "both" if sizes["better"] and sizes["worse"] else None
    one_way = "better" if sizes["better"] else "worse" if sizes["worse"] else "unclear"
    yield Finding(name, "sizes", both or one_way, text)
    gain = max(versus.by_size, key=lambda one: one.test.mean)
    loss = min(versus.by_size, key=lambda one: one.test.mean)
    if gain.test.mean > 0:
        yield Finding(name, "gain", gain.verdict, sentence_at(versus, gain))
    if loss.test.mean < 0:
        yield Finding(name, "loss", loss.verdict, sentence_at(versus, loss))


def _at_base_size(versus: Versus, comparison: Comparison) -> Iterator[Finding]:
    one = versus.at(comparison.base_size)
    if one is None:
        return
    margin = points(comparison.margin)
    name, place = versus.arm.name, f"at the base size of {one.image_size} px"
    if one.lower_bound is None:
        text = f"Whether {name} is no worse within {margin} points {place} is not known ({_evidence(one)})."
        yield Finding(name, "base size", "unclear", text)
        return
    shown = is_no_worse(one.lower_bound, margin=comparison.margin)
    over = "seeds" if one.over_images is None else "seeds and test images"
    detail = f"{points(one.test.mean)} points, one-sided {_SURE} bound over {over} {points(one.lower_bound)}"
    verdict = "shown" if shown else "worse" if one.verdict == "worse" else "unclear"
    is_shown = "is" if shown else "is not shown to be"
    yield Finding(name, "base size", verdict, f"{name} {is_shown} no worse within {margin} points {place} ({detail}).")


def _at_smaller_size(versus: Versus, comparison: Comparison) -> Iterator[Finding]:
    base, crossing = comparison.base_size, versus.crossing
    if base not in comparison.baseline.eval_sizes:
        return
    name, whose = versus.arm.name, f"{comparison.baseline.name}'s accuracy at its base size of {base} px"
    paired = [comparison.baseline.by_seed[seed].accuracy[base] for seed in versus.seeds]
    whose += f" ({points(mean(paired))} %)"
    if crossing is None or crossing.image_size >= base:
        where = "at no test size" if crossing is None else f"from {crossing.image_size} px on, at no smaller size"
        yield Finding(name, "smaller size", "unclear", f"{name} reaches {whose} {where}.")
        return
    cost = "" if crossing.relative_gflops is None else f": {crossing.relative_gflops:.2f} x the inference compute"
    test = crossing.test
    low, high = (test.low, test.high) if crossing.over_images is None else crossing.over_images[:2]
    sure = (
        f"difference {points(test.mean)}, no interval"
        if low is None or high is None
        else f"difference {points(test.mean)}, {_SURE} interval {points(low)} to {points(high)}"
    )
    within = crossing.lower_bound is not None and is_no_worse(crossing.lower_bound, margin=comparison.margin)
    claim = f"{'no worse' if within else 'not shown to be no worse'} within {points(comparison.margin)} points"
    text = f"{name} reaches {whose} in the mean already at {crossing.image_size} px{cost} ({sure}; {claim})."
    yield Finding(name, "smaller size", "shown" if within else "unclear", text)


def _reaching(versus: Versus, comparison: Comparison) -> Iterator[Finding]:
    if comparison.target is None:
        return
    name, baseline, reaching = versus.arm.name, comparison.baseline.name, versus.reaching
    target = f"{baseline}'s final validation accuracy ({points(comparison.target)} %)"
    if reaching is None:
        sizes = versus.arm.runs[0].val_size, comparison.baseline.runs[0].val_size
        why = "it was validated at {} px, not at {} px".format(*sizes)
        why = why if sizes[0] != sizes[1] else "its metrics.csv does not say"
        text = f"When {name} reaches {target} is not known: {why}."
        yield Finding(name, "reaching", "unclear", text)
        return
    if not reaching.compute:
        text = f"{target} is never reached by {name}: its best validation is {points(reaching.best)} %."
        yield Finding(name, "reaching", "worse" if _enough(versus) else "unclear", text)
        return
    amounts = [(reaching.compute, "training compute"), (reaching.seconds, "training time")]
    told = [f"{_spread(ratios)} x its {what}" for ratios, what in amounts if None not in ratios]
    when = f" after {' and '.join(told)}" if told else ""
    missed = reaching.num_runs - len(reaching.compute)
    who = name if not missed else f"{len(reaching.compute)} of {reaching.num_runs} runs of {name}, never by the others,"
    own = _own_reaching(comparison.own_reaching, baseline)
    yield Finding(name, "reaching", _faster(versus, reaching, comparison), f"{target} is reached by {who}{when}{own}.")


def _own_reaching(own: Reaching | None, baseline: str) -> str:
    known = [] if own is None else [ratio for ratio in own.compute if ratio is not None]
    return f" ({baseline} itself first after {mean(known):.2f} x)" if known and mean(known) < 0.995 else ""


def _enough(versus: Versus) -> bool:
    """Whether both arms have runs enough for a claim."""
    return len(versus.seeds) >= MIN_PAIRS


def _faster(versus: Versus, reaching: Reaching, comparison: Comparison) -> str:
    """Better: every run was there before any of the baseline's; worse: none was, at the baseline's whole compute."""
    own = comparison.own_reaching
    mine = [ratio for ratio in reaching.compute if ratio is not None]
    theirs = [1.0] if own is None else [1.0, *(ratio for ratio in own.compute if ratio is not None)]
    if len(mine) < reaching.num_runs or not _enough(versus):
        return "unclear"
    if max(mine) < min(theirs):
        return "better"
    return "worse" if all(ratio is not None and ratio >= 1 for ratio in reaching.before) else "unclear"


def _spending(versus: Versus, comparison: Comparison) -> Finding:
    own, whole = comparison.spent(versus.arm), comparison.spent(comparison.baseline)
    compute = (
        "compute not comparable"
        if own.compute is None or not whole.compute
        else f"{own.compute / whole.compute:.2f} x the training compute"
    )
    ratios = [
        f"{mine / theirs:.2f} x the {what}" if theirs else f"{what} not recorded"
        for mine, theirs, what in (
            (own.seconds, whole.seconds, "training time"),
            (own.images_seen, whole.images_seen, "images seen"),
            (own.steps, whole.steps, "steps"),
        )
    ]
    text = f"{versus.arm.name} took {compute}, {ratios[0]}, {ratios[1]} and {ratios[2]} of {comparison.baseline.name}."
    return Finding(versus.arm.name, "spending", "none", text)


def _evidence(one: SizeDifference) -> str:
    test = one.test
    seeds = _counted(test.num_pairs, "paired seed")
    if test.low is None or test.high is None:
        few = test.num_pairs < MIN_PAIRS
        return f"{seeds}: no interval can be given" if few else f"{seeds} that do not differ: no interval can be given"
    interval = f"{points(test.low)} to {points(test.high)}"
    told = [f"{_SURE} interval {interval}", f"Holm-adjusted {p_text(one.adjusted_p)}", seeds]
    if one.over_images is not None:
        over_images = f"{points(one.over_images.low)} to {points(one.over_images.high)}"
        told.append("over test images too" + ("" if over_images == interval else f": {over_images}"))
    return "; ".join(told)


def p_text(p_value: float | None) -> str:
    """A p value with as many digits as mean something."""
    if p_value is None:
        return "p not known"
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}" if p_value < 0.1 else f"p = {p_value:.2f}"


def _spread(ratios: Sequence[float | None]) -> str:
    known = [ratio for ratio in ratios if ratio is not None]
    low, high = f"{min(known):.2f}", f"{max(known):.2f}"
    return low if low == high else f"{mean(known):.2f} ({low} to {high})"


def _listed(sizes: Sequence[int]) -> str:
    *first, last = map(str, sizes)
    return f"{', '.join(first)} and {last} px" if first else f"{last} px"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
