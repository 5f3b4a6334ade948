"""Statistics over real ranks: two processes on the CPU, started as a script that Lightning repeats."""

import subprocess
import sys

import pytest
import pytorch_lightning as pl
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sizemix.callbacks.rank_statistics import RankStatistics, combine_statistics, synchronise_batch_norms
from sizemix.errors import UserError


@given(st.lists(st.lists(st.floats(-100, 100), min_size=4, max_size=4), min_size=1, max_size=5))
def test_combined_statistics_are_those_of_all_values(values):
    by_rank = torch.tensor(values, dtype=torch.float64).unsqueeze(-1)  # (ranks, values of a rank, channels)
    mean, variance = combine_statistics(by_rank.mean(1), by_rank.var(1, correction=0))
    torch.testing.assert_close(mean, by_rank.flatten(0, 1).mean(0))
    torch.testing.assert_close(variance, by_rank.flatten(0, 1).var(0, correction=0), atol=1e-9, rtol=1e-9)


def test_equal_statistics_stay_as_they_are_to_the_bit():
    mean, variance = torch.rand(2, 50).double()
    combined = combine_statistics(mean.repeat(3, 1), variance.repeat(3, 1))
    assert torch.equal(combined[0].float(), mean.float())
    assert torch.equal(combined[1].float(), variance.float())


@pytest.mark.parametrize("name", ["efficientnet_b0", "regnetx_002", "resnet18"])
def test_synchronised_norms_keep_their_activations_and_names(name):
    net, synchronised = timm.create_model(name), timm.create_model(name)
    synchronise_batch_norms(synchronised)
    layers = {path: layer for path, layer in net.named_modules() if isinstance(layer, nn.BatchNorm2d)}
    assert layers
    for path, layer in layers.items():
        replaced = synchronised.get_submodule(path)
        assert isinstance(replaced, nn.SyncBatchNorm)
        assert type(getattr(replaced, "act", None)) is type(getattr(layer, "act", None))
    assert list(net.state_dict()) == list(synchronised.state_dict())


def test_synchronising_needs_several_gpus():
    trainer = pl.Trainer(accelerator="cpu", devices=1, logger=False, enable_checkpointing=False)
    with pytest.raises(UserError, match="expected several GPUs, got 1 x cpu; set it to false"):
        RankStatistics(synchronise=True).setup(trainer, pl.LightningModule(), "fit")


_SCRIPT = """
import sys
import pytorch_lightning as pl, torch
from torch import nn
from sizemix.callbacks.rank_statistics import RankStatistics

class Model(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 1))
        self.averaged = nn.BatchNorm1d(2).requires_grad_(False)
    def training_step(self, batch, _):
        self.averaged.train()(batch[0] * 2)
        return self.net(batch[0] * (1 + 5 * self.global_rank) + self.global_rank).mean()
    def validation_step(self, batch, _): pass
    def configure_optimizers(self): return torch.optim.SGD(self.net.parameters(), 0.1)

class Note(pl.Callback):
    def __init__(self, name): self.name = name
    def on_validation_start(self, trainer, module):
        values = {key: value.clone() for key, value in module.state_dict().items() if "running" in key}
        torch.save(values, f"{sys.argv[1]}/{self.name}-{trainer.global_rank}")

torch.manual_seed(0)
loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.randn(32, 2)), batch_size=4)
quiet = dict(logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
trainer = pl.Trainer(accelerator="cpu", devices=2, max_epochs=1, num_sanity_val_steps=0, **quiet,
                     callbacks=[Note("own"), RankStatistics(), Note("combined")])
trainer.fit(Model(), loader, loader)
"""


def test_validation_sees_the_statistics_of_all_ranks(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(_SCRIPT)
    subprocess.run([sys.executable, str(script), str(tmp_path)], check=True, capture_output=True, timeout=100)

    own = [torch.load(tmp_path / f"own-{rank}") for rank in (0, 1)]
    combined = [torch.load(tmp_path / f"combined-{rank}") for rank in (0, 1)]
    assert set(combined[0]) == {f"{net}.running_{kind}" for net in ("net.0", "averaged") for kind in ("mean", "var")}
    for net in ("net.0", "averaged"):
        means, variances = (torch.stack([one[f"{net}.running_{kind}"] for one in own]) for kind in ("mean", "var"))
        assert not torch.equal(means[0], means[1]), "each rank counts its own images"
        expected = combine_statistics(means.double(), variances.double())
        for rank in (0, 1):
            assert torch.equal(combined[rank][f"{net}.running_mean"], expected[0].float())
            assert torch.equal(combined[rank][f"{net}.running_var"], expected[1].float())
