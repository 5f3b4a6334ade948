import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sizemix.callbacks.gradient_smoothing import smooth_gradients


def gradients(norm):
    """Two tensors whose joint norm is as given."""
    return [torch.tensor([0.6 * norm]), torch.tensor([[0.0, 0.8 * norm]])]


def joint_norm(tensors):
    return torch.cat([tensor.flatten() for tensor in tensors]).norm().item()


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=10))
def test_it_follows_the_equation(norms):
    running, by_hand = None, None
    for norm in norms:
        step = gradients(norm)
        running = smooth_gradients(step, running, decay=0.9)
        by_hand = norm if by_hand is None else 0.9 * by_hand + 0.1 * norm
        assert running.item() == pytest.approx(by_hand, rel=1e-4)
        assert joint_norm(step) == pytest.approx(by_hand, rel=1e-4)


def test_the_first_step_is_not_rescaled():
    step = gradients(3.0)
    smooth_gradients(step, None, decay=0.9)
    assert joint_norm(step) == pytest.approx(3.0)


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_a_norm_that_is_not_finite_leaves_the_running_mean(broken):
    running = smooth_gradients(gradients(2.0), None, decay=0.9)
    running = smooth_gradients(gradients(broken), running, decay=0.9)
    assert running.item() == pytest.approx(2.0)


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_a_first_norm_that_is_not_finite_does_not_start_the_mean(broken):
    running = smooth_gradients(gradients(broken), None, decay=0.9)
    step = gradients(4.0)
    running = smooth_gradients(step, running, decay=0.9)
    assert running.item() == pytest.approx(4.0)
    assert joint_norm(step) == pytest.approx(4.0)


def test_a_gradient_of_zero_stays_zero():
    running = smooth_gradients(gradients(2.0), None, decay=0.9)
    step = gradients(0.0)
    smooth_gradients(step, running, decay=0.9)
    assert joint_norm(step) == 0
