"""What a run runs in: the code's revision, the packages, and whether W&B can go online."""

import netrc
import os
import platform
import socket
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from urllib.parse import urlparse

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
WANDB_URL = "https://api.wandb.ai"
TIMEOUT_SECONDS = 3.0


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


def wandb_mode() -> str:
    """``WANDB_MODE`` where it is set, else ``online`` with a key and a network, else ``offline``.

    Without this, W&B would ask for a key on the terminal or wait minutes for the network.
    """
    if mode := os.environ.get("WANDB_MODE"):
        return mode
    url = urlparse(os.environ.get("WANDB_BASE_URL", WANDB_URL))
    host = url.hostname or ""
    return "online" if _has_key(host) and _reachable(host, url.port or 443) else "offline"


def _has_key(host: str) -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc.netrc().authenticators(host) is not None
    except (FileNotFoundError, netrc.NetrcParseError, OSError):
        return False


def _reachable(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=TIMEOUT_SECONDS):
            return True
    except OSError:
        return False
