import pytest
from torch import nn
from torch.nn import functional as F

from sizemix.diagnosis import network
from sizemix.diagnosis.finding import carried_out
from sizemix.diagnosis.network import check_network, check_sizes, check_speed, check_step_memory
from sizemix.errors import UserError
from sizemix.models import memory, speed
from sizemix.models.backbone import build_backbone
from sizemix.models.speed import StepSpeed


class OfOneSize(nn.Module):
    """Takes 224 px, what timm's configuration says of a network that has none, and nothing else."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 2)

    def forward(self, images):
        assert images.shape[-1] == 224, "expected 224 px"
        return self.fc(images.mean((2, 3)))


class Rescaling(nn.Module):
    """Costs the same at every size."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3)

    def forward(self, images):
        return self.conv(F.interpolate(images, (8, 8))).mean((2, 3))


def test_the_network_is_the_runs_and_what_is_frozen_is_told(compose):
    (finding,) = check_network(compose("training.train_only=head"), num_classes=10)
    assert finding.text == "resnet20_cifar, 0.27 million parameters, of which 0.00 train"


def test_all_sizes_of_the_run_are_tried_and_costed(setting):
    found = []
    flops = carried_out(check_sizes(setting(), build_backbone("resnet20_cifar", num_classes=2)), found, subject="it")
    assert list(flops) == [8, 12, 16]
    assert flops[16] == pytest.approx(4 * flops[8], rel=0.05)
    assert found[0].text == "takes all: 8, 12, 16 px"


def test_for_a_refused_size_the_nearest_that_is_taken_is_named(setting):
    sizes = ("sizes.image_sizes=[96,100,120]", "sizes.shares=[0.4,0.3,0.3]", "sizes.base_size=96")
    looked_at = setting(*sizes, "evaluation.eval_sizes=[96]")
    found = []
    net = build_backbone("test_vit", num_classes=2)  # patches of 16 px
    flops = carried_out(check_sizes(looked_at, net), found, subject="it")
    assert list(flops) == [96]
    assert found[0].text == "takes 96 px, not 100, 120 px"
    assert found[0].verdict == "problem"
    assert found[0].remedy.endswith("the nearest that it takes: 96 for 100, 112 for 120.")


def test_a_network_of_one_size_is_told_with_that_size(setting):
    found = []
    assert carried_out(check_sizes(setting(), OfOneSize()), found, subject="it") == {}
    (finding,) = found
    assert finding.text == "takes none of 8, 12, 16 px"
    assert finding.remedy.endswith("224 for 8, 224 for 12, 224 for 16.")


def test_a_network_that_rescales_its_input_is_refused(setting):
    with pytest.raises(UserError, match="costs the same at 8 and 16 px"):
        list(check_sizes(setting(), Rescaling()))


def test_a_step_that_does_not_fit_into_the_containers_memory_is_refused(setting, monkeypatch):
    net, batches = build_backbone("resnet20_cifar", num_classes=2), {8: 16, 12: 8}
    (finding,) = check_step_memory(setting(), net, batches)
    assert finding.text.startswith("the largest, 8 images of 12 px, fits: about 0.0")
    monkeypatch.setattr(memory, "available_bytes", lambda: 2**20)
    with pytest.raises(UserError, match=r"a step of 8 images of 12 px needs more memory than the cpu has"):
        list(check_step_memory(setting(), net, batches))
    with pytest.raises(UserError, match=r"a step of 16 images of 12 px"):
        list(check_step_memory(setting("trainer.devices=2"), net, batches))


def test_a_network_that_takes_seconds_for_an_image_is_not_well(setting, monkeypatch):
    monkeypatch.setattr(network, "measured_steps", lambda *_, **__: {12: StepSpeed(2, 8.0, None)})
    net = build_backbone("resnet20_cifar", num_classes=2)
    (finding,) = check_speed(setting(), net, {12: 2}, flops={12: 1})
    assert finding.text.startswith("images/s: 0.25 at 12 px")
    assert finding.verdict == "warning"
    assert "use a GPU" in finding.remedy


def test_on_a_cpu_steps_are_measured_with_as_many_images_as_are_quick(setting, monkeypatch):
    monkeypatch.setattr(speed, "_CPU_FLOPS", 400)
    found = []
    net = build_backbone("resnet20_cifar", num_classes=2)
    check = check_speed(setting(), net, {8: 16, 12: 8}, flops={8: 100, 12: 900})
    speeds = carried_out(check, found, subject="it")
    assert {size: speed.num_images for size, speed in speeds.items()} == {8: 4, 12: 2}
    assert [finding.subject for finding in found] == ["speed"]
    assert "at 8 px" in found[0].text
