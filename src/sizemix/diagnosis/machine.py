"""Looks at what a run would have to work with: cores, memory, GPUs."""

import shutil
import warnings
from pathlib import Path

import psutil
import torch

from sizemix.diagnosis.finding import Check, Finding
from sizemix.limits import available_bytes, available_cores

BFLOAT16_SINCE = (8, 0)  # compute capability of Ampere
_GIB = 2**30


def check_cores() -> Check[None]:
    """CPU cores for this process, a container's quota included."""
    usable, there = available_cores(), psutil.cpu_count() or 1
    yield Finding("CPU", f"{there} cores" if usable == there else f"{usable:g} of {there} cores may be used")


def check_memory() -> Check[None]:
    """Memory for this process, a container's limit included."""
    available, machine = available_bytes(), psutil.virtual_memory()
    limited = ", which a container's limit leaves" if available < machine.available else ""
    yield Finding("memory", f"{in_gib(available)} free of {in_gib(machine.total)}{limited}")


def check_gpus(*, wanted: bool, device_files: Path = Path("/dev")) -> Check[None]:
    """Names the GPUs; one that the machine has and torch cannot use is a problem.

    Args:
        wanted: whether the run would use one; if not, it is a warning.
        device_files: where the NVIDIA driver puts its files.
    """
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        usable = torch.cuda.is_available()
    if usable:
        for index in range(torch.cuda.device_count()):
            yield _gpu(index)
    elif any(device_files.glob("nvidia[0-9]*")) or shutil.which("nvidia-smi"):
        remedy = _remedy_for_unusable_gpu(" ".join(str(warning.message) for warning in said))
        yield Finding("GPU", "there, but torch cannot use it", "problem" if wanted else "warning", remedy)
    else:
        yield Finding("GPU", "none")


def _gpu(index: int) -> Finding:
    capability = torch.cuda.get_device_capability(index)
    free, total = torch.cuda.mem_get_info(index)
    bfloat16 = "with" if capability >= BFLOAT16_SINCE else "without"
    text = (
        f"{index}: {torch.cuda.get_device_name(index)}, {in_gib(free)} free of {in_gib(total)}, compute capability "
        f"{capability[0]}.{capability[1]}, {bfloat16} bfloat16"
    )
    if free > total / 2:
        return Finding("GPU", text)
    remedy = (
        f"expected most memory of GPU {index} to be free, got {in_gib(free)}; end what nvidia-smi lists there, or "
        "choose another GPU by CUDA_VISIBLE_DEVICES."
    )
    return Finding("GPU", text, "warning", remedy)


def _remedy_for_unusable_gpu(said: str) -> str:
    if torch.version.cuda is None:
        return (
            f"expected a torch built for CUDA, got {torch.__version__}, which is not; install torch and torchvision "
            "for CUDA, as https://pytorch.org/get-started shows."
        )
    reason = f" (torch says: {' '.join(said.split())[:200].rstrip('.')})" if said else ""
    return (
        f"expected an NVIDIA driver that runs CUDA {torch.version.cuda}, which this torch is built for{reason}; update "
        "the driver, or install a torch for an older CUDA; and see that CUDA_VISIBLE_DEVICES hides no GPU and, in a "
        "container, that it was started with --gpus all."
    )


def in_gib(num_bytes: int) -> str:
    """As people read it: 1.5 GiB, or 63 MiB."""
    return f"{num_bytes / _GIB:.1f} GiB" if num_bytes >= _GIB else f"{num_bytes / 2**20:.0f} MiB"
