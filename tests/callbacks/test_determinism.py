from types import SimpleNamespace

import pytest
import torch

from sizemix.callbacks.determinism import Determinism
from sizemix.data.batches import Batch


def drawn(*, seed=0, rank=0, item=5):
    batch = Batch(torch.empty(0), torch.empty(0), image_size=8, item=item)
    module = SimpleNamespace(device=torch.device("cpu"))
    Determinism(seed).on_train_batch_start(SimpleNamespace(global_rank=rank), module, batch, batch_idx=0)
    return torch.rand(4).tolist()


def test_dropout_depends_on_seed_rank_and_batch_alone():
    torch.manual_seed(1)
    first = drawn()
    torch.rand(100)
    assert drawn() == first
    others = [drawn(seed=1), drawn(rank=1), drawn(item=6)]
    assert first not in others
    assert len({tuple(other) for other in others}) == 3


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
def test_the_thread_count_comes_back_with_the_checkpoint():
    torch.set_num_threads(2)
    state = Determinism(0).state_dict()
    torch.set_num_threads(1)
    Determinism(0).load_state_dict(state)
    assert torch.get_num_threads() == 2
