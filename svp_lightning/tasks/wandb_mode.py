"""Whether W&B can go online from here; decided before its logger is built."""

import netrc
import os
import socket
from urllib.parse import urlparse

DEFAULT_URL = "https://api.wandb.ai"
TIMEOUT_SECONDS = 3.0


def wandb_mode() -> str:
    """``WANDB_MODE`` where it is set, else ``online`` with a key and a network, else ``offline``.

    Without this, W&B would ask for a key on the terminal or wait minutes for the network.
    """
    if mode := os.environ.get("WANDB_MODE"):
        return mode
    url = urlparse(os.environ.get("WANDB_BASE_URL", DEFAULT_URL))
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
