from pathlib import Path

import pytest
from omegaconf import OmegaConf

from sizemix.cli.compose import CONF
from sizemix.errors import UserError
from sizemix.inference.trust import SHIPPED_TARGETS, check_targets


def targets(settings):
    if isinstance(settings, dict):
        return {value for key, value in settings.items() if key == "_target_"}.union(*map(targets, settings.values()))
    return set()


def test_what_is_shipped_is_what_the_groups_name():
    files = [file for group in ("model", "data", "trainer") for file in (CONF / group).glob("*.yaml")]
    named = set().union(*(targets(OmegaConf.to_container(OmegaConf.load(file))) for file in files))
    assert named == SHIPPED_TARGETS


@pytest.mark.parametrize(
    "settings",
    [
        {"_target_": "os.system", "command": "true"},
        {"_target_": "sizemix.models.backbone.build_backbone", "kwargs": {"x": {"_target_": "os.system"}}},
        {"_target_": "sizemix.models.backbone.build_backbone", "kwargs": {"x": [{"_target_": "os.system"}]}},
        {"_target_": "sizemix.cli.sweep.subprocess.call"},
    ],
)
def test_anything_else_is_refused_however_deep_and_called_only_if_trusted(settings):
    config = OmegaConf.create(settings)
    with pytest.raises(UserError, match=r"run: expected a run of what sizemix ships, got (os|sizemix.cli)\."):
        check_targets(config, where=Path("run"), trust_target=False)
    check_targets(config, where=Path("run"), trust_target=True)
