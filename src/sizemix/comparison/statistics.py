"""How sure a difference between two arms is: over seeds, over seeds and test images, and over many sizes at once.

Arrays of differences come in, fractions of 1 (arm minus baseline, seed by seed); estimates with intervals go out.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

CONFIDENCE = 0.95
MIN_PAIRS = 3  # below, the spread of the seeds is not known well enough to say anything about it
_CHUNK_BYTES = 2**25


class Interval(NamedTuple):
    """For a mean difference.

    Attributes:
        low, high: ends of the two-sided interval.
        lower_bound: of the one-sided interval of the same confidence, for "no worse".
    """

    low: float
    high: float
    lower_bound: float


@dataclass(frozen=True)
class PairedTest:
    """The mean difference of paired seeds.

    Attributes:
        mean: of the differences.
        num_pairs: seeds that both arms have.
        low, high: two-sided interval for the mean; None where none can be given.
        lower_bound: of the one-sided interval of the same confidence, for "no worse".
        p_value: two-sided, of no difference.
    """

    mean: float
    num_pairs: int
    low: float | None = None
    high: float | None = None
    lower_bound: float | None = None
    p_value: float | None = None


def paired_test(differences: ArrayLike, *, confidence: float = CONFIDENCE) -> PairedTest:
    """Student's t for paired samples (Student 1908, Biometrika 6): what other seeds would give on the same test images.

    With fewer than three pairs, or differences that are all equal, there is an estimate but no interval: in both cases
    the spread is not known.

    Args:
        differences: (pairs,) arm minus baseline, at least one.
        confidence: of the two-sided and of the one-sided interval.
    """
    values = np.asarray(differences, dtype=float)
    number, mean = len(values), float(values.mean())
    deviation = float(values.std(ddof=1)) if number >= MIN_PAIRS else 0.0
    if deviation <= 1e-12:  # rounding apart, zero
        return PairedTest(mean, number)
    error = deviation / math.sqrt(number)
    freedom = number - 1
    half_width = float(stats.t.ppf((1 + confidence) / 2, freedom)) * error
    return PairedTest(
        mean,
        number,
        low=mean - half_width,
        high=mean + half_width,
        lower_bound=mean - float(stats.t.ppf(confidence, freedom)) * error,
        p_value=float(2 * stats.t.sf(abs(mean) / error, freedom)),
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusts p values for their number, so that a false claim among them is rare (Holm 1979, Scand. J. Stat. 6).

    Each is multiplied by the number of those that are not smaller, and is never less than one before it.
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda place: p_values[place])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted


def is_no_worse(lower_bound: float, *, margin: float) -> bool:
    """Non-inferiority: whether a loss of the margin or more is ruled out (Piaggio et al. 2012, JAMA 308, CONSORT)."""
    return lower_bound > -margin


def bootstrap_intervals(
    differences: NDArray[np.int8], *, num_resamples: int = 2000, seed: int = 0, confidence: float = CONFIDENCE
) -> list[Interval]:
    """Intervals of the mean differences over other seeds and other test images at once.

    Student's t with the standard error of a bootstrap (Efron & Tibshirani 1993, An Introduction to the Bootstrap,
    section 12.4), as percentiles of three seeds drawn from themselves would be far too narrow. The degrees of freedom
    are Satterthwaite's (1946, Biometrics Bulletin 2): few where seeds vary most, many where images do. Never narrower
    than the interval for the seeds alone.

    Args:
        differences: (seeds, sizes, images) correct in the arm minus correct in the baseline: -1, 0 or 1; seeds and
            images at least 2.
        num_resamples: draws of the bootstrap.
        seed: of the draws.
        confidence: of the intervals.

    Returns:
        One a size.
    """
    seeds, _, images = differences.shape
    of_seeds = differences.mean(2).var(0, ddof=1) / seeds
    of_images = differences.mean(0).var(1, ddof=1) / images
    scale = of_seeds**2 / (seeds - 1) + of_images**2 / (images - 1)
    freedom = np.where(scale > 0, (of_seeds + of_images) ** 2 / np.where(scale > 0, scale, 1), 1)
    error = bootstrap_errors(differences, num_resamples=num_resamples, seed=seed)

    def width(part: float) -> NDArray[np.float64]:
        of_seeds_alone = stats.t.ppf(part, seeds - 1) * np.sqrt(of_seeds)
        widest: NDArray[np.float64] = np.maximum(stats.t.ppf(part, freedom) * error, of_seeds_alone)
        return widest

    mean, half, one_sided = differences.mean((0, 2)), width((1 + confidence) / 2), width(confidence)
    return [Interval(*map(float, ends)) for ends in zip(mean - half, mean + half, mean - one_sided, strict=True)]


def bootstrap_errors(differences: NDArray[np.int8], *, num_resamples: int = 2000, seed: int = 0) -> NDArray[np.float64]:
    """Standard errors, (sizes,), of the mean differences over seeds and images; arguments as above.

    Seeds and images are drawn independently of each other, as every seed is tested on the same images: the pigeonhole
    bootstrap (Owen 2007, Annals of Applied Statistics 1), whose variance is too large rather than too small. Few seeds
    drawn from themselves vary too little, by (K - 1) / K; their weights are stretched to make up for it (Rao & Wu 1988,
    JASA 83).
    """
    seeds, sizes, images = differences.shape
    by_image = differences.reshape(seeds * sizes, images).T.astype(np.float32)  # (images, seeds x sizes)
    generator = np.random.default_rng(seed)
    chunk = max(1, _CHUNK_BYTES // (8 * images))
    means = []
    for first in range(0, num_resamples, chunk):
        draws = min(chunk, num_resamples - first)
        of_images = (_drawn(generator, images, draws) @ by_image).reshape(draws, seeds, sizes)
        of_seeds = _stretched(_drawn(generator, seeds, draws))
        means.append(np.einsum("dk,dks->ds", of_seeds, of_images))
    errors: NDArray[np.float64] = np.concatenate(means).astype(float).std(0, ddof=1)
    return errors


def _drawn(generator: np.random.Generator, number: int, draws: int) -> NDArray[np.float32]:
    """(draws, number) how often each of a number of things is drawn with replacement, over their number."""
    places = generator.integers(number, size=(draws, number), dtype=np.int64)
    places += number * np.arange(draws)[:, None]
    counts = np.bincount(places.ravel(), minlength=draws * number).reshape(draws, number)
    return (counts / number).astype(np.float32)


def _stretched(weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Weights moved away from equal ones until their variance is that of a sample."""
    number = weights.shape[1]
    factor = np.float32(math.sqrt(number / (number - 1)))
    stretched: NDArray[np.float32] = 1 / number + factor * (weights - 1 / number)
    return stretched
