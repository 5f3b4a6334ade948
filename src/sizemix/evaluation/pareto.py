"""Which choices are worth having: those that no other beats in cost and in gain."""

from collections.abc import Sequence


def pareto_front(costs: Sequence[float], gains: Sequence[float]) -> list[int]:
    """The points that no other beats in both, by increasing cost.

    Args:
        costs: one a point; less is better.
        gains: likewise; more is better.

    Returns:
        Their places in the two sequences.
    """
    front: list[int] = []
    for at in sorted(range(len(costs)), key=lambda at: (costs[at], -gains[at])):
        if not front or gains[at] > gains[front[-1]]:
            front.append(at)
    return front
