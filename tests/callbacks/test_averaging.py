import pytest
import pytorch_lightning as pl
import torch

from sizemix.callbacks.averaging import WeightAveraging
from sizemix.callbacks.size_scheduler import SizeScheduler
from sizemix.data.datamodule import SizedDataModule
from sizemix.errors import UserError
from sizemix.models.averaging import RunningAverage, averaged_copy
from sizemix.models.backbone import build_backbone
from sizemix.sizes.budget import step_shapes
from sizemix.sizes.plan import plan_sizes
from sizemix.sizes.schedule import MixedSizes
from sizemix.training.classifier import ImageClassifier
from sizemix.training.optim import CosineLR


def plan(num_epochs=3):
    shapes = step_shapes((4, 8), budget="B+", base_size=8, base_batch_size=5)
    return plan_sizes(MixedSizes((4, 8), (0.5, 0.5)), shapes=shapes, num_images=40, num_epochs=num_epochs, seed=0,
                      base_size=8)  # fmt: skip


def test_the_past_loses_half_of_its_weight_in_a_half_life_however_large_the_steps():
    averaging, run = WeightAveraging(half_life=1.0), plan(num_epochs=30)
    kept = images = 1.0
    for step in range(run.num_steps // 2, run.num_steps):
        images = run.images_before(step + 1) - run.images_before(run.num_steps // 2)
        kept *= 1 - averaging.weight_of(step, run)
    assert kept == pytest.approx(0.5 ** (images / 40), rel=0.02)


def test_the_average_begins_as_the_plain_mean_by_images():
    averaging, run = WeightAveraging(half_life=100.0), plan()
    value = 0.0
    for step in range(run.num_steps):
        value += averaging.weight_of(step, run) * (step - value)
    weights = [run.images_before(step + 1) - run.images_before(step) for step in range(run.num_steps)]
    assert value == pytest.approx(sum(w * s for s, w in enumerate(weights)) / sum(weights), rel=1e-6)


def test_weights_and_statistics_move_and_counters_are_copied():
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 1), torch.nn.BatchNorm2d(2))
    averaged = averaged_copy(net)
    before = {name: value.clone() for name, value in averaged.state_dict().items()}
    with torch.no_grad():
        net[0].weight.add_(1.0)
    net(torch.randn(4, 3, 8, 8))
    RunningAverage(averaged, net).add(weight=0.25)
    for name, value in averaged.state_dict().items():
        expected = net.state_dict()[name] if "tracked" in name else before[name].lerp(net.state_dict()[name], 0.25)
        assert torch.allclose(value, expected), name
    assert not any(parameter.requires_grad for parameter in averaged.parameters())


@pytest.mark.parametrize("micro_batches", [1, 2])
def test_training_validates_the_average_and_leaves_the_trained_weights_alone(
    tiny_dataset, quiet_trainer, micro_batches
):
    class Record(pl.Callback):
        def __init__(self):
            self.weights = []

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            if (batch_idx + 1) % trainer.accumulate_grad_batches == 0:
                self.weights.append(pl_module.net.fc.weight.detach().clone())

    torch.manual_seed(0)
    net = build_backbone("resnet20_cifar", num_classes=2)
    first = net.fc.weight.detach().clone()
    model = ImageClassifier(net, architecture={"name": "resnet20_cifar"}, num_classes=2, average=True, val_size=8,
                            optimizer={"opt": "momentum", "lr": 0.05}, lr_schedule=CosineLR())  # fmt: skip
    sizes = SizeScheduler(MixedSizes((4, 8), (0.5, 0.5)), budget="B+", base_size=8, base_batch_size=6, seed=0)
    record, averaging = Record(), WeightAveraging(half_life=0.3)
    trainer = quiet_trainer(sizes, averaging, record, max_epochs=2, accumulate_grad_batches=micro_batches)
    trainer.fit(model, datamodule=SizedDataModule(tiny_dataset, val_size=8))
    assert len(record.weights) == sizes.planned.num_steps
    expected = first
    for step, weights in enumerate(record.weights):
        expected = expected.lerp(weights, averaging.weight_of(step, sizes.planned))
    assert torch.allclose(model.averaged.fc.weight, expected, atol=1e-6)
    assert torch.equal(model.net.fc.weight, record.weights[-1])
    assert model.evaluated is model.averaged
    val = tiny_dataset.val
    images = (val.images.float() / 255 - 0.5) / 0.5
    with torch.no_grad():
        top1 = (model.averaged.eval()(images.expand(-1, 3, -1, -1)).argmax(1) == val.targets).float().mean()
    assert trainer.callback_metrics["val/top1@8"].item() == pytest.approx(top1.item(), abs=1e-6)


def test_a_half_life_that_is_not_positive_is_refused():
    with pytest.raises(UserError, match="averaging_half_life: expected passes over the images, or null, got 0"):
        WeightAveraging(0)
