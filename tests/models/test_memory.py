from contextlib import nullcontext
from types import SimpleNamespace

import psutil
import pytest
import torch
from torch import nn

from sizemix.errors import UserError
from sizemix.models import memory
from sizemix.models.activations import peak_bytes
from sizemix.models.backbone import build_backbone
from sizemix.models.memory import check_evaluation_memory, check_memory, estimated_bytes

CPU = torch.device("cpu")
GIB = 2**30


@pytest.fixture
def free(monkeypatch):
    def set_free(num_bytes):
        monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=num_bytes))

    return set_free


def test_saved_tensors_gradients_and_optimizer_states_are_counted():
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.LazyLinear(4))
    net(torch.zeros(1, 3, 16, 16))
    parameters = sum(parameter.numel() for parameter in net.parameters())
    activations = 10 * 3 * 16 * 16 + 10 * 8 * 16 * 16 + 10 * 4  # input, output of the ReLU, log-probabilities
    expected = 4 * (3 * parameters + 1.25 * activations)
    assert estimated_bytes(net, 16, 10) == pytest.approx(expected, rel=0.01)


def test_the_need_grows_with_pixels_and_images():
    net = build_backbone("resnet20_cifar", num_classes=10)
    base = estimated_bytes(net, 32, 64)
    assert estimated_bytes(net, 64, 64) == pytest.approx(4 * base, rel=0.05)
    assert estimated_bytes(net, 32, 128) == pytest.approx(2 * base, rel=0.05)


def test_frozen_parameters_need_less():
    net = build_backbone("resnet20_cifar", num_classes=10)
    whole = estimated_bytes(net, 32, 64)
    for parameter in net.parameters():
        parameter.requires_grad = False
    net.fc.requires_grad_(True)
    assert estimated_bytes(net, 32, 64) < whole / 10


def test_resnet50_at_224_is_near_what_was_measured():
    net = build_backbone("resnet50", num_classes=1000)
    assert estimated_bytes(net, 224, 8) == pytest.approx(1082 * 2**20, rel=0.1)


def test_a_step_that_fits_leaves_everything_as_it_was(free):
    free(64 * GIB)
    net = build_backbone("resnet20_cifar", num_classes=10).eval()
    before, generator = {name: value.clone() for name, value in net.state_dict().items()}, torch.get_rng_state()
    check_memory(net, image_sizes={32: 64, 16: 256}, device=CPU, autocast=nullcontext)
    assert not net.training
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())
    assert torch.equal(generator, torch.get_rng_state())


def test_the_step_with_the_most_pixels_is_named_with_remedies(free):
    free(GIB)
    net = build_backbone("resnet20_cifar", num_classes=10)
    message = (
        r"a step of 600 images of 64 px needs more memory than the cpu has \(about \d\.\d GiB of 1\.0 GiB that are "
        r"free\); lower recipe\.base_batch_size, raise trainer\.accumulate_grad_batches"
    )
    with pytest.raises(UserError, match=message):
        check_memory(net, image_sizes={32: 2000, 64: 600, 128: 10}, device=CPU, autocast=nullcontext)


def test_an_evaluation_counts_what_exists_at_the_same_time():
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)
    )
    images, feature_maps = 10 * 3 * 16 * 16, 10 * 8 * 16 * 16
    assert peak_bytes(net, 16, 10) == 4 * (images + 2 * feature_maps), "images, output of the convolution, of the ReLU"
    deeper = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), *(nn.ReLU() for _ in range(20)))
    assert peak_bytes(deeper, 16, 10) == 4 * (images + 2 * feature_maps), "however deep"


def test_the_test_batch_with_the_most_pixels_is_named_with_remedies(free):
    free(GIB)
    net = build_backbone("resnet20_cifar", num_classes=10)
    check_evaluation_memory(net, image_sizes={32: 600}, device=CPU, autocast=nullcontext)
    message = (
        r"evaluation: a batch of 600 images of 4096 px needs more memory than the cpu has \(about "
        r".* GiB of 1\.0 GiB that are free\); lower evaluation\.batch_size and recipe\.base_batch_size, "
        r"with which batch norms are recalibrated, or choose smaller"
    )
    with pytest.raises(UserError, match=message):
        check_evaluation_memory(net, image_sizes={32: 600, 4096: 600}, device=CPU, autocast=nullcontext)


@pytest.mark.parametrize(
    ("error", "too_little"),
    [
        (torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("GET was unable to find an engine to execute this computation"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
    ],
)
def test_a_gpu_that_has_too_little_is_told_from_other_failures(monkeypatch, error, too_little):
    def fails(*_, **__):
        raise error

    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (3 * GIB, 8 * GIB))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(torch.random, "fork_rng", nullcontext)
    monkeypatch.setattr(memory, "_try_step", fails)
    with pytest.raises(UserError if too_little else RuntimeError) as caught:
        check_memory(nn.Identity(), image_sizes={32: 64}, device=torch.device("cuda"), autocast=nullcontext)
    assert ("3.0 GiB were free" in str(caught.value)) is too_little


@pytest.mark.gpu
def test_on_a_gpu_a_step_that_does_not_fit_is_refused_and_one_that_does_leaves_no_trace():
    device = torch.device("cuda", 0)
    net = build_backbone("resnet20_cifar", num_classes=10).to(device)
    before, generator = {name: value.clone() for name, value in net.state_dict().items()}, torch.cuda.get_rng_state()

    def autocast():
        return torch.autocast("cuda", torch.bfloat16)

    check_memory(net, image_sizes={32: 64}, device=device, autocast=autocast)
    with pytest.raises(UserError, match="a step of 4000000 images of 64 px"):
        check_memory(net, image_sizes={64: 4_000_000}, device=device, autocast=autocast)
    check_evaluation_memory(net, image_sizes={32: 64}, device=device, autocast=autocast)
    with pytest.raises(UserError, match="a batch of 4000000 images of 64 px"):
        check_evaluation_memory(net, image_sizes={64: 4_000_000}, device=device, autocast=autocast)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())
    assert torch.equal(generator, torch.cuda.get_rng_state())
