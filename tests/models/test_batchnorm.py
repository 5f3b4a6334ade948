import pytest
import timm
import torch
from torch import nn

from sizemix.models.batchnorm import batch_norms, holding, measured_statistics, recalibrated


@pytest.fixture
def net():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Dropout(0.5), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3))
    net.append(nn.BatchNorm2d(4, momentum=0.3))
    net(torch.randn(8, 3, 8, 8))
    return net


def snapshot(net):
    state = {name: value.clone() for name, value in net.state_dict().items()}
    return state, [module.training for module in net.modules()], [layer.momentum for layer in batch_norms(net)]


def same(before, after):
    states = all(torch.equal(before[0][name], after[0][name]) for name in before[0])
    return states and before[1:] == after[1:]


@pytest.mark.parametrize("training", [True, False])
def test_the_network_is_afterwards_as_it_was(net, training):
    net.train(training)
    net[2].eval()
    before, generator = snapshot(net), torch.get_rng_state()
    with recalibrated(net, [torch.randn(4, 3, 8, 8, generator=torch.Generator()) for _ in range(3)]):
        assert not same(before, snapshot(net))
    assert same(before, snapshot(net))
    assert torch.equal(generator, torch.get_rng_state())


def test_the_network_is_as_it_was_even_when_a_batch_fails(net):
    before = snapshot(net)
    with pytest.raises(RuntimeError), recalibrated(net, [torch.randn(4, 3, 8, 8), torch.randn(4, 5, 8, 8)]):
        pass
    assert same(before, snapshot(net))


def test_no_images_are_an_error_and_not_statistics_of_nothing(net):
    before = snapshot(net)
    with pytest.raises(ValueError, match="at least one batch"), recalibrated(net, []):
        pass
    assert same(before, snapshot(net))


def test_the_statistics_are_the_mean_over_the_batches(net):
    batches = [torch.randn(4, 3, 8, 8) for _ in range(5)]
    with torch.no_grad():
        first = [net[0](images) for images in batches]
    with recalibrated(net, batches):
        assert torch.allclose(net[2].running_mean, torch.stack([x.mean((0, 2, 3)) for x in first]).mean(0), atol=1e-6)
        assert torch.allclose(net[2].running_var, torch.stack([x.var((0, 2, 3)) for x in first]).mean(0), atol=1e-6)


def test_statistics_of_several_sizes_are_measured_side_by_side(net):
    before = snapshot(net)
    batches = {size: [torch.randn(4, 3, size, size) for _ in range(3)] for size in (8, 12)}
    turns = [(size, images) for at in range(3) for size, images in ((8, batches[8][at]), (12, batches[12][at]))]
    together = measured_statistics(net, turns)
    assert same(before, snapshot(net))
    for size, images in batches.items():
        (alone,) = measured_statistics(net, [(size, one) for one in images]).values()
        assert together[size].keys() == alone.keys()
        assert all(torch.equal(together[size][name], alone[name]) for name in alone)
        with recalibrated(net, images), torch.no_grad():
            expected = net(images[0])
        with holding(net.eval(), together[size]), torch.no_grad():
            assert torch.equal(net(images[0]), expected)
        net.train()
    assert same(before, snapshot(net))


def test_dropout_stays_off_while_statistics_are_measured(net):
    images = torch.randn(16, 3, 8, 8)
    with recalibrated(net, [images]):
        once = net[5].running_mean.clone()
    with recalibrated(net, [images]):
        assert torch.equal(once, net[5].running_mean)


def test_timms_fused_layers_are_found_and_layer_norms_are_not():
    assert len(batch_norms(timm.create_model("test_efficientnet"))) > 0
    assert batch_norms(timm.create_model("test_vit")) == []
