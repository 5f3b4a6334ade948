from contextlib import nullcontext

import pytest
import timm
import torch
from torch import nn

from sizemix.errors import UserError
from sizemix.evaluation import cost
from sizemix.evaluation.cost import counted_costs, measured_costs


def test_resnet50_takes_what_the_field_says():
    (found,) = counted_costs(timm.create_model("resnet50"), [224], name="resnet50")
    assert found.gflops == pytest.approx(2 * 4.1, rel=0.01), "4.1 GMACs; a multiply-add is two operations"
    assert found.latency_ms is None


def test_sizes_that_a_network_does_not_take_are_refused():
    with pytest.raises(UserError, match="does not take images of"):
        counted_costs(timm.create_model("test_vit", img_size=160), [160, 161], name="test_vit")


@pytest.mark.parametrize("throughput", [True, False])
def test_measuring_leaves_the_network_as_it_was(throughput):
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    random_state = torch.get_rng_state()
    counted = counted_costs(net, [8, 64], name="net")
    found = measured_costs(
        net, counted, device=torch.device("cpu"), autocast=nullcontext, throughput=throughput, show_progress=False
    )
    assert net.training
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert torch.equal(random_state, torch.get_rng_state())
    for one, other in zip(found, counted, strict=True):
        assert (one.image_size, one.gflops) == (other.image_size, other.gflops)
        assert 0 < one.latency_low_ms <= one.latency_ms <= one.latency_high_ms
        assert (one.images_per_second is None) is not throughput
        if throughput:
            assert one.images_per_second > 0
            assert one.throughput_batch in [2**power for power in range(11)]


def test_batches_that_would_not_fit_are_not_tried(monkeypatch):
    monkeypatch.setattr(cost, "evaluation_bytes", lambda net, size, batch: batch)
    monkeypatch.setattr(cost, "available_bytes", lambda: 2.5)
    seen = []

    class Watched(nn.Module):
        def forward(self, images):
            seen.append(len(images))
            return images

    cost._throughput(Watched(), 8, device=torch.device("cpu"))
    assert set(seen) <= {1, 2}
