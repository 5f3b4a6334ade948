from types import SimpleNamespace

import pytest
import torch

from sizemix.callbacks import throughput
from sizemix.data.batches import Batch


def test_it_counts_augmented_images_of_all_ranks_between_logged_steps(monkeypatch):
    clock = iter([100.0, 102.0, 102.0, 110.0, 110.0])
    monkeypatch.setattr(throughput.time, "perf_counter", lambda: next(clock))
    logged = []
    module = SimpleNamespace(log=lambda name, value, batch_size: logged.append((name, value)))
    trainer = SimpleNamespace(
        world_size=2, accumulate_grad_batches=1, global_step=10, log_every_n_steps=2, should_stop=False
    )
    callback = throughput.Throughput()
    callback.on_train_epoch_start(trainer, module)
    for batch_idx, images in enumerate([99, 10, 20, 20]):
        batch = Batch(torch.empty(0), torch.empty(images), image_size=8)
        trainer.global_step += 1
        callback.on_train_batch_end(trainer, module, None, batch, batch_idx)
    assert logged == [
        ("throughput/images_per_second", pytest.approx(2 * 10 / 2)),
        ("throughput/images_per_second", pytest.approx(2 * 40 / 8)),
    ]
