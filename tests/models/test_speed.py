import time
from contextlib import nullcontext

import pytest
import torch
from torch import nn

from sizemix.models.backbone import build_backbone
from sizemix.models.speed import measured_steps

CPU = torch.device("cpu")


class Slow(nn.Module):
    """Takes 10 ms for 8 px and 30 ms for 16 px, the first time 300 ms."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 2)
        self.seen = []

    def __deepcopy__(self, memo):
        return self

    def forward(self, images):
        size = images.shape[-1]
        time.sleep({8: 0.01, 16: 0.03}[size] if size in self.seen else 0.3)
        self.seen.append(size)
        return self.fc(images.mean((2, 3)))


def test_the_median_of_warm_steps_is_measured_at_each_size():
    net = Slow()
    speeds = measured_steps(net, {8: 4, 16: 6}, device=CPU, autocast=nullcontext, num_steps=5)
    assert net.seen == [8] * 6 + [16] * 6, "one step to warm up"
    assert 0.01 <= speeds[8].seconds < 0.2
    assert 0.03 <= speeds[16].seconds < 0.2
    assert speeds[16].images_per_second == pytest.approx(6 / speeds[16].seconds)
    assert speeds[8].num_images == 4
    assert speeds[8].peak_bytes is None


def test_network_and_random_state_stay_as_they_are():
    net = build_backbone("resnet20_cifar", num_classes=2, drop_path_rate=0.1).eval()
    before, generator = {name: value.clone() for name, value in net.state_dict().items()}, torch.get_rng_state()
    measured_steps(net, {8: 2}, device=CPU, autocast=nullcontext, num_steps=1)
    assert not net.training
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())
    assert torch.equal(generator, torch.get_rng_state())


def test_the_runs_precision_is_used():
    used = []

    class Noting(nn.Linear):
        def forward(self, images):
            output = super().forward(images.flatten(1))
            used.append(output.dtype)
            return output

    net = Noting(3 * 4 * 4, 2)
    measured_steps(net, {4: 2}, device=CPU, autocast=lambda: torch.autocast("cpu", torch.bfloat16), num_steps=1)
    assert set(used) == {torch.bfloat16}


@pytest.mark.gpu
def test_on_a_gpu_the_peak_of_memory_grows_with_the_step():
    net = build_backbone("resnet20_cifar", num_classes=2)
    device = torch.device("cuda", 0)
    speeds = measured_steps(net, {16: 1024, 32: 1024}, device=device, autocast=nullcontext)
    assert 0 < 2 * speeds[16].peak_bytes < speeds[32].peak_bytes, "four times the pixels, beside what libraries keep"
    assert all(speed.seconds > 0 for speed in speeds.values())
