"""The invariants of a plan, over many schedules, budgets, image counts, world sizes and seeds."""

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sizemix.errors import UserError
from sizemix.sizes.budget import StepShape, step_shapes
from sizemix.sizes.plan import BatchSpec, SizePlan, plan_sizes
from sizemix.sizes.progressive import MovingShares, SizeByEpoch
from sizemix.sizes.schedule import MixedSizes, SizeSchedule
from sizemix.sizes.spending import spending


@dataclass(frozen=True)
class Setting:
    kind: str
    sizes: tuple[int, ...]
    shares: tuple[float, ...]
    budget: str
    share_of: str
    base_size: int
    base_batch_size: int
    num_images: int
    num_epochs: int
    world_size: int
    micro_batches: int
    seed: int
    fitting: Mapping[int, int] | None = None

    def schedule(self) -> SizeSchedule:
        if self.kind == "moving" and len(self.sizes) > 1 and self.num_epochs > 1:
            return MovingShares(self.sizes, self.num_epochs, spread=0.65, uniform_part=0.1)
        if self.kind == "by_epoch":
            return SizeByEpoch(tuple(self.sizes[epoch % len(self.sizes)] for epoch in range(self.num_epochs)))
        return MixedSizes(self.sizes, self.shares)

    def plan(self) -> SizePlan:
        num_shards = self.world_size * self.micro_batches
        shapes = step_shapes(
            self.sizes,
            budget=self.budget,
            base_size=self.base_size,
            base_batch_size=self.base_batch_size,
            num_shards=num_shards,
            fitting=self.fitting,
        )
        return plan_sizes(
            self.schedule(),
            shapes=shapes,
            num_images=self.num_images,
            num_epochs=self.num_epochs,
            seed=self.seed,
            base_size=self.base_size,
            num_shards=num_shards,
            share_of=self.share_of,
        )


@st.composite
def plannable(draw: st.DrawFn) -> Setting:
    sizes = tuple(sorted(draw(st.sets(st.integers(4, 20), min_size=1, max_size=6))))
    weights = draw(st.lists(st.integers(1, 20), min_size=len(sizes), max_size=len(sizes)))
    world_size, micro_batches = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    base_size = draw(st.sampled_from(sizes))
    shard = draw(st.integers(13, 20))  # enough that no size falls under one image
    setting = Setting(
        kind=draw(st.sampled_from(["mixed", "moving", "by_epoch"])),
        sizes=sizes,
        shares=tuple(weight / sum(weights) for weight in weights),
        budget=draw(st.sampled_from(["constant", "B+", "D+", "B+D+"])),
        share_of=draw(st.sampled_from(["images", "steps", "compute"])),
        base_size=base_size,
        base_batch_size=shard * world_size * micro_batches,
        num_images=1,
        num_epochs=draw(st.integers(1, 5)),
        world_size=world_size,
        micro_batches=micro_batches,
        seed=draw(st.integers(0, 2**31)),
    )
    largest = round(shard * max(1, (base_size / sizes[0]) ** 2)) * world_size * micro_batches
    return replace(setting, num_images=draw(st.integers(len(sizes) * largest, 4 * len(sizes) * largest)))


@given(plannable())
def test_every_pass_shows_every_image_exactly_once(setting):
    plan = setting.plan()
    indices, passes = plan.stream.slice(0, plan.images_seen)
    whole_passes = plan.images_seen // setting.num_images
    for number in range(whole_passes):
        assert sorted(indices[passes == number]) == list(range(setting.num_images))
    rest = indices[passes == whole_passes]
    assert len(set(rest)) == len(rest)


@given(plannable())
def test_steps_follow_one_another_without_gap_or_overlap(setting):
    plan = setting.plan()
    specs = [spec for epoch in range(plan.num_epochs) for spec in plan.epoch_specs(epoch)]
    columns = zip(*(column.tolist() for column in plan.columns().values()), strict=True)
    assert [BatchSpec(*map(int, step)) for step in columns] == specs, "the same steps, all at once"
    assert [spec.step for spec in specs] == list(range(plan.num_steps))
    position = 0
    for spec in specs:
        assert spec.position == position == plan.images_before(spec.step)
        assert spec == plan.spec(spec.step)
        position += spec.global_batch_size
    assert position == plan.images_seen


@given(plannable())
def test_one_batch_shape_for_each_size(setting):
    plan = setting.plan()
    for epoch in range(plan.num_epochs):
        for spec in plan.epoch_specs(epoch):
            assert StepShape(spec.global_batch_size, spec.num_repeats) == plan.inputs.shapes[spec.image_size]


