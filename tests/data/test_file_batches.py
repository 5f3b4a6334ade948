import numpy as np
import pytest
import torch

from sizemix.data.appearance import Appearance, ColorJitter
from sizemix.data.folder import folder
from sizemix.data.preprocessing import Preprocessing
from sizemix.data.request import EvalRequest, TrainRequest
from sizemix.errors import UserError

_PREPROCESSING = Preprocessing((0.5,) * 3, (0.5,) * 3, crop_ratio=1.0)


def batches_of(photos, *, appearance=None, flip=True, **options):
    split = folder(root=str(photos), **options).train
    return split, split.batches(appearance=appearance or Appearance(), flip=flip, preprocessing=_PREPROCESSING)


def request(indices, *, image_size=16, num_repeats=1, passes=0, seed=0):
    indices = np.array(indices)
    return TrainRequest(indices, np.full_like(indices, passes), image_size, num_repeats, seed, item=7)


def test_a_training_batch_has_all_copies_at_its_size(photos):
    split, batches = batches_of(photos)
    batch = batches.train(request([3, 20, 5], num_repeats=4, image_size=24))
    assert batch.images.shape == (12, 3, 24, 24)
    assert batch.images.dtype is torch.uint8
    assert batch.targets.tolist() == split.targets[[3, 20, 5]].tolist() * 4
    assert batch.item == 7
    copies = batch.images.view(4, 3, 3, 24, 24)
    assert len({copy.numpy().tobytes() for copy in copies[:, 0]}) == 4


@pytest.mark.parametrize("appearance", [Appearance(), Appearance(color_jitter=ColorJitter(0.4))])
def test_a_sample_depends_on_its_own_seed_and_not_on_its_batch(photos, appearance):
    _, batches = batches_of(photos, appearance=appearance)
    together = batches.train(request([3, 20, 5], num_repeats=2))
    alone = batches.train(request([20], num_repeats=2))
    assert torch.equal(together.images[[1, 4]], alone.images)
    for other in (request([20], num_repeats=2, passes=1), request([20], num_repeats=2, seed=1)):
        assert not torch.equal(batches.train(other).images, alone.images)


def test_half_of_the_samples_are_mirrored_when_asked(photos):
    """Photos grow brighter to the right."""
    _, batches = batches_of(photos)
    rising = [(row[0, 0, -1] > row[0, 0, 0]).item() for row in batches.train(request(range(32), num_repeats=4)).images]
    assert 0.3 < np.mean(rising) < 0.7
    _, straight = batches_of(photos, flip=False)
    assert all(row[0, 0, -1] >= row[0, 0, 0] for row in straight.train(request(range(32))).images)


def test_evaluation_shows_the_middle(photos):
    split, batches = batches_of(photos)
    batch = batches.eval(EvalRequest(np.array([2, 18]), 32))
    assert batch.images.shape == (2, 3, 32, 32)
    assert batch.targets.tolist() == split.targets[[2, 18]].tolist()
    assert batch.images[0, 0, 0].float().diff().min() >= 0
    assert batch.item is None


def test_a_file_that_breaks_later_is_replaced_by_the_next_of_its_class_and_named(photos):
    split, batches = batches_of(photos)
    expected = batches.eval(EvalRequest(np.array([1]), 16)).images
    (photos / split.paths[0]).write_text("broken since")
    for _ in range(2):
        batch = batches.eval(EvalRequest(np.array([0]), 16))
        assert batch.unreadable == (split.paths[0],)
        assert torch.equal(batch.images, expected)
    trained = batches.train(request([0, 2], num_repeats=2))
    assert trained.unreadable == (split.paths[0],)
    assert trained.targets.tolist() == split.targets[[0, 2, 0, 2]].tolist()


def test_the_last_of_a_class_is_replaced_by_its_first(photos):
    split, batches = batches_of(photos)
    last = int((split.targets == 0).nonzero().max())
    (photos / split.paths[last]).unlink()
    batch = batches.eval(EvalRequest(np.array([last]), 16))
    assert torch.equal(batch.images, batches.eval(EvalRequest(np.array([0]), 16)).images)


def test_a_class_without_a_readable_file_ends_the_run(photos):
    split, batches = batches_of(photos)
    for path in split.paths:
        if path.startswith("dark"):
            (photos / path).write_text("broken since")
    with pytest.raises(UserError, match="expected a readable image of the class of dark/"):
        batches.eval(EvalRequest(np.array([0]), 16))
