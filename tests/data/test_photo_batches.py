import numpy as np
import pytest
import torch

from sizemix.data.appearance import Appearance, ColorJitter, RandAugment
from sizemix.data.batches import NOT_SHOWN
from sizemix.data.folder import folder
from sizemix.data.prefetch import prefetched
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
        assert batch.targets.tolist() == [NOT_SHOWN], "it is not counted as its own"
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
        batches.train(request([0]))
    evaluated = batches.eval(EvalRequest(np.array([0]), 16))
    assert evaluated.targets.tolist() == [NOT_SHOWN], "a test goes on without it"


class Counted:
    """Photos that note when they are opened and at which scale they are decoded."""

    def __init__(self, store):
        self._store, self.opened, self.decoded = store, [], []

    def __len__(self):
        return len(self._store)

    def name(self, index):
        return self._store.name(index)

    def open(self, index):
        self.opened.append(index)
        photo = self._store.open(index)
        decode = photo.pixels
        object.__setattr__(
            photo, "pixels", lambda coarse, region: self.decoded.append(coarse) or decode(coarse, region)
        )
        return photo


@pytest.mark.parametrize("kind", ["train", "eval"])
def test_a_batch_is_the_same_whichever_other_sizes_are_asked_for(large_photos, kind):
    split, batches = batches_of(large_photos)
    (large_photos / split.paths[1]).write_text("broken since")
    if kind == "eval":
        requests = [EvalRequest(np.array([0, 1, 5]), size) for size in (16, 64, 224)]
        alone = [batches.eval(one) for one in requests]
    else:
        requests = [request([0, 1, 5], image_size=size, num_repeats=2) for size in (16, 64, 224)]
        alone = [batches.train(one) for one in requests]
    batches._photos = counted = Counted(batches._photos)
    together = batches.at_sizes(requests)
    assert counted.opened == [0, 1, 2, 5], "the third in place of the second"
    assert [batch.image_size for batch in together] == [16, 64, 224]
    assert {batch.unreadable for batch in together} == {(split.paths[1],)}
    for own, batch in zip(alone, together, strict=True):
        assert torch.equal(own.images, batch.images)
        assert torch.equal(own.targets, batch.targets)


def test_evaluation_decodes_a_photo_once_for_all_sizes(large_photos):
    _, batches = batches_of(large_photos)
    batches._photos = counted = Counted(batches._photos)
    batches.at_sizes([EvalRequest(np.array([0, 1]), size) for size in (16, 128, 224, 320, 512)])
    assert counted.decoded == [1, 1]


def test_all_copies_come_from_one_decoding_at_the_scale_that_they_allow(large_photos):
    _, batches = batches_of(large_photos, crop_scale=(0.5, 1.0), crop_aspect=(0.9, 1.1))
    for size, expected in ((16, 8), (64, 4), (128, 2), (320, 1)):
        batches._photos = counted = Counted(batches._photos)
        batches.train(request([0], num_repeats=4, image_size=size))
        assert counted.decoded == [expected]


def test_several_threads_make_the_batches_that_one_makes(photos):
    strong = Appearance(rand_augment=RandAugment(), color_jitter=ColorJitter(0.4))
    _, batches = batches_of(photos, appearance=strong)
    requests = [request([at, at + 1, at + 2], passes=at, num_repeats=2, image_size=24) for at in range(24)]
    expected = [batches.train(one).images for one in requests]
    made = [batch.images for batch in prefetched(requests, batches.train, num_threads=4)]
    assert all(torch.equal(one, other) for one, other in zip(expected, made, strict=True))
