"""Random numbers that belong to a sample, whichever worker, rank or resumed run asks for them.

A counter-based hash instead of a generator: a generator would have to be seeded for every sample (10 microseconds
each), or be shared, and then the numbers would depend on what else was drawn before. NumPy's own counter-based
generator, Philox, takes one key at a time; here a whole batch of keys is hashed at once.
"""

import numpy as np
from numpy.typing import NDArray

_GAMMA = np.uint64(0x9E3779B97F4A7C15)  # splitmix64 (Steele, Lea, Flood 2014): odd, close to 2^64 / golden ratio


def sample_uniforms(
    seed: int, *, passes: NDArray[np.int64], indices: NDArray[np.int64], copies: NDArray[np.int64], num_draws: int
) -> NDArray[np.float64]:
    """Uniform numbers in [0, 1) that depend on (seed, pass, image, copy) alone.

    Args:
        seed: seed of the run.
        passes: (batch,) which pass shows the sample.
        indices: (batch,) which image.
        copies: (batch,) which copy of it.
        num_draws: numbers a sample.

    Returns:
        (batch, num_draws) uniforms.
    """
    key = _mix(np.full(len(indices), seed, dtype=np.uint64))
    for part in (passes, indices, copies):
        key = _mix(key + part.astype(np.uint64) + _GAMMA)
    counters = np.arange(1, num_draws + 1, dtype=np.uint64) * _GAMMA
    bits: NDArray[np.uint64] = _mix(key[:, None] + counters[None, :])
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mix(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of splitmix64: a bijection of 64-bit words in which every bit depends on every other."""
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))
