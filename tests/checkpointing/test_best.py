from types import SimpleNamespace

import torch

from sizemix.checkpointing.best import BestCheckpoint


def best(folder):
    return BestCheckpoint(dirpath=folder, filename="best", monitor="val", mode="max")


def test_the_best_score_is_kept_where_the_folder_has_moved(tmp_path):
    first = best(tmp_path / "before")
    file = str(tmp_path / "before" / "best.ckpt")
    first.best_model_score = first.kth_value = torch.tensor(0.9)
    first.best_model_path = first.kth_best_model_path = file
    first.best_k_models = {file: torch.tensor(0.9)}
    state = first.state_dict()
    (tmp_path / "before").mkdir(exist_ok=True)
    (tmp_path / "before").rename(tmp_path / "after")

    resumed = best(tmp_path / "after")
    resumed.load_state_dict(state)
    assert resumed.best_model_score == torch.tensor(0.9)
    assert resumed.best_model_path == str(tmp_path / "after" / "best.ckpt")
    alone = SimpleNamespace(strategy=SimpleNamespace(reduce_boolean_decision=bool))
    assert not resumed.check_monitor_top_k(alone, torch.tensor(0.5))
