from types import SimpleNamespace

from sizemix.diagnosis.setting import Setting, look_at_setting
from sizemix.models.backbone import build_backbone


def test_the_setting_follows_the_configuration(setting):
    looked_at = setting("trainer.accumulate_grad_batches=2", "sizes.budget=D+")
    assert looked_at.num_shards == 2
    assert looked_at.local_images == {8: 4 * 2, 12: 4}
    assert looked_at.measured_sizes == [8, 12]
    assert looked_at.device.type == "cpu"


def test_the_measured_sizes_are_the_ends_and_the_base():
    config = SimpleNamespace(sizes=SimpleNamespace(base_size=24))
    assert Setting(config, None, None, dict.fromkeys((16, 20, 26, 32, 40))).measured_sizes == [16, 26, 40]


def test_what_does_not_fit_is_told_and_the_rest_can_be_looked_at(compose):
    found = []
    options = ("trainer.accelerator=cpu", "trainer.devices=1000", "sizes.image_sizes=[10,30]", "sizes.shares=[0.5,0.5]")
    looked_at = look_at_setting(compose(*options), None, None, found)
    assert [(finding.subject, finding.verdict) for finding in found] == [("devices", "problem"), ("sizes", "problem")]
    assert "trainer.devices: expected at most" in found[0].remedy
    assert "multiples of 4" in found[1].remedy
    assert looked_at.trainer.num_devices == 1
    assert looked_at.local_images == {28: 64}


def test_batches_as_large_as_memory_allows_are_measured_for_the_images_there_are(compose, tiny_dataset):
    found = []
    net = build_backbone("resnet20_cifar", num_classes=2)
    options = ("sizes.image_sizes=[8,12]", "sizes.shares=[0.5,0.5]", "sizes.base_size=12", "sizes.budget=memory")
    looked_at = look_at_setting(compose(*options, "trainer.accelerator=cpu"), tiny_dataset, net, found)
    assert looked_at.local_images == {8: 2, 12: 2}, "a twentieth of 40 images"
    assert found[-1].text == "images: 2 at 8 px, 2 at 12 px"
    without = look_at_setting(compose(*options, "trainer.accelerator=cpu"), None, net, [])
    assert set(without.shapes) == {12}