@given(plannable())
def test_an_epoch_is_about_one_pass_and_what_is_left_over_comes_next(setting):
    plan = setting.plan()
    batches = [shape.global_batch_size for shape in plan.inputs.shapes.values()]
    for epoch in range(1, plan.num_epochs + 1):
        first_step_behind = sum(plan.epoch_length(earlier) for earlier in range(epoch))
        left_over = epoch * setting.num_images - plan.images_before(first_step_behind)
        assert left_over <= max(batches) / 2
        assert -left_over < sum(batches)
        assert plan.epoch_length(epoch - 1) >= 1


@given(plannable())
def test_at_one_size_an_epoch_is_within_half_a_step_of_a_pass(setting):
    plan = replace(setting, sizes=(setting.base_size,), shares=(1.0,)).plan()
    for epoch in range(1, plan.num_epochs + 1):
        consumed = plan.images_before(sum(plan.epoch_length(earlier) for earlier in range(epoch)))
        assert abs(consumed - epoch * setting.num_images) <= setting.base_batch_size / 2


@given(plannable().filter(lambda setting: setting.kind != "by_epoch"))
def test_shares_are_exact_to_within_a_step_after_every_epoch(setting):
    plan = setting.plan()
    seen, target = dict.fromkeys(setting.sizes, 0), dict.fromkeys(setting.sizes, 0.0)
    for epoch in range(plan.num_epochs):
        for spec in plan.epoch_specs(epoch):
            seen[spec.image_size] += spec.global_batch_size
        for size, share in _image_shares_by_hand(setting, plan, epoch).items():
            target[size] += share * setting.num_images
            assert abs(seen[size] - target[size]) < plan.inputs.shapes[size].global_batch_size + 1e-6


@given(plannable())
def test_an_epoch_has_no_size_that_its_schedule_does_not_name(setting):
    plan = setting.plan()
    for epoch in range(plan.num_epochs):
        named = setting.schedule().shares(epoch)
        assert {spec.image_size for spec in plan.epoch_specs(epoch)} <= set(named)


def _image_shares_by_hand(setting, plan, epoch):
    images = {}
    for size, share in setting.schedule().shares(epoch).items():
        shape = plan.inputs.shapes[size]
        images[size] = {
            "images": share,
            "steps": share * shape.global_batch_size,
            "compute": share / (shape.num_repeats * size**2),
        }[setting.share_of]
    total = sum(images.values())
    return {size: number / total for size, number in images.items()}


@given(plannable())
def test_a_plan_is_a_pure_function_of_its_inputs(setting):
    assert setting.plan().fingerprint == setting.plan().fingerprint
    assert replace(setting, seed=setting.seed + 1).plan().fingerprint != setting.plan().fingerprint
    assert replace(setting, num_epochs=setting.num_epochs + 1).plan().fingerprint != setting.plan().fingerprint


@given(plannable())
def test_b_plus_keeps_the_pixels_of_a_step_within_rounding(setting):
    setting = replace(setting, budget="B+")
    num_shards = setting.world_size * setting.micro_batches
    for size, shape in setting.plan().inputs.shapes.items():
        pixels = shape.global_batch_size * size**2
        assert abs(pixels - setting.base_batch_size * setting.base_size**2) <= 0.5 * num_shards * size**2 + 1e-6


@given(plannable())
def test_d_plus_makes_the_papers_number_of_copies_or_shrinks_the_batch(setting):
    setting = replace(setting, budget="D+")
    num_shards = setting.world_size * setting.micro_batches
    for size, shape in setting.plan().inputs.shapes.items():
        ratio = (setting.base_size / size) ** 2
        assert shape.num_repeats == max(1, round(ratio))
        shard = setting.base_batch_size // num_shards
        assert shape.global_batch_size == num_shards * (shard if ratio >= 0.5 else round(shard * ratio))


@given(plannable(), st.data())
def test_a_plan_follows_a_table_of_what_fits(setting, data):
    largest = setting.num_images // (len(setting.sizes) * setting.world_size * setting.micro_batches)
    fitting = {size: data.draw(st.integers(1, largest)) for size in setting.sizes}
    plan = replace(setting, budget="memory", fitting=fitting).plan()
    for size, shape in plan.inputs.shapes.items():
        assert shape == StepShape(fitting[size] * setting.world_size * setting.micro_batches, num_repeats=1)


def test_two_processes_compute_the_same_plan():
    program = (
        "from sizemix.sizes.schedule import MixedSizes; from sizemix.sizes.budget import step_shapes\n"
        "from sizemix.sizes.plan import plan_sizes\n"
        "shapes = step_shapes((16, 32), budget='B+', base_size=32, base_batch_size=64)\n"
        "schedule = MixedSizes((16, 32), (0.5, 0.5))\n"
        "print(plan_sizes(schedule, shapes=shapes, num_images=1000, num_epochs=3, seed=1, base_size=32).fingerprint)"
    )
    prints = {subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout for _ in range(2)}
    assert len(prints) == 1
    assert len(prints.pop().strip()) == 64


