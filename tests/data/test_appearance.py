import numpy as np
import pytest
import torch

from sizemix.data import appearance as module
from sizemix.data.appearance import Appearance, ColorJitter, RandAugment, appearance
from sizemix.errors import UserError


def image(channels=3, side=16):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (channels, side, side), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("sign", [0.1, 0.9])
def test_every_operation_keeps_shape_and_kind(channels, sign):
    count = len(module._OPERATIONS)
    assert count == 14
    for choice in range(count):
        changed = RandAugment(num_ops=1, magnitude=20)(image(channels), np.array([(choice + 0.5) / count, sign]))
        assert changed.shape == (channels, 16, 16)
        assert changed.dtype is torch.uint8


def test_signs_turn_the_image_to_opposite_sides():
    side = 15
    dot = torch.full((1, side, side), 128, dtype=torch.uint8)  # the grey that fills the corners
    dot[0, 1:4, side // 2] = 255
    rotate = (5 + 0.5) / len(module._OPERATIONS)
    columns = []
    for sign in (0.1, 0.9):
        turned = RandAugment(num_ops=1, magnitude=30)(dot, np.array([rotate, sign]))[0].int()
        columns.append((turned - 128).sum(0).argmax().item())
    assert sorted(columns)[0] < side // 2 < sorted(columns)[1]


def test_all_operations_occur_equally_often(monkeypatch):
    seen = []
    monkeypatch.setattr(module, "_OPERATIONS", tuple(lambda x, s, at=at: (seen.append(at), x)[1] for at in range(14)))
    draws = np.random.default_rng(0).random((700, 4))
    Appearance(rand_augment=RandAugment(num_ops=2))(torch.zeros(700, 1, 4, 4, dtype=torch.uint8), draws)
    counts = np.bincount(seen, minlength=14)
    assert counts.sum() == 1400
    assert counts.min() > 60


def test_colour_jitter_stays_within_its_factors():
    flat = torch.full((1, 3, 4, 4), 100, dtype=torch.uint8)
    draws = np.random.default_rng(0).random((200, 3))
    brightness = [Appearance(color_jitter=ColorJitter(0.4))(flat, draw[None]).float().mean().item() for draw in draws]
    assert 57 <= min(brightness) < 65, "three roundings to whole levels"
    assert 135 < max(brightness) <= 141


def test_nothing_configured_changes_nothing():
    plain = appearance()
    assert plain.num_draws == 0
    images = image()[None]
    assert plain(images, np.empty((1, 0))) is images


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rand_augment": {"num_ops": 0}}, "num_ops of at least 1"),
        ({"rand_augment": {"magnitude": 31}}, "magnitude from 0 to 30"),
        ({"rand_augment": {"strength": 3}}, "expected num_ops and magnitude, got strength"),
        ({"color_jitter": 0.0}, "color_jitter: expected over 0 up to 1, or null"),
    ],
)
def test_what_is_out_of_range_is_refused(options, message):
    with pytest.raises(UserError, match=message):
        appearance(**options)
