import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from sizemix.diagnosis import run
from sizemix.diagnosis.images import Loader
from sizemix.diagnosis.run import check_disk, check_pace, check_plan
from sizemix.errors import UserError
from sizemix.models.backbone import build_backbone
from sizemix.models.speed import StepSpeed

_SPEEDS = {8: StepSpeed(num_images=10, seconds=0.1, peak_bytes=None), 12: StepSpeed(10, 0.5, None)}


@pytest.fixture
def disk(monkeypatch):
    return lambda free: monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=free))


def test_the_plan_is_the_runs_and_too_few_images_are_refused(setting):
    cost = {8: 1.0, 12: 2.0}
    (finding,) = check_plan(setting("trainer.max_epochs=2"), num_images=80, cost=cost)
    assert finding.text == "2 epochs, 20 steps, 160 images"
    with pytest.raises(UserError, match="more than the 5 training images"):
        list(check_plan(setting(), num_images=5, cost=cost))


def test_the_plan_has_the_length_that_match_asks_for(setting):
    cost = {8: 1.0, 12: 3.0}
    (as_long,) = check_plan(setting("trainer.max_epochs=2"), num_images=80, cost=cost)
    (matched,) = check_plan(setting("trainer.max_epochs=2", "match=compute"), num_images=80, cost=cost)
    assert matched.text.startswith("3 epochs"), "half of the images cost a third"
    assert as_long.text.startswith("2 epochs")
    (timed,) = check_plan(setting("trainer.max_epochs=2", "match=time"), num_images=80, cost=cost)
    assert timed.text == f"{as_long.text}, before match=time changes the length by what the run measures when it starts"


def test_one_epoch_is_one(setting):
    (finding,) = check_plan(setting("trainer.max_epochs=1"), num_images=80, cost={8: 1.0, 12: 2.0})
    assert finding.text.startswith("1 epoch, ")


def test_a_loader_that_is_faster_at_every_size_is_well():
    (finding,) = check_pace(Loader(80, 2, {8: 101, 12: 21}), _SPEEDS)
    assert finding.verdict == "ok"


@pytest.mark.parametrize(("cores", "remedy"), [(8, "raise data.num_workers, as there are 8 CPU"), (2, "sizemix pack")])
def test_a_loader_that_limits_is_a_warning_with_what_helps_on_this_machine(monkeypatch, cores, remedy):
    monkeypatch.setattr(run, "available_cores", lambda: cores)
    (finding,) = check_pace(Loader(80, 2, {8: 60, 12: 21}), _SPEEDS)
    assert finding.verdict == "warning"
    assert "60 of 100 at 8 px" in finding.text
    assert "12 px" not in finding.text
    assert remedy in finding.remedy


def test_the_disk_must_hold_the_checkpoints(disk):
    net = build_backbone("resnet20_cifar", num_classes=10)
    weights = sum(tensor.numel() * tensor.element_size() for tensor in (*net.parameters(), *net.buffers()))
    states = 2 * sum(parameter.numel() * 4 for parameter in net.parameters())
    disk(4 * (weights + states))
    assert [finding.verdict for finding in check_disk(net, averaged=False, folder=Path("outputs"))] == ["ok"]
    (finding,) = check_disk(net, averaged=True, folder=Path("not/yet/there"))
    assert finding.verdict == "problem"
    assert "free some, or set hydra.run.dir elsewhere" in finding.remedy
