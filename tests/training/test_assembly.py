import json

import pytest
import pytorch_lightning as pl
import torch
from omegaconf import OmegaConf
from safetensors.torch import save_file
from timm.layers import DropPath
from torch.nn import functional as F

from sizemix.callbacks.gradient_smoothing import GradientSmoothing
from sizemix.callbacks.size_scheduler import SizeScheduler
from sizemix.callbacks.step_figures import StepFigures
from sizemix.callbacks.throughput import Throughput
from sizemix.callbacks.time_limit import TimeLimit
from sizemix.data.preprocessing import Preprocessing
from sizemix.errors import UserError
from sizemix.models.backbone import build_backbone
from sizemix.runs.folder import RunFolder
from sizemix.sizes.spending import spending
from sizemix.training.assembly import assemble
from sizemix.training.run import fit
from sizemix.training.unprofiled import Unprofiled

_QUICK = ("data.train_images=100", "trainer.enable_progress_bar=false", "trainer.accelerator=cpu")


@pytest.fixture
def assembled(compose, tmp_path):
    return lambda *overrides: assemble(compose(*_QUICK, *overrides), RunFolder(tmp_path))


@pytest.mark.parametrize(
    ("overrides", "smooths"),
    [
        (["sizes=mixed"], True),
        (["sizes=fixed"], False),
        (["sizes=fixed", "recipe.gradient_smoothing=true"], True),
        (["sizes=mixed", "recipe.gradient_smoothing=false"], False),
        (["sizes=mixed", "recipe=adamw"], False),
    ],
)
def test_gradients_are_smoothed_for_several_sizes_with_sgd_unless_told_otherwise(assembled, overrides, smooths):
    callbacks = assembled(*overrides).trainer.callbacks
    assert any(isinstance(callback, GradientSmoothing) for callback in callbacks) is smooths


def sizes_of(run):
    plan = run.scheduler.plan(num_images=9000, num_epochs=1)
    return {size: (shape.global_batch_size, shape.num_repeats) for size, shape in plan.inputs.shapes.items()}


@pytest.mark.parametrize(
    ("overrides", "sizes"),
    [
        (["sizes=fixed"], {28: (64, 1)}),
        (["sizes=fixed", "sizes.base_size=16"], {16: (64, 1)}),
        (
            ["sizes=mixed"],
            {16: (64, 3), 20: (64, 2), 24: (64, 1), 28: (64, 1), 32: (64, 1), 36: (64, 1), 40: (31, 1)},
        ),
        (["sizes=mixed_fast"], {12: (348, 1), 16: (196, 1), 28: (64, 1), 32: (49, 1)}),
        (["sizes=mixed_cifar"], {16: (64, 4), 24: (64, 2), 32: (64, 1), 48: (28, 1)}),
    ],
)
def test_the_shipped_regimes(assembled, overrides, sizes):
    assert sizes_of(assembled(*overrides)) == sizes


def test_compute_shares_follow_the_measured_cost_of_the_network(assembled):
    run = assembled("sizes=mixed", "sizes.share_of=compute", "model=resnet18", "recipe.base_batch_size=10")
    plan = run.scheduler.plan(num_images=9000, num_epochs=4)
    for row, share in zip(spending(plan).sizes, plan.inputs.shares[0].values(), strict=True):
        assert row.compute_share == pytest.approx(share, abs=0.004)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["sizes._target_=sizemix.sizes.schedule.nowhere"], "sizes: "),
        (["+recipe.lr_schedule.gamma=3"], "recipe.lr_schedule: .*gamma"),
        (["trainer.strategy=foo"], "trainer: .*invalid strategy name"),
        (["+data.colour=red"], "data: .*colour"),
    ],
)
def test_what_a_target_does_not_take_is_named_with_its_place(assembled, overrides, message):
    with pytest.raises(UserError, match=message):
        assembled(*overrides)


def test_a_network_of_ones_own_with_other_outputs_is_refused_before_training(compose, tmp_path, monkeypatch):
    (tmp_path / "odd_model.py").write_text("from torch import nn\n\ndef odd(num_classes):\n    return nn.Sequential(\n"
        "        nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())\n")  # fmt: skip
    monkeypatch.syspath_prepend(tmp_path)
    config = compose(*_QUICK)
    config.model = {"_target_": "odd_model.odd"}
    with pytest.raises(UserError, match=r"one for each of 10 classes, got shape \(2, 4\) from odd_model.odd"):
        assemble(config, RunFolder(tmp_path))


