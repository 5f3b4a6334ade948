import shutil
import warnings
from types import SimpleNamespace

import psutil
import pytest
import torch

from sizemix.diagnosis import machine
from sizemix.diagnosis.machine import check_cores, check_gpus, check_memory, in_gib

GIB = 2**30


@pytest.fixture
def without_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(shutil, "which", lambda name: None)


def test_a_containers_limits_are_told_beside_the_machines(monkeypatch):
    monkeypatch.setattr(machine, "available_cores", lambda: 1.5)
    monkeypatch.setattr(machine, "available_bytes", lambda: 2 * GIB)
    monkeypatch.setattr(psutil, "cpu_count", lambda: 8)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=60 * GIB, total=64 * GIB))
    (cores,), (memory,) = check_cores(), check_memory()
    assert cores.text == "1.5 of 8 cores may be used"
    assert memory.text == "2.0 GiB free of 64.0 GiB, which a container's limit leaves"


def test_no_gpu_is_no_problem(without_gpu, tmp_path):
    (finding,) = check_gpus(wanted=True, device_files=tmp_path)
    assert (finding.text, finding.verdict) == ("none", "ok")


def test_a_gpu_beside_a_torch_for_cpus_is_a_problem(without_gpu, tmp_path, monkeypatch):
    (tmp_path / "nvidia0").touch()
    monkeypatch.setattr(torch.version, "cuda", None)
    (finding,) = check_gpus(wanted=True, device_files=tmp_path)
    assert finding.verdict == "problem"
    assert finding.remedy.startswith(f"expected a torch built for CUDA, got {torch.__version__}")
    (unwanted,) = check_gpus(wanted=False, device_files=tmp_path)
    assert unwanted.verdict == "warning"


def test_a_driver_that_is_too_old_is_told_in_torchs_words(without_gpu, tmp_path, monkeypatch):
    def not_available():
        warnings.warn("The NVIDIA driver on your system is too old (found version 11040).", stacklevel=1)
        return False

    (tmp_path / "nvidia0").touch()
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(torch.cuda, "is_available", not_available)
    (finding,) = check_gpus(wanted=True, device_files=tmp_path)
    assert "runs CUDA 12.8" in finding.remedy
    assert "too old (found version 11040)" in finding.remedy


@pytest.mark.parametrize(("free", "verdict"), [(70, "ok"), (10, "warning")])
def test_gpus_are_told_with_what_they_can_and_what_is_free(monkeypatch, free, verdict):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "NVIDIA T4")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (7, 5))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: (free * GIB, 80 * GIB))
    (finding,) = check_gpus(wanted=True)
    assert finding.text == f"0: NVIDIA T4, {free}.0 GiB free of 80.0 GiB, compute capability 7.5, without bfloat16"
    assert finding.verdict == verdict


def test_small_amounts_are_told_in_mib():
    assert [in_gib(64 * 2**20), in_gib(3 * GIB // 2)] == ["64 MiB", "1.5 GiB"]
