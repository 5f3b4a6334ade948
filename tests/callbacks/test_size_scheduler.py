import pytest
import pytorch_lightning as pl

from sizemix.callbacks.determinism import Determinism
from sizemix.callbacks.size_scheduler import SizeScheduler
from sizemix.data.datamodule import SizedDataModule
from sizemix.models.backbone import build_backbone
from sizemix.sizes.schedule import MixedSizes
from sizemix.training.classifier import ImageClassifier
from sizemix.training.optim import CosineLR


class Sizes(pl.Callback):
    """Notes what training really saw."""

    def __init__(self):
        self.seen = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.seen.append((batch.item, batch.image_size, tuple(batch.images.shape)))


def parts(dataset):
    datamodule = SizedDataModule(dataset, val_size=8)
    scheduler = SizeScheduler(MixedSizes((6, 8), (0.5, 0.5)), budget="B+", base_size=8, base_batch_size=6, seed=0)
    model = ImageClassifier(
        build_backbone("resnet20_cifar", num_classes=2),
        architecture={"name": "resnet20_cifar"},
        num_classes=2,
        optimizer={"opt": "momentum", "lr": 0.05},
        lr_schedule=CosineLR(),
        val_size=8,
    )
    return model, datamodule, scheduler


@pytest.mark.parametrize("micro_batches", [1, 2])
def test_training_follows_the_plan_step_by_step_through_epochs_of_different_length(
    tiny_dataset, quiet_trainer, micro_batches
):
    model, datamodule, scheduler = parts(tiny_dataset)
    sizes = Sizes()
    trainer = quiet_trainer(scheduler, Determinism(0), sizes, max_epochs=4, accumulate_grad_batches=micro_batches)
    trainer.fit(model, datamodule=datamodule)
    plan = datamodule.plan
    assert len({plan.epoch_length(epoch) for epoch in range(4)}) > 1, "the example needs epochs of different length"
    assert trainer.global_step == plan.num_steps
    expected = []
    for epoch in range(4):
        for spec in plan.epoch_specs(epoch):
            shape = (spec.global_batch_size // micro_batches, 3, spec.image_size, spec.image_size)
            for micro in range(micro_batches):
                expected.append((spec.step * micro_batches + micro, spec.image_size, shape))
    assert sizes.seen == expected


def test_the_learning_rate_ends_at_zero_by_images_seen(tiny_dataset, quiet_trainer):
    model, datamodule, scheduler = parts(tiny_dataset)
    trainer = quiet_trainer(scheduler, Determinism(0), max_epochs=4)
    trainer.fit(model, datamodule=datamodule)
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0, abs=1e-9)


def test_a_batch_that_is_not_the_plans_next_one_stops_the_run(tiny_dataset, quiet_trainer):
    model, datamodule, scheduler = parts(tiny_dataset)
    datamodule._place = lambda: (0, 1)
    with pytest.raises(RuntimeError, match="the plan wants"):
        quiet_trainer(scheduler, Determinism(0), max_epochs=4).fit(model, datamodule=datamodule)
