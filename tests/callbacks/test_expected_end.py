import re

import pytest
from pytorch_lightning.callbacks import Timer

from sizemix.callbacks import expected_end
from sizemix.callbacks.expected_end import ExpectedEnd, seconds_left
from sizemix.callbacks.size_scheduler import SizeScheduler
from sizemix.data.datamodule import SizedDataModule
from sizemix.models.backbone import build_backbone
from sizemix.sizes.plan import plan_run
from sizemix.sizes.progressive import SizeByEpoch
from sizemix.sizes.schedule import MixedSizes
from sizemix.training.classifier import ImageClassifier
from sizemix.training.optim import CosineLR


def test_later_steps_count_as_what_they_cost():
    growing = plan_run(
        SizeByEpoch((8, 16)), budget="D+", base_size=16, base_batch_size=10, num_images=100, num_epochs=2, seed=0
    )
    fixed = plan_run(
        SizeByEpoch((8, 16)), budget="constant", base_size=16, base_batch_size=10, num_images=100, num_epochs=2, seed=0
    )
    assert seconds_left(growing, timed=range(10), done=10, seconds=5) == pytest.approx(5), (
        "four copies at half the size"
    )
    assert seconds_left(fixed, timed=range(10), done=10, seconds=5) == pytest.approx(20)
    assert seconds_left(fixed, timed=range(5, 15), done=15, seconds=5) == pytest.approx(5 * 5 * 4 / (5 + 5 * 4))
    assert seconds_left(fixed, timed=range(10, 20), done=20, seconds=5) == 0


def test_a_time_limit_may_end_it_earlier():
    timer = Timer(duration="00:00:00:30")
    timer._start_time["train"] = 0.0
    timer._end_time["train"] = 10.0
    assert "(in 0:00:20), as trainer.max_time is over then." in ExpectedEnd(timer)._sentence(100)
    assert "(in 0:00:15), validation not counted." in ExpectedEnd(timer)._sentence(15)
    assert "(in 0:01:40), validation not counted." in ExpectedEnd(Timer(duration=None))._sentence(100)


@pytest.mark.parametrize("micro_batches", [1, 2])
def test_a_run_says_once_when_it_will_end(tiny_dataset, quiet_trainer, monkeypatch, capsys, micro_batches):
    monkeypatch.setattr(expected_end, "_STEPS", 12)
    model = ImageClassifier(build_backbone("resnet20_cifar", num_classes=2), architecture={}, num_classes=2, val_size=8,
                            optimizer={"opt": "momentum", "lr": 0.05}, lr_schedule=CosineLR())  # fmt: skip
    scheduler = SizeScheduler(MixedSizes((8,), (1.0,)), budget="D+", base_size=8, base_batch_size=4, seed=0)
    trainer = quiet_trainer(scheduler, ExpectedEnd(), max_epochs=2, accumulate_grad_batches=micro_batches)
    trainer.fit(model, datamodule=SizedDataModule(tiny_dataset, val_size=8))
    said = re.findall(r"expected to end at .*\d\d:\d\d \(in (\d+:\d\d:\d\d)\)", capsys.readouterr().out)
    assert len(said) == 1
