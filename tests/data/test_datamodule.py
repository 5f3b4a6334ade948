import threading
from dataclasses import replace

import pytest
import pytorch_lightning as pl
import torch

from sizemix.callbacks.size_scheduler import SizeScheduler
from sizemix.data import loader
from sizemix.data.appearance import Appearance, ColorJitter
from sizemix.data.batches import Batch
from sizemix.data.datamodule import SizedDataModule
from sizemix.data.mixing import Mixing
from sizemix.data.request import TrainRequest
from sizemix.data.sources import Split
from sizemix.errors import UserError
from sizemix.sizes.budget import step_shapes
from sizemix.sizes.plan import plan_sizes
from sizemix.sizes.schedule import MixedSizes


def datamodule_for(dataset, *, seed=0, base_batch_size=8, **options):
    datamodule = SizedDataModule(dataset, val_size=8, eval_batch_size=5, **options)
    trainer = pl.Trainer(accelerator="cpu", devices=1, logger=False, enable_checkpointing=False, max_epochs=2)
    datamodule.trainer = trainer
    shapes = step_shapes((4, 8), budget="D+", base_size=8, base_batch_size=base_batch_size)
    schedule = MixedSizes((4, 8), (0.5, 0.5))
    datamodule.use_plan(plan_sizes(schedule, shapes=shapes, num_images=40, num_epochs=2, seed=seed, base_size=8))
    return datamodule


def test_batches_are_normalised_to_three_channels_of_the_step_size(tiny_dataset):
    datamodule = datamodule_for(tiny_dataset)
    items = list(datamodule.train_dataloader())
    for item, spec in zip(items, datamodule.plan.epoch_specs(0), strict=True):
        assert item.images.dtype is torch.uint8
        batch = datamodule.on_after_batch_transfer(item, 0)
        images = spec.global_batch_size * spec.num_repeats
        assert batch.images.shape == (images, 3, spec.image_size, spec.image_size)
        assert batch.images.is_contiguous(memory_format=torch.channels_last)
        assert torch.allclose(batch.images[:, :1], (item.images.float() / 255 - 0.5) / 0.5, atol=1e-5)


@pytest.mark.parametrize(
    "augmentation",
    [{"flip": True}, {"appearance": Appearance(color_jitter=ColorJitter(0.5))}, {"mixing": Mixing(erasing=1.0)}],
    ids=["flip", "appearance", "mixing"],
)
def test_augmentation_changes_training_batches_and_no_others(tiny_dataset, augmentation):
    plain, augmented = (datamodule_for(tiny_dataset, **({"flip": False} | more)) for more in ({}, augmentation))

    def first(datamodule):
        return datamodule.on_after_batch_transfer(next(iter(datamodule.train_dataloader())), 0).images

    def evaluated(datamodule):
        validation = [datamodule.on_after_batch_transfer(item, 0) for item in datamodule.val_dataloader()]
        return torch.cat([batch.images for batch in (*validation, *datamodule.eval_batches("test", 8))])

    assert not torch.equal(first(plain), first(augmented))
    assert torch.equal(evaluated(plain), evaluated(augmented))


def test_test_batches_show_every_image_once_in_order(tiny_dataset):
    batches = list(datamodule_for(tiny_dataset).eval_batches("test", 8))
    assert [len(batch.targets) for batch in batches] == [5, 5, 2]
    shown = torch.cat([batch.images for batch in batches])[:, :1]
    assert torch.allclose(shown, (tiny_dataset.test.images.float() / 255 - 0.5) / 0.5, atol=1e-5)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_test_batches_of_several_sizes_are_those_of_each(tiny_dataset, num_workers, monkeypatch):
    monkeypatch.setattr(loader, "_PIECE", 2)
    datamodule = datamodule_for(tiny_dataset, num_workers=num_workers)
    batches = datamodule.eval_batches("test", 8, 4)
    together = list(batches)
    assert [(batch.image_size, len(batch.targets)) for batch in together] == [(8, 5), (4, 5)] * 2 + [(8, 2), (4, 2)]
    assert len(batches) == len(list(batches)) == 6
    for size in (8, 4):
        alone = list(datamodule_for(tiny_dataset).eval_batches("test", size))
        own = [batch for batch in together if batch.image_size == size]
        for one, other in zip(own, alone, strict=True):
            assert torch.equal(one.images, other.images)
            assert torch.equal(one.targets, other.targets)
            assert one.images.is_contiguous(memory_format=torch.channels_last)


