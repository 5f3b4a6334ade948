from types import SimpleNamespace

import psutil
import pytest

from sizemix.callbacks.memory_check import MemoryCheck
from sizemix.callbacks.size_scheduler import SizeScheduler
from sizemix.data.datamodule import SizedDataModule
from sizemix.errors import UserError
from sizemix.models.backbone import build_backbone
from sizemix.sizes.schedule import MixedSizes
from sizemix.training.classifier import ImageClassifier
from sizemix.training.optim import CosineLR


def test_a_step_that_does_not_fit_is_refused_before_anything_trains(tiny_dataset, quiet_trainer, monkeypatch):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=2**20))
    model = ImageClassifier(build_backbone("resnet20_cifar", num_classes=2), architecture={}, num_classes=2, val_size=8,
                            optimizer={"opt": "momentum", "lr": 0.05}, lr_schedule=CosineLR())  # fmt: skip
    before = model.net.fc.weight.detach().clone()
    scheduler = SizeScheduler(MixedSizes((4, 8), (0.5, 0.5)), budget="D+", base_size=8, base_batch_size=6, seed=0)
    trainer = quiet_trainer(scheduler, MemoryCheck(scheduler, evaluated={8: 12}))
    with pytest.raises(UserError, match=r"a step of 24 images of 4 px needs more memory .* lower recipe"):
        trainer.fit(model, datamodule=SizedDataModule(tiny_dataset, val_size=8))
    assert (model.net.fc.weight == before).all()
