"""The loss of training, without a wait for the device."""

from torch import Tensor
from torch.nn import functional as F


def cross_entropy(
    logits: Tensor, targets: Tensor, *, class_weights: Tensor | None = None, label_smoothing: float = 0.0
) -> Tensor:
    """What torch's cross-entropy gives, by other means where that would read a count back from the device.

    Args:
        logits: (batch, num_classes).
        targets: (batch,) classes, or (batch, num_classes) probabilities.
        class_weights: (num_classes,).
        label_smoothing: probability spread evenly over all classes.

    Returns:
        The mean, a scalar; of classes, weighted by the weights of the targets.
    """
    if class_weights is None or not label_smoothing or targets.is_floating_point():
        return F.cross_entropy(logits, targets, weight=class_weights, label_smoothing=label_smoothing)
    log_probabilities = F.log_softmax(logits.float(), dim=1)
    weights = class_weights[targets]
    at_targets = (log_probabilities.gather(1, targets[:, None])[:, 0] * weights).sum()
    of_all = (log_probabilities * class_weights).sum() / len(class_weights)
    return -((1 - label_smoothing) * at_targets + label_smoothing * of_all) / weights.sum()
