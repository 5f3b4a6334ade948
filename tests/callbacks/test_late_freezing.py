"""FixRes in one run: the last epochs train the head and the last norm alone, at another size."""

import pytest
import torch

from sizemix.callbacks.late_freezing import LateFreezing
from sizemix.errors import UserError
from sizemix.runs.folder import RunFolder
from sizemix.training.assembly import assemble
from sizemix.training.run import carry_out

_TINY = (
    *("arm=fixres", "data.train_images=60", "sizes.base_size=14", "sizes.multiple_of=2", "data.num_workers=0"),
    *("evaluation.eval_sizes=[14]", "evaluation.calibration_images=20", "evaluation.measure=gflops"),
    "recipe.base_batch_size=20",
    *("trainer.max_epochs=3", "trainer.log_every_n_steps=1", "trainer.accelerator=cpu"),
    *("trainer.enable_progress_bar=false", "training.train_only_part=0.34"),
)


def final_weights(folder):
    return torch.load(folder.last_checkpoint, weights_only=True)["state_dict"]


def test_the_last_epoch_moves_the_head_and_the_last_norm_alone(compose, tmp_path, monkeypatch):
    at_the_boundary = {}
    start = LateFreezing.on_train_batch_start

    def noting(self, trainer, pl_module, batch, batch_idx):
        if self._freezes(trainer) and not at_the_boundary:
            at_the_boundary.update({name: value.clone() for name, value in pl_module.state_dict().items()})
            sizes.append(batch.image_size)
        start(self, trainer, pl_module, batch, batch_idx)

    sizes = []
    monkeypatch.setattr(LateFreezing, "on_train_batch_start", noting)
    folder = RunFolder.create(tmp_path / "run", compose(*_TINY))
    carry_out(folder)
    final = final_weights(folder)
    moved = {name for name, value in at_the_boundary.items() if not torch.equal(value, final[name])}
    last_norm = "net.stages.2.2.bn2"
    trained = {f"{last_norm}.{kind}" for kind in ("weight", "bias", "running_mean", "running_var")}
    assert {name for name in moved if name.startswith("net.")} - {f"{last_norm}.num_batches_tracked"} == {
        *trained,
        *("net.fc.weight", "net.fc.bias"),
    }
    assert sizes == [16], "8/7 of the base size"


def test_the_learning_rate_begins_anew_and_falls_to_nothing(compose, tmp_path):
    run = assemble(compose(*_TINY), RunFolder(tmp_path))
    plan = run.scheduler.plan(num_images=60, num_epochs=3)
    run.datamodule.use_plan(plan)
    run.trainer.datamodule = run.datamodule
    run.model.trainer = run.trainer
    factor, *_ = run.model.configure_optimizers()["lr_scheduler"]["scheduler"].lr_lambdas
    assert factor(5) < 0.1, "the first part comes to its end"
    assert factor(6) == pytest.approx(0.1)
    assert factor(6) > factor(7) > factor(8)


def test_a_part_without_saying_what_trains_is_refused(compose, tmp_path):
    with pytest.raises(UserError, match=r"training.train_only_part: expected training.train_only"):
        assemble(compose(*_TINY, "training.train_only=null"), RunFolder(tmp_path))
