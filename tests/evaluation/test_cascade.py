import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sizemix.cli.cascade import main
from sizemix.errors import UserError
from sizemix.evaluation.cascade import CascadePlan, outcome
from sizemix.evaluation.cascade_study import study
from sizemix.evaluation.cost import SizeCost
from sizemix.evaluation.predictions import Answers, Predictions

SIZES = (16, 24, 32)
COSTS = {size: SizeCost(size, gflops=size**2 / 1000, latency_ms=size / 10) for size in SIZES}


def drawn(num_images, *, seed, skill=(0.6, 0.8, 0.9), honest=True):
    """Ten classes; right answers have a confidence above .5 and wrong ones below, or it says nothing."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, 10, num_images).astype(np.int32)
    hardness = rng.random(num_images)
    right = np.stack([hardness < part for part in skill])
    confidence = rng.random(right.shape)
    if honest:
        confidence = np.where(right, 0.5 + confidence / 2, confidence / 2)
    predicted = np.where(right, targets, (targets + 1) % 10).astype(np.int32)
    zeros = np.zeros(right.shape, np.float32)
    answers = Answers(predicted, confidence.astype(np.float32), zeros, right)
    return Predictions(SIZES, targets, f"{seed}", answers, None)


@given(
    st.integers(1, 60),
    st.integers(0, 9),
    st.sampled_from([(16, 24), (16, 32), (24, 32), SIZES]),
    st.lists(st.floats(0, 1.1), min_size=2, max_size=2),
)
def test_its_cost_and_answers_lie_between_those_of_its_sizes(num_images, seed, sizes, thresholds):
    predictions = drawn(num_images, seed=seed, honest=seed % 2 == 0)
    one = outcome(predictions, COSTS, CascadePlan(sizes, tuple(thresholds[: len(sizes) - 1])))
    least, most = COSTS[sizes[0]].gflops, sum(COSTS[size].gflops for size in sizes)
    assert least <= one.gflops + 1e-9
    assert one.gflops <= most + 1e-9
    assert COSTS[sizes[0]].latency_ms <= one.latency_ms + 1e-9
    assert math.isclose(sum(one.shares), 1)
    for at, stage in enumerate(one.stages):
        assert one.correct[at] == predictions.correct[SIZES.index(sizes[stage])][at]


@given(st.integers(1, 60), st.integers(0, 9), st.sampled_from([(16, 24), (16, 32), (24, 32)]))
def test_threshold_0_is_the_small_size_and_a_threshold_above_1_the_large_one(num_images, seed, sizes):
    predictions = drawn(num_images, seed=seed)
    small, large = (SIZES.index(size) for size in sizes)
    never, always = (outcome(predictions, COSTS, CascadePlan(sizes, (limit,))) for limit in (0.0, 1.01))
    assert np.array_equal(never.correct, predictions.correct[small])
    assert np.array_equal(always.correct, predictions.correct[large])
    assert never.gflops == pytest.approx(COSTS[sizes[0]].gflops)
    assert always.gflops == pytest.approx(sum(COSTS[size].gflops for size in sizes))
    assert (never.shares, always.shares) == ((1, 0), (0, 1))


@pytest.mark.parametrize("num_stages", [2, 3])
def test_where_confidence_tells_hard_images_a_cascade_pays_and_where_it_says_nothing_it_does_not(num_stages):
    honest = study(drawn(2000, seed=0), drawn(2000, seed=1), list(COSTS.values()), num_stages=num_stages)
    assert honest.chosen.pays
    assert "A cascade pays: 16 px, below 0." in honest.chosen.sentence
    assert honest.chosen.test.gflops <= honest.chosen.max_gflops
    blind = study(
        drawn(2000, seed=0, honest=False),
        drawn(2000, seed=1, honest=False),
        list(COSTS.values()),
        num_stages=num_stages,
    )
    assert not any(one.pays for one in blind.contests)
    assert "does not pay here" in blind.chosen.sentence
    assert "deploy one size" in blind.chosen.sentence


def test_test_images_judge_and_choose_nothing():
    val, costs = drawn(2000, seed=0), list(COSTS.values())
    one = study(val, drawn(500, seed=1), costs)
    other = study(val, drawn(700, seed=2, skill=(0.9, 0.5, 0.4), honest=False), costs)
    assert one.chosen.test.plan == other.chosen.test.plan
    assert [each.plan for each in one.curve] == [each.plan for each in other.curve]
    assert [each.rival for each in one.contests] == [each.rival for each in other.contests]
    assert one.chosen.pays
    assert not other.chosen.pays


def test_a_budget_is_kept_and_the_rival_is_the_best_size_within_it():
    val, test, costs = drawn(2000, seed=0), drawn(2000, seed=1), list(COSTS.values())
    budget = COSTS[24].gflops * 1.2
    (contest,) = study(val, test, costs, max_gflops=budget).contests
    assert (contest.rival, contest.max_gflops) == (24, budget)
    assert contest.val.gflops < budget
    assert contest.val.top1 > val.correct[1].mean()
    with pytest.raises(UserError, match=r"got 0.2 GFLOPs; give --max-gflops 0.2\d* or more"):
        study(val, test, costs, max_gflops=0.2)


@pytest.mark.parametrize(
    ("sizes", "thresholds", "said"),
    [((24,), (), "two or more that grow"), ((24, 16), (0.5,), "two or more that grow"),
     ((16, 24), (), "expected 1, one for each of"), ((16, 24), (math.nan,), "from 0 to 1")],
)  # fmt: skip
def test_plans_that_are_none_are_refused(sizes, thresholds, said):
    with pytest.raises(UserError, match=said):
        CascadePlan(sizes, thresholds)


def test_one_size_or_other_sizes_are_refused():
    val = drawn(20, seed=0)
    with pytest.raises(UserError, match="of the same sizes"):
        study(val, val, [COSTS[16]])
    alone = Predictions((16,), val.targets, "", Answers(*(value[:1] for value in vars(val.best).values())), None)
    with pytest.raises(UserError, match="a cascade needs two sizes, got 16 px"):
        study(alone, alone, [COSTS[16]])


def test_the_command_writes_table_files_and_verdict(copied, capsys):
    assert main([str(copied.path), "--stages", "3"]) == 0
    shown = capsys.readouterr().out
    told = json.loads(copied.evaluation.cascade_json.read_text())
    assert told["sentence"] in shown
    assert told["against"]["image_size"] in (12, 16, 20)
    assert copied.evaluation.cascade_csv.read_text().startswith("image_sizes,thresholds,shares,val_top1")
    assert copied.evaluation.cascade_png.read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [([], "run `sizemix evaluate` first"), (["--max-gflops", "0"], "--max-gflops: expected a number above 0")],
)
def test_mistakes_are_sentences(tmp_path, capsys, arguments, said):
    assert main([str(tmp_path), *arguments]) == 2
    assert said in capsys.readouterr().err


def test_damaged_figures_are_refused(copied, capsys):
    copied.evaluation.curve_json.write_text('{"cost": [{"nothing": 1}]}')
    assert main([str(copied.path)]) == 2
    assert "curve.json" in capsys.readouterr().err
