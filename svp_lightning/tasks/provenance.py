"""Where a result comes from: the code's revision and the packages it ran with."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = (
    "svp-lightning",
    "torch",
    "torchvision",
    "pytorch-lightning",
    "torchmetrics",
    "diffusers",
    "numpy",
    "scikit-learn",
)


def package_versions() -> dict[str, str]:
    """Name -> version of Python and of the packages that decide results."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def git_revision() -> str | None:
    """The commit of the checkout this code runs from (``-dirty`` if changed), or None."""
    folder = Path(__file__).resolve().parents[2]
    if not (folder / ".git").exists():
        return None
    described = subprocess.run(
        ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
        capture_output=True,
        text=True,
        check=False,
    )
    return described.stdout.strip() or None
