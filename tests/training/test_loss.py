import pytest
import torch
from torch.nn import functional as F

from sizemix.training.loss import cross_entropy

LOGITS = torch.randn(12, 5, generator=torch.Generator().manual_seed(0))
CLASSES = torch.arange(12) % 5
PROBABILITIES = torch.softmax(2 * LOGITS.flip(1), dim=1)
WEIGHTS = torch.tensor([0.2, 3.0, 1.0, 0.5, 2.0])


@pytest.mark.parametrize("targets", [CLASSES, PROBABILITIES], ids=["classes", "probabilities"])
@pytest.mark.parametrize("class_weights", [None, WEIGHTS], ids=["plain", "weighted"])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_loss_and_gradient_are_those_of_torch(targets, class_weights, label_smoothing):
    gradients = []
    for loss_of in (
        lambda logits: cross_entropy(logits, targets, class_weights=class_weights, label_smoothing=label_smoothing),
        lambda logits: F.cross_entropy(logits, targets, weight=class_weights, label_smoothing=label_smoothing),
    ):
        logits = LOGITS.clone().requires_grad_()
        loss = loss_of(logits)
        loss.backward()
        gradients.append(torch.cat([logits.grad.flatten(), loss.detach()[None]]))
    torch.testing.assert_close(*gradients)


def reads(loss_of):
    """Whether torch asks for a value: seen by the profiler alone, as torch takes another way where it is watched."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], acc_events=True) as profile:
        loss_of()
    return "aten::item" in {event.key for event in profile.key_averages()}


def test_smoothing_with_class_weights_reads_nothing_from_the_device():
    both = {"label_smoothing": 0.1}
    assert reads(lambda: F.cross_entropy(LOGITS, CLASSES, weight=WEIGHTS, **both)), "or this sees nothing"
    assert not reads(lambda: cross_entropy(LOGITS, CLASSES, class_weights=WEIGHTS, **both))
    assert not reads(lambda: cross_entropy(LOGITS, CLASSES, **both))
    assert not reads(lambda: cross_entropy(LOGITS, PROBABILITIES, class_weights=WEIGHTS, **both))
