from types import SimpleNamespace

import torch

from sizemix.callbacks.progress import SizeProgressBar


def test_the_bar_shows_size_loss_speed_and_validation():
    logged = {
        "train/image_size": torch.tensor(24.0),
        "train/loss": torch.tensor(0.51234),
        "train/lr": torch.tensor(0.1),
        "throughput/images_per_second": torch.tensor(1234.6),
        "val/top1@28": torch.tensor(0.874),
    }
    shown = SizeProgressBar().get_metrics(SimpleNamespace(callback_metrics=logged), None)
    assert shown == {"size": "24 px", "loss": "0.512", "images/s": "1235", "val/top1@28": "87.4%"}


def test_the_bar_shows_nothing_before_anything_is_logged():
    assert SizeProgressBar().get_metrics(SimpleNamespace(callback_metrics={}), None) == {}
