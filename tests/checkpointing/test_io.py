import pytest
import torch

from sizemix.checkpointing.io import AtomicCheckpointIO


def test_checkpoints_come_back_as_they_were(tmp_path):
    checkpoint = {"state_dict": {"weight": torch.randn(3)}, "global_step": 7}
    AtomicCheckpointIO().save_checkpoint(checkpoint, tmp_path / "a.ckpt")
    loaded = AtomicCheckpointIO().load_checkpoint(tmp_path / "a.ckpt")
    assert torch.equal(loaded["state_dict"]["weight"], checkpoint["state_dict"]["weight"])
    assert loaded["global_step"] == 7


class Evil:
    def __reduce__(self):
        return (print, ("unpickled",))


def test_reading_a_checkpoint_never_runs_code_from_it(tmp_path, capsys):
    torch.save({"state_dict": Evil()}, tmp_path / "evil.ckpt")
    with pytest.raises(Exception, match="Weights only load failed"):
        AtomicCheckpointIO().load_checkpoint(tmp_path / "evil.ckpt", weights_only=False)
    assert "unpickled" not in capsys.readouterr().out
