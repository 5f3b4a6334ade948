import numpy as np

from sizemix.data.draws import sample_uniforms


def draws(seed=0, passes=(0,), indices=(0,), copies=(0,), num_draws=1):
    keys = {"passes": passes, "indices": indices, "copies": copies}
    return sample_uniforms(seed, **{name: np.array(key) for name, key in keys.items()}, num_draws=num_draws)


def test_a_samples_numbers_do_not_depend_on_its_batch():
    together = draws(passes=[0, 1, 5], indices=[7, 7, 2], copies=[0, 0, 3], num_draws=4)
    alone = draws(passes=[5], indices=[2], copies=[3], num_draws=4)
    assert (together[2] == alone[0]).all()


def test_every_part_of_the_key_matters():
    reference = draws()
    changed = [draws(seed=1), draws(passes=[1]), draws(indices=[1]), draws(copies=[1])]
    assert all((other != reference).all() for other in changed)
    swapped = draws(passes=[3], indices=[5]), draws(passes=[5], indices=[3])
    assert (swapped[0] != swapped[1]).all()


def test_numbers_are_uniform_and_uncorrelated():
    count = 20_000
    numbers = draws(passes=np.zeros(count, int), indices=np.arange(count), copies=np.zeros(count, int), num_draws=3)
    assert numbers.min() >= 0
    assert numbers.max() < 1
    histogram = np.histogram(numbers[:, 0], bins=20, range=(0, 1))[0]
    chi_squared = ((histogram - count / 20) ** 2 / (count / 20)).sum()
    assert chi_squared < 43.8  # the 99.9th percentile for 19 degrees of freedom
    assert np.abs(np.corrcoef(numbers, rowvar=False) - np.eye(3)).max() < 0.03
    assert abs(np.corrcoef(numbers[:-1, 0], numbers[1:, 0])[0, 1]) < 0.03