def test_calibration_is_augmented_only_when_asked(tiny_dataset):
    datamodule = datamodule_for(tiny_dataset)
    plain, augmented = (
        torch.cat([b.images for b in datamodule.calibration_batches(8, num_images=40, batch_size=8, augment=augment)])
        for augment in (False, True)
    )
    shown = (tiny_dataset.train.images.float() / 255 - 0.5) / 0.5
    assert torch.allclose(plain[:, :1].sort(dim=0).values, shown.sort(dim=0).values, atol=1e-5)
    assert not torch.allclose(plain, augmented)


def test_fewer_calibration_images_than_a_batch_make_one_smaller_batch(tiny_dataset):
    batches = datamodule_for(tiny_dataset).calibration_batches(8, num_images=5, batch_size=8, augment=False)
    assert [len(batch.targets) for batch in batches] == [5]


@pytest.mark.parametrize("augment", [False, True])
def test_calibration_shows_the_same_training_images_at_every_size(tiny_dataset, augment):
    datamodule = datamodule_for(tiny_dataset)
    options = {"num_images": 30, "batch_size": 8, "augment": augment}
    by_size = {size: list(datamodule.calibration_batches(size, **options)) for size in (4, 8)}
    for batches in by_size.values():
        assert [len(batch.targets) for batch in batches] == [8, 8, 8], "batches of equal size only"
    targets = [torch.cat([batch.targets for batch in batches]) for batches in by_size.values()]
    assert torch.equal(*targets)
    again = list(datamodule.calibration_batches(8, **options))
    assert all(torch.equal(one.images, other.images) for one, other in zip(by_size[8], again, strict=True))


def test_a_checkpoint_of_the_same_run_is_accepted(tiny_dataset):
    state = datamodule_for(tiny_dataset).state_dict()
    datamodule_for(tiny_dataset).load_state_dict(state)


def test_a_checkpoint_of_another_plan_is_refused_by_name(tiny_dataset):
    state = datamodule_for(tiny_dataset).state_dict()
    with pytest.raises(UserError, match=r"another size plan \(seed differ: 0 then, 1 now\)"):
        datamodule_for(tiny_dataset, seed=1).load_state_dict(state)
    with pytest.raises(UserError, match=r"another size plan \(shapes differ"):
        datamodule_for(tiny_dataset, base_batch_size=10).load_state_dict(state)


def test_a_checkpoint_of_other_images_is_refused(tiny_dataset):
    state = datamodule_for(tiny_dataset).state_dict()
    images = tiny_dataset.train.images.clone()
    images[3, 0, 2, 2] += 1
    other = replace(tiny_dataset, train=Split(images, tiny_dataset.train.targets))
    with pytest.raises(UserError, match="trained on other images"):
        datamodule_for(other).load_state_dict(state)


def test_a_checkpoint_of_other_augmentation_is_refused(tiny_dataset):
    state = datamodule_for(tiny_dataset).state_dict()
    state["augmentation"]["flip"] = False
    with pytest.raises(UserError, match=r"'flip': False.*this run has .*'flip': True"):
        datamodule_for(tiny_dataset).load_state_dict(state)


def test_fewer_validation_images_than_processes_are_refused(tiny_dataset, monkeypatch):
    datamodule = datamodule_for(tiny_dataset)
    monkeypatch.setattr(type(datamodule.trainer), "world_size", 1000)
    with pytest.raises(
        UserError, match=r"expected a validation image for each of 1000 processes, got \d+; hold out more"
    ):
        datamodule.setup("fit")