def test_planning_needs_neither_torch_nor_hydra():
    program = "import sys, sizemix.sizes.plan; assert not {'torch', 'pytorch_lightning', 'hydra'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize(
    ("sizes", "shares", "budget", "base_size", "cost", "pixels_by_steps"),
    [
        ((16, 24, 32, 48), (0.2, 0.3, 0.3, 0.2), "B+", 32, 0.97, 0.58),
        ((16, 24, 32, 48), (0.2, 0.3, 0.3, 0.2), "D+", 32, 1.29, 1.17),
        ((96, 128, 224, 256), (0.2, 0.6, 0.1, 0.1), "B+", 224, 0.46, 0.32),
        ((96, 128, 224, 256), (0.2, 0.6, 0.1, 0.1), "D+", 224, 1.00, 1.00),
    ],
)
def test_the_costs_of_the_authors_regimes(sizes, shares, budget, base_size, cost, pixels_by_steps):
    def relative_cost(share_of):
        shapes = step_shapes(sizes, budget=budget, base_size=base_size, base_batch_size=256)
        schedule = MixedSizes(sizes, shares)
        plan = plan_sizes(
            schedule,
            shapes=shapes,
            num_images=1_000_000,
            num_epochs=1,
            seed=0,
            base_size=base_size,
            share_of=share_of,
        )
        return spending(plan).relative_cost

    assert relative_cost("images") == pytest.approx(cost, abs=0.006)
    assert relative_cost("steps") == pytest.approx(pixels_by_steps, abs=0.012)


def test_an_images_size_is_drawn_anew_in_each_pass():
    schedule = MixedSizes((16, 32), (0.5, 0.5))
    shapes = step_shapes((16, 32), budget="constant", base_size=32, base_batch_size=10)
    plan = plan_sizes(schedule, shapes=shapes, num_images=400, num_epochs=2, seed=0, base_size=32)
    size_of_image = np.zeros((2, 400), dtype=int)
    for epoch in range(2):
        for spec in plan.epoch_specs(epoch):
            indices, _ = plan.stream.slice(spec.position, spec.position + spec.global_batch_size)
            size_of_image[epoch, indices] = spec.image_size
    both_small = (size_of_image == 16).all(axis=0).mean()
    assert 0.15 < both_small < 0.35


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"num_epochs": 0}, "max_epochs: expected at least 1"),
        ({"num_images": 63}, "more than the 63 training images"),
    ],
)
def test_what_cannot_be_planned_is_refused(changed, message):
    shapes = step_shapes((32,), budget="constant", base_size=32, base_batch_size=64)
    arguments = {"shapes": shapes, "num_images": 64, "num_epochs": 1, "seed": 0, "base_size": 32} | changed
    with pytest.raises(UserError, match=message):
        plan_sizes(MixedSizes((32,), (1.0,)), **arguments)


def test_a_budget_that_makes_the_step_too_large_is_named():
    shapes = step_shapes((16, 32), budget="B+", base_size=32, base_batch_size=64)
    message = "a step at 16 px would hold 256 images, more than the 100 training images; .*, or choose sizes.budget=D+"
    with pytest.raises(UserError, match=message.replace("+", r"\+")):
        plan_sizes(MixedSizes((16, 32), (0.5, 0.5)), shapes=shapes, num_images=100, num_epochs=1, seed=0, base_size=32)


class Own:
    """A user's schedule that gives these shares in every epoch."""

    image_sizes = (8, 16)

    def __init__(self, shares):
        self._shares = shares

    def shares(self, epoch):
        return self._shares


def plan_of(schedule):
    return plan_sizes(schedule, shapes={8: StepShape(4, 1), 16: StepShape(4, 1)}, num_images=35, num_epochs=3, seed=0,
                      base_size=16)  # fmt: skip


def test_a_size_with_a_share_of_zero_is_absent():
    assert set(plan_of(Own({8: 0.0, 16: 1.0})).columns()["image_size"].tolist()) == {16}


@pytest.mark.parametrize("shares", [{8: 0.0, 16: 0.0}, {8: -0.5, 16: 1.5}, {24: 1.0}, {8: 0.7, 16: 0.7}, {}])
def test_shares_that_are_none_are_refused(shares):
    with pytest.raises(UserError, match=r"Own.shares\(0\): expected shares of \[8, 16\] .*; mend the schedule"):
        plan_of(Own(shares))


settings.register_profile("sizemix", max_examples=60, deadline=None)
settings.load_profile("sizemix")
