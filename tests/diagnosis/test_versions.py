import sys

import pytest
from PIL import features

from sizemix.diagnosis import versions
from sizemix.diagnosis.versions import check_pillow, check_torchvision, check_versions, fitting_torchvision, unmet

_INSTALLED = {"python": "3.10.4", "torch": "2.11.0+cpu", "timm": "1.1.0"}
_WANTED = ["python>=3.11", "torch<3,>=2.11", "timm<1.1,>=1.0.31", "rich>=13", 'hypothesis>=6; extra == "dev"']


def test_only_what_does_not_meet_the_requirements_is_named():
    found = {finding.subject: finding for finding in unmet(_WANTED, _INSTALLED.get)}
    assert set(found) == {"python", "timm", "rich"}
    assert all(finding.verdict == "problem" for finding in found.values())
    assert "got 3.10.4; make a new environment" in found["python"].remedy
    assert "got 1.1.0; pip install 'timm<1.1,>=1.0.31'" in found["timm"].remedy
    assert "got none; pip install 'rich>=13'" in found["rich"].remedy


def test_this_environment_is_well():
    found = [*check_versions(), *check_torchvision(), *check_pillow()]
    assert {finding.verdict for finding in found} == {"ok"}
    packages = next(finding.text for finding in found if finding.subject == "packages")
    assert all(name in packages for name in ("sizemix 0.1.0", "torch 2.", "torchvision 0.", "timm 1.", "wandb 0."))


def test_requirements_are_those_of_the_installed_package(monkeypatch):
    installed = versions.installed_version
    monkeypatch.setattr(versions, "installed_version", lambda name: "2.1.0" if name == "torch" else installed(name))
    problems = [finding for finding in check_versions() if finding.verdict == "problem"]
    assert [finding.subject for finding in problems] == ["torch"]
    assert "expected torch<3,>=2.11, got 2.1.0" in problems[0].remedy


def test_a_torchvision_built_for_another_torch_is_named_with_the_one_that_fits(monkeypatch, tmp_path):
    (tmp_path / "torchvision.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "torchvision")
    monkeypatch.setattr(versions, "version", {"torch": "2.11.0+cu128", "torchvision": "0.20.1"}.get)
    (finding,) = check_torchvision()
    assert finding.verdict == "problem"
    assert "got 0.20.1, which fails (operator torchvision::nms does not exist)" in finding.remedy
    assert finding.remedy.endswith("torch==2.11.0 torchvision==0.26.*")


@pytest.mark.parametrize(("torch", "fitting"), [("2.0.1", "0.15.*"), ("2.11.0", "0.26.*"), ("2.12.0+cpu", "0.27.*")])
def test_the_fitting_torchvision_follows_from_torch(torch, fitting):
    assert fitting_torchvision(torch) == fitting


def test_a_pillow_without_libjpeg_turbo_is_a_warning(monkeypatch):
    monkeypatch.setattr(features, "check_feature", lambda name: False)
    (finding,) = check_pillow()
    assert finding.verdict == "warning"
    assert "pip install" in finding.remedy