def test_a_trainer_on_another_device_gets_its_batches_there(tiny_dataset, monkeypatch):
    datamodule = datamodule_for(tiny_dataset)
    for device in (torch.device("meta"), torch.device("cpu")):
        monkeypatch.setattr(SizedDataModule, "_device", device)
        datamodule.setup("fit")
        assert {batch.images.device for batch in datamodule.eval_batches("test", 8)} == {device}


@pytest.mark.gpu
def test_batches_made_on_the_gpu_are_those_made_on_the_cpu(tiny_dataset):
    on_cpu = datamodule_for(tiny_dataset)
    on_gpu = datamodule_for(tiny_dataset)
    on_gpu.trainer = pl.Trainer(accelerator="gpu", devices=1, logger=False, enable_checkpointing=False)
    on_gpu.setup("fit")
    device = torch.device("cuda", 0)
    for request, item in zip(on_gpu.train_dataloader(), on_cpu.train_dataloader(), strict=True):
        made = on_gpu.transfer_batch_to_device(request, device, 0)
        assert isinstance(made, Batch)
        assert made.images.is_cuda
        difference = (made.images.cpu().int() - item.images.int()).abs().max()
        assert difference <= 1, "the two resizes round differently by at most one grey level"
        assert torch.equal(made.targets.cpu(), item.targets)


class FailingModel(pl.LightningModule):
    """Gives up at its third batch."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3, 2)

    def training_step(self, batch, batch_idx):
        if batch_idx == 2:
            raise ValueError("enough")
        return self.layer(batch.images.mean((2, 3))).sum()

    def validation_step(self, batch, batch_idx):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_no_thread_is_left_of_a_training_that_fails(tiny_dataset):
    scheduler = SizeScheduler(MixedSizes((4, 8), (0.5, 0.5)), budget="D+", base_size=8, base_batch_size=4, seed=0)
    trainer = pl.Trainer(
        callbacks=[scheduler],
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        num_sanity_val_steps=0,
    )
    with pytest.raises(ValueError, match="enough"):
        trainer.fit(FailingModel(), datamodule=SizedDataModule(tiny_dataset, val_size=8, num_workers=2))
    assert [one.name for one in threading.enumerate() if one.name.startswith("sizemix-data")] == []


@pytest.fixture
def on_cuda(monkeypatch):
    """A GPU that is only pretended; page-locked memory needs a real one."""
    monkeypatch.setattr(SizedDataModule, "_device", torch.device("cuda", 0))
    monkeypatch.setattr(Batch, "pinned", lambda batch: replace(batch, unreadable=("pinned",)))


@pytest.mark.usefixtures("on_cuda")
def test_samples_that_are_changed_one_by_one_are_made_on_the_host_and_copied_without_waiting(tiny_dataset):
    datamodule = datamodule_for(tiny_dataset, appearance=Appearance(color_jitter=ColorJitter(0.5)), num_workers=1)
    assert next(iter(datamodule.train_dataloader())).unreadable == ("pinned",)
    assert next(iter(datamodule.val_dataloader())).unreadable == ("pinned",)


@pytest.mark.usefixtures("on_cuda")
def test_images_of_the_final_evaluation_are_copied_without_waiting_too(tiny_dataset, monkeypatch):
    monkeypatch.setattr(SizedDataModule, "_ready", lambda datamodule, piece: piece)
    datamodule = datamodule_for(tiny_dataset, appearance=Appearance(color_jitter=ColorJitter(0.5)), num_workers=1)
    assert {batch.unreadable for batch in datamodule.eval_batches("val", 8, 12)} == {("pinned",)}


@pytest.mark.usefixtures("on_cuda")
def test_other_batches_are_made_on_a_gpu_itself(tiny_dataset):
    assert isinstance(next(iter(datamodule_for(tiny_dataset).train_dataloader())), TrainRequest)