def test_every_option_of_the_images_reaches_the_datamodule(assembled):
    run = assembled(
        *("augment.flip=false", "augment.rand_augment={num_ops: 3, magnitude: 7}", "augment.color_jitter=0.3"),
        *("augment.erasing=0.1", "augment.mixup=0.2", "augment.cutmix=0.5", "training.imbalance=oversample"),
        *("augment.rescale=[0.5,1]", "augment.rescale_shares=[0.3,0.7]"),
        *("evaluation.val_size=12", "evaluation.batch_size=11", "data.num_workers=3"),
    )
    run.datamodule.use_plan(run.scheduler.plan(num_images=100, num_epochs=1))
    assert run.datamodule.state_dict()["augmentation"] == {
        "flip": False,
        "appearance": {"rand_augment": {"num_ops": 3, "magnitude": 7}, "color_jitter": {"strength": 0.3}},
        "mixing": {"erasing": 0.1, "mixup": 0.2, "cutmix": 0.5, "rescale": (0.5, 1.0), "rescale_shares": (0.3, 0.7)},
        "oversample": True,
    }
    served = run.datamodule
    assert (served.val_size, served.eval_batch_size, served.num_workers) == (12, 11, 3)


def test_stochastic_depth_grows_with_the_depth_up_to_its_rate(assembled):
    net = assembled("model.drop_path_rate=0.2").model.net
    rates = [layer.drop_prob for layer in net.modules() if isinstance(layer, DropPath)]
    assert rates == pytest.approx([0.025 * block for block in range(1, 9)])


class Steps(pl.Callback):
    """Notes loss, logits and targets of every step."""

    def __init__(self):
        self.seen = []

    def on_fit_start(self, trainer, pl_module):
        pl_module.net.register_forward_hook(lambda net, images, logits: setattr(self, "_logits", logits.detach()))

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.seen.append((outputs["loss"], self._logits, batch.targets))


@pytest.fixture
def steps_of(assembled, photos):
    """An epoch over 12 photos of one class and 4 of another, when one of each is held out for validation and test."""
    root = photos({"common": 14, "rare": 6})
    tiny = (
        *("data=folder", f"data.root={root}", "data.train_images=null", "data.num_workers=0"),
        *("model=timm", "model.name=test_resnet", "sizes=fixed", "sizes.base_size=32", "evaluation.eval_sizes=[32]"),
        *("recipe.base_batch_size=8", "trainer.max_epochs=1"),
    )

    def fit(override):
        run, steps = assembled(*tiny, override), Steps()
        run.trainer.callbacks.append(steps)
        run.trainer.fit(run.model, datamodule=run.datamodule)
        return steps.seen

    return fit


@pytest.mark.parametrize(
    ("override", "weights", "smoothing"),
    [
        ("training.imbalance=null", [1, 1], 0),
        ("training.imbalance=class_weights", [16 / (2 * 12), 16 / (2 * 4)], 0),
        ("recipe.label_smoothing=0.2", [1, 1], 0.2),
    ],
)
def test_the_training_loss_weighs_classes_and_smooths_labels_as_configured(steps_of, override, weights, smoothing):
    for loss, logits, targets in steps_of(override):
        wanted = (1 - smoothing) * F.one_hot(targets, 2) + smoothing / 2
        weight = torch.tensor(weights)[targets]
        by_image = -(wanted * logits.log_softmax(1)).sum(1)
        assert loss.item() == pytest.approx(((weight * by_image).sum() / weight.sum()).item(), rel=1e-5)


@pytest.mark.parametrize(("imbalance", "shown"), [("null", [12, 4]), ("oversample", [12, 12])])
def test_oversampling_shows_the_rare_class_as_often_as_the_common_one(steps_of, imbalance, shown):
    steps = steps_of(f"training.imbalance={imbalance}")
    assert torch.cat([targets for _, _, targets in steps]).bincount().tolist() == shown


def test_small_images_are_said_to_be_shown_as_they_are_whatever_the_network_saw(assembled, tmp_path):
    weights = build_backbone("test_resnet", num_classes=10)
    save_file(weights.state_dict(), tmp_path / "model.safetensors")
    saw = {"mean": [0.1, 0.2, 0.3], "std": [1.0, 1.0, 1.0], "interpolation": "bicubic", "crop_pct": 0.8}
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "test_resnet", "pretrained_cfg": saw}))
    run = assembled("model=timm", "model.name=test_resnet", f"model.checkpoint={tmp_path}", "sizes.image_sizes=[28,32]",
                    "sizes.shares=[0.5,0.5]")  # fmt: skip
    assert run.datamodule.preprocessing == Preprocessing((0.1, 0.2, 0.3), (1.0, 1.0, 1.0), "bilinear", 1.0)


