"""Images a second, in words and judged."""

from collections.abc import Mapping

_SLOW = 1.0  # images a second; an epoch of a thousand images then takes a quarter of an hour


def told(rates: Mapping[int, float]) -> str:
    """Rates by image_size; those under 10 with two digits, so that none reads as 0."""
    return ", ".join(f"{rate(images)} at {size} px" for size, images in rates.items())


def rate(images_per_second: float) -> str:
    """As told, without the size."""
    return f"{images_per_second:,.0f}" if images_per_second >= 10 else f"{images_per_second:.2g}"


def is_slow(rates: Mapping[int, float]) -> bool:
    """Whether the images of some size come, or are trained on, one after another in seconds."""
    return min(rates.values()) < _SLOW
