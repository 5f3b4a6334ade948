"""Looks at the installed software; imports nothing of sizemix that would fail where something does not fit."""

import platform
from collections.abc import Callable, Iterable
from importlib.metadata import PackageNotFoundError, metadata, requires, version

from packaging.requirements import Requirement
from packaging.version import Version

from sizemix.diagnosis.finding import Check, Finding

_SHOWN = ("sizemix", "torch", "torchvision", "timm", "pytorch-lightning", "hydra-core", "pillow", "wandb")


def check_versions() -> Check[None]:
    """Python and packages, against what sizemix asks of them."""
    yield Finding("python", platform.python_version())
    wanted = [f"python{metadata('sizemix')['Requires-Python']}", *(requires("sizemix") or [])]
    installed = {name: installed_version(name) for name in _SHOWN}
    yield Finding("packages", ", ".join(f"{name} {number or 'missing'}" for name, number in installed.items()))
    yield from unmet(wanted, installed_version)


def unmet(requirements: Iterable[str], version_of: Callable[[str], str | None]) -> Iterable[Finding]:
    """Problems with requirements as a package's metadata has them; those of extras are passed over.

    Args:
        requirements: such as "timm<1.1,>=1.0.31".
        version_of: the installed version by a package's name; None: not installed.
    """
    for requirement in map(Requirement, requirements):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        name, wanted, found = requirement.name, requirement.specifier, version_of(requirement.name)
        if found is None or not wanted.contains(found, prereleases=True):
            install = (
                f"pip install '{name}{wanted}'" if name != "python" else "make a new environment with such a Python"
            )
            remedy = f"expected {name}{wanted}, got {found or 'none'}; {install}."
            yield Finding(name, f"{found or 'missing'}, wanted {wanted}", "problem", remedy)


def check_torchvision() -> Check[None]:
    """Whether torchvision's compiled operators load and run beside this torch: each is built for one torch alone."""
    torch_version, torchvision_version = version("torch"), version("torchvision")
    try:
        import torch
        import torchvision

        torchvision.ops.nms(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.ones(1), 0.5)
    except Exception as error:  # a missing operator is a RuntimeError, a missing library an OSError or ImportError
        reason = " ".join(str(error).split())[:200]
        remedy = (
            f"expected a torchvision built for torch {torch_version}, got {torchvision_version}, which fails ({reason})"
            f"; the two must fit (torch 2.N with torchvision 0.(N + 15)) and come from one index: "
            f"pip install --force-reinstall torch=={Version(torch_version).public} "
            f"torchvision=={fitting_torchvision(torch_version)}"
        )
        yield Finding("torchvision", f"does not work with torch {torch_version}", "problem", remedy)
    else:
        yield Finding("torchvision", f"its operators work with torch {torch_version}")


def fitting_torchvision(torch_version: str) -> str:
    """The torchvision release of a torch release: 0.26.* for 2.11.0."""
    return f"0.{Version(torch_version).minor + 15}.*"


def check_pillow() -> Check[None]:
    """Whether photos are decoded by libjpeg-turbo."""
    from PIL import features

    turbo = features.version_feature("libjpeg_turbo") if features.check_feature("libjpeg_turbo") else None
    if turbo is None:
        remedy = "install Pillow's own wheel, which has it: pip install --force-reinstall --only-binary :all: pillow"
        yield Finding("JPEG", "Pillow decodes without libjpeg-turbo, which is slower", "warning", remedy)
    else:
        yield Finding("JPEG", f"Pillow decodes with libjpeg-turbo {turbo}")


def installed_version(name: str) -> str | None:
    """A package's version, or Python's; None: not installed."""
    try:
        return platform.python_version() if name == "python" else version(name)
    except PackageNotFoundError:
        return None