def test_a_run_goes_on_without_the_file_that_it_began_with(assembled, tmp_path):
    weights = tmp_path / "weights.pth"
    torch.save(build_backbone("resnet20_cifar", num_classes=7).state_dict(), weights)
    options = (f"model.checkpoint={weights}", "sizes=fixed", "sizes.base_size=8", "evaluation.eval_sizes=[8]",
               "trainer.max_epochs=1", "recipe.averaging_half_life=null")  # fmt: skip
    begun = assembled(*options)
    fit(begun, RunFolder(tmp_path))
    weights.unlink()
    resumed = assembled(*options)
    assert resumed.datamodule.preprocessing == begun.datamodule.preprocessing
    for name, value in begun.model.net.state_dict().items():
        assert torch.equal(resumed.model.net.state_dict()[name], value), name


def test_a_function_of_ones_own_is_called_with_its_own_arguments_when_a_run_goes_on(compose, tmp_path, monkeypatch):
    (tmp_path / "my_network.py").write_text(
        "from torch import nn\n\n\ndef small(num_classes, pretrained):\n    assert pretrained\n"
        "    pool = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten())\n"
        "    return nn.Sequential(nn.Conv2d(3, 2, 3), pool, nn.Linear(32, num_classes))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    own = {"_target_": "my_network.small", "pretrained": True}
    config = compose(*_QUICK, "sizes=fixed", "sizes.base_size=8", "evaluation.eval_sizes=[8]", "trainer.max_epochs=1")
    config.model = OmegaConf.create(own)
    begun = assemble(config, RunFolder(tmp_path))
    fit(begun, RunFolder(tmp_path))
    resumed = assemble(config, RunFolder(tmp_path))  # which would hand it a checkpoint
    assert type(resumed.model.net) is type(begun.model.net)


@pytest.mark.parametrize("options", [("trainer.precision=bf16-mixed", "+trainer.gradient_clip_val=1")])
def test_a_fused_step_is_refused_where_gradients_are_changed_before_it(assembled, options):
    run = assembled(*options, "+recipe.optimizer.fused=true", "trainer.max_epochs=1", "data.num_workers=0")
    with pytest.raises(UserError, match=r"recipe\.optimizer\.fused: expected no fused step with .*, got true"):
        run.trainer.fit(run.model, datamodule=run.datamodule)


@pytest.mark.parametrize(
    ("options", "fused"),
    [
        ([], True),
        (["+trainer.gradient_clip_val=1"], True),
        (["trainer.precision=bf16-mixed"], True),
        (["trainer.precision=bf16-mixed", "+trainer.gradient_clip_val=1"], False),  # Lightning refuses the two together
    ],
)
def test_the_optimizer_is_fused_where_its_gradients_may_be_clipped_before_it(assembled, options, fused):
    run = assembled(*options, "sizes=fixed", "sizes.base_size=12", "trainer.max_epochs=1", "data.num_workers=0")
    run.trainer.fit(run.model, datamodule=run.datamodule)
    assert bool(run.trainer.optimizers[0].defaults["fused"]) is fused


def test_the_trainers_hooks_are_measured_where_somebody_asks_for_it(assembled):
    assert isinstance(assembled().trainer.profiler, Unprofiled)
    run = assembled("+trainer.profiler=simple", "trainer.max_epochs=1")
    run.trainer.fit(run.model, datamodule=run.datamodule)
    assert run.trainer.profiler.recorded_durations["[LightningModule]ImageClassifier.on_train_batch_start"]


def test_a_part_of_one_epoch_cannot_train_all(assembled):
    with pytest.raises(UserError, match=r"expected trainer\.max_epochs of at least 2"):
        assembled("training.train_only=head", "training.train_only_part=0.5", "trainer.max_epochs=1")


def test_the_time_limit_is_looked_at_before_any_figure_of_the_step_is_logged(assembled):
    """Lightning logs the step in which it is told to stop, with whatever was logged last."""
    callbacks = assembled("trainer.max_time=00:00:10:00").trainer.callbacks
    (limit,) = [at for at, callback in enumerate(callbacks) if isinstance(callback, TimeLimit)]
    logging = (SizeScheduler, GradientSmoothing, StepFigures, Throughput)
    assert all(at > limit for at, callback in enumerate(callbacks) if isinstance(callback, logging))
    assert sum(isinstance(callback, logging) for callback in callbacks) == len(logging)
