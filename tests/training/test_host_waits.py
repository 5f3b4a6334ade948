"""A step that reads a figure from the device waits for all work before it; a GPU would stand still meanwhile."""

import traceback

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from sizemix.callbacks.gradient_smoothing import smooth_gradients
from sizemix.data.batches import Batch, InMemoryBatches
from sizemix.data.mixing import Mixing
from sizemix.data.request import TrainRequest
from sizemix.runs.folder import RunFolder
from sizemix.training.assembly import assemble

_READS = {
    torch.ops.aten._local_scalar_dense.default,
    torch.ops.aten.nonzero.default,
    torch.ops.aten.masked_select.default,
    torch.ops.aten.equal.default,
    torch.ops.aten.unique_dim.default,
    torch.ops.aten._unique2.default,
}
_ALL_CHANGES = ("augment.erasing=0.5", "augment.mixup=0.2", "augment.cutmix=1", "augment.rescale=[0.5,1]")


class HostReads(TorchDispatchMode):
    """Notes where the host asks for a value, or waits for a copy."""

    def __init__(self, now=lambda: None):
        super().__init__()
        self.seen = []
        self._now = now

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        moves = func is torch.ops.aten._to_copy.default and kwargs.get("device") not in (None, args[0].device)
        if func in _READS or (moves and not kwargs.get("non_blocking")):
            self.seen.append((self._now(), "".join(traceback.format_stack(limit=12))))
        return func(*args, **kwargs)


def assembled(compose, tmp_path, *options):
    return assemble(
        compose(
            *("data.train_images=120", "recipe.base_batch_size=10", "trainer.max_epochs=1", "data.num_workers=0"),
            *("sizes.image_sizes=[8,12]", "sizes.shares=[0.5,0.5]", "sizes.base_size=12", "evaluation.eval_sizes=[8]"),
            *("trainer.enable_progress_bar=false", "trainer.log_every_n_steps=5"),
            *("recipe.averaging_half_life=10", "recipe.gradient_smoothing=true", *options),
        ),
        RunFolder(tmp_path),
    )


@pytest.mark.parametrize("augment", [(), _ALL_CHANGES], ids=["plain", "mixed"])
def test_only_logged_steps_read_from_the_device(compose, tmp_path, augment):
    run = assembled(compose, tmp_path, "trainer.accelerator=cpu", *augment)
    reads = HostReads(now=lambda: (run.trainer.global_step, run.trainer.training))
    with reads:
        run.trainer.fit(run.model, datamodule=run.datamodule)
    assert any(training for (_, training), _ in reads.seen), "logged steps are read, or this sees nothing"
    last_step = run.trainer.global_step
    elsewhere = [(step, where) for (step, training), where in reads.seen if training and step % 5 and step != last_step]
    assert not elsewhere, elsewhere[0]


class Strict(pl.Callback):
    """Makes waiting for the device an error in steps that are not logged."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        logged = (trainer.global_step + 1) % trainer.log_every_n_steps == 0
        torch.cuda.set_sync_debug_mode("default" if logged else "error")

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if batch_idx + 1 == trainer.num_training_batches:
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
@pytest.mark.parametrize("augment", [(), _ALL_CHANGES], ids=["plain", "mixed"])
def test_on_a_gpu_steps_that_are_not_logged_never_wait(compose, tmp_path, augment):
    run = assembled(compose, tmp_path, "trainer=gpu", *augment)
    run.trainer.callbacks.insert(0, Strict())
    try:
        run.trainer.fit(run.model, datamodule=run.datamodule)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.fixture
def pretended():
    """Tensors without values on a CUDA device that need not be there; reading one, or mixing devices, is an error."""
    with FakeTensorMode(allow_non_fake_inputs=True), HostReads() as reads:
        yield reads


def test_batches_are_made_on_a_gpu_without_waiting(pretended):
    device = torch.device("cuda", 0)
    images = torch.zeros(40, 3, 8, 8, dtype=torch.uint8, device=device)
    targets = torch.zeros(40, dtype=torch.long, device=device)
    kept = InMemoryBatches(images, targets, crop_padding=1, flip=True)
    request = TrainRequest(np.arange(10), np.zeros(10, dtype=np.int64), 12, num_repeats=2, seed=0, item=3)
    batch = kept.train(request)
    batch.images = batch.images.float()
    mixing = Mixing(mixup=0.2, cutmix=1.0, rescale=(0.5, 1.5))  # erasing needs a generator that is really there
    for item in range(8):  # of which some are mixed up and some are cut
        mixed = mixing(batch, num_classes=5, seed=(item,))
        assert (mixed.images.device, mixed.images.shape) == (device, (20, 3, 12, 12))
        assert (mixed.targets.device, mixed.targets.shape) == (device, (20, 5))
    assert not pretended.seen


def test_batches_made_on_the_host_travel_without_waiting(pretended):
    batch = Batch(torch.zeros(4, 3, 8, 8, dtype=torch.uint8), torch.zeros(4, dtype=torch.long), 8, item=3)
    moved = batch.to(torch.device("cuda", 0))
    assert (moved.images.device.type, moved.targets.device.type, moved.item) == ("cuda", "cuda", 3)
    assert not pretended.seen


def test_gradients_are_smoothed_on_a_gpu_without_waiting(pretended):
    gradients = [torch.zeros(3, 2, device="cuda"), torch.zeros(4, device="cuda")]
    running = smooth_gradients(gradients, None, decay=0.9)
    assert smooth_gradients(gradients, running, decay=0.9).device.type == "cuda"
    assert not pretended.seen


def test_a_wait_would_be_seen(pretended):
    torch.zeros(3, device="cuda").cpu()
    assert len(pretended.seen) == 1
    with pytest.raises(torch._subclasses.fake_tensor.DataDependentOutputException):
        torch.zeros(3, device="cuda").sum().item()
