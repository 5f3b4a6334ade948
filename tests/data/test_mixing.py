import pytest
import torch

from sizemix.data.batches import Batch
from sizemix.data.mixing import Mixing
from sizemix.errors import UserError


def batch(num_images=8, side=16):
    """Every image has one value of its own."""
    values = torch.arange(1, num_images + 1).float()
    images = values.view(-1, 1, 1, 1).expand(-1, 3, side, side).contiguous()
    return Batch(images, torch.arange(num_images) % 4, side, item=0)


def mixed(mixing, seed=0, **options):
    return mixing(batch(**options), num_classes=4, seed=(seed, 5, 0, 0))


def test_without_mixing_targets_stay_class_numbers():
    assert torch.equal(mixed(Mixing()).images, batch().images)
    plain = batch()
    assert Mixing()(plain, num_classes=4, seed=(0,)) is plain, "nothing is drawn for nothing"
    assert torch.equal(mixed(Mixing(erasing=1.0)).targets, batch().targets)


def test_mixup_blends_images_and_targets_alike():
    changed = mixed(Mixing(mixup=1.0), seed=3)
    assert changed.targets.shape == (8, 4)
    assert torch.allclose(changed.targets.sum(1), torch.ones(8))
    own = batch()
    for image, target, value, label in zip(changed.images, changed.targets, own.images, own.targets, strict=True):
        assert image.std() < 1e-5
        kept = target[label].item()
        partner = (image[0, 0, 0] - kept * value[0, 0, 0]) / (1 - kept) if kept < 1 else None
        if partner is not None:
            other = round(partner.item()) - 1
            assert partner.item() == pytest.approx(other + 1, abs=1e-3)
            assert target[own.targets[other]].item() == pytest.approx(1 - kept, abs=1e-5)


def test_cutmix_weighs_targets_by_the_area_that_stayed():
    changed = mixed(Mixing(cutmix=1.0), seed=1)
    own = batch()
    assert (changed.targets > 0).sum() > 8, "the seed pastes something"
    for image, target, value, label in zip(changed.images, changed.targets, own.images, own.targets, strict=True):
        assert len(image.unique()) <= 2
        stayed = (image == value[0, 0, 0]).float().mean().item()
        if len(image.unique()) == 2:
            other = own.targets[int((image[image != value[0, 0, 0]][0]).item()) - 1]
            expected = stayed if other != label else 1.0
            assert target[label].item() == pytest.approx(expected, abs=1e-5)


def test_with_both_every_batch_gets_one_of_them():
    kinds = {len(mixed(Mixing(mixup=1.0, cutmix=1.0), seed=seed).images[0].unique()) for seed in range(20)}
    assert kinds == {1, 2}


@pytest.mark.parametrize("probability", [0.0, 0.25, 1.0])
def test_so_many_images_get_a_rectangle_of_noise(probability):
    changed = mixed(Mixing(erasing=probability), num_images=400)
    differing = changed.images[:, 0] != batch(num_images=400).images[:, 0]
    assert differing.any(-1).any(-1).float().mean().item() == pytest.approx(probability, abs=0.06)
    areas = differing.float().mean((1, 2))[differing.any(-1).any(-1)]
    if len(areas):
        assert areas.min() > 0
        assert areas.max() < 0.4
    for rows in differing:
        filled = rows[rows.any(1)][:, rows.any(0)]
        assert filled.all(), "one rectangle"


def test_mixing_keeps_the_order_of_memory_that_networks_want():
    own = batch()
    own.images = own.images.contiguous(memory_format=torch.channels_last)
    for mixing in (Mixing(erasing=1.0), Mixing(mixup=1.0), Mixing(cutmix=1.0)):
        changed = mixing(own, num_classes=4, seed=(0, 5, 0, 0)).images
        assert changed.is_contiguous(memory_format=torch.channels_last), mixing


def test_the_seed_decides_everything():
    mixing = Mixing(erasing=0.5, mixup=0.2, cutmix=1.0)
    first, again, other = mixed(mixing), mixed(mixing), mixed(mixing, seed=1)
    assert torch.equal(first.images, again.images)
    assert torch.equal(first.targets, again.targets)
    assert not torch.equal(first.images, other.images)


@pytest.mark.parametrize("options", [{"erasing": 1.5}, {"mixup": -1}, {"cutmix": -0.1}])
def test_what_is_out_of_range_is_refused(options):
    with pytest.raises(UserError, match=f"augment.{next(iter(options))}: expected"):
        Mixing(**options)


def noisy(side=32):
    images = torch.randn(4, 3, side, side, generator=torch.Generator().manual_seed(0))
    return Batch(images, torch.arange(4), side, item=0)


def test_rescaling_takes_detail_and_keeps_the_size():
    original = noisy().images
    changed = Mixing(rescale=(0.5,))(noisy(), num_classes=4, seed=(0,)).images
    assert changed.shape == original.shape
    assert changed.std() < 0.6 * original.std()
    assert changed.mean() == pytest.approx(original.mean().item(), abs=0.01)
    assert torch.equal(Mixing(rescale=(1.0,))(noisy(), num_classes=4, seed=(0,)).images, original)


def test_factors_of_rescaling_are_drawn_by_their_shares():
    def kept(seed):
        mixing = Mixing(rescale=(0.5, 1.0), rescale_shares=(0.25, 0.75))
        return torch.equal(mixing(noisy(8), num_classes=4, seed=(seed,)).images, noisy(8).images)

    assert sum(kept(seed) for seed in range(400)) == pytest.approx(300, abs=30)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rescale": (0.0,)}, "augment.rescale: expected factors above 0"),
        ({"rescale": (0.5, 1.0), "rescale_shares": (1.0,)}, "augment.rescale_shares: expected 2 parts"),
        ({"rescale": (0.5, 1.0), "rescale_shares": (0.5, 0.6)}, "that sum to 1"),
    ],
)
def test_rescaling_that_does_not_fit_is_refused(options, said):
    with pytest.raises(UserError, match=said):
        Mixing(**options)
