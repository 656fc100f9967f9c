"""What a run runs on: its device and precision, the code's revision, packages, and W&B."""

import netrc
import os
import platform
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from configparser import ConfigParser
from configparser import Error as ConfigParserError
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import getproxies, proxy_bypass

import torch

from svp_lightning.errors import SettingsError
from svp_lightning.generator.drawing import multiplies_bfloat16
from svp_lightning.stages.past_outputs import OTHER_GPU
from svp_lightning.stages.settings import TrainerSettings

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
FASTER = 1.5
"""A thread alone has to be faster by this to be advised: a step of few images is short."""


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
    """The mode that is set, else ``online`` with a key and a network, else ``offline``.

    Server and mode are those of the environment, or else of ``wandb login --host …`` and ``wandb
    offline``. Without this, W&B would ask for a key on the terminal or wait minutes for the
    network.
    """
    kept = _wandb_settings()
    if mode := os.environ.get("WANDB_MODE") or kept.get("mode"):
        return mode
    url = urlparse(os.environ.get("WANDB_BASE_URL") or kept.get("base_url") or WANDB_URL)
    host, port = url.hostname or "", url.port or (80 if url.scheme == "http" else 443)
    proxied = url.scheme in getproxies() and not proxy_bypass(host)  # no direct way need be open
    return "online" if _has_key(host) and (proxied or _reachable(host, port)) else "offline"


def _wandb_settings() -> Mapping[str, str]:
    """What W&B keeps of its settings for this user."""
    folder = Path(os.environ.get("WANDB_CONFIG_DIR", "~/.config/wandb")).expanduser()
    found = ConfigParser(interpolation=None)
    with suppress(ConfigParserError, UnicodeDecodeError):
        found.read(folder / "settings", encoding="utf-8")
    return found["default"] if found.has_section("default") else {}


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


def choose_device(trainer: TrainerSettings) -> torch.device:
    """The device that Lightning would give this process.

    Raises:
        SettingsError: a GPU is asked for that is not there.
    """
    kind = trainer.accelerator
    if kind in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return torch.device("cuda", _gpu(trainer, torch.cuda.device_count()))
    if kind in ("auto", "gpu", "mps") and torch.backends.mps.is_available():
        return torch.device("mps")
    if kind in ("gpu", "cuda", "mps"):
        raise SettingsError(
            f"trainer.accelerator={kind}, but no such device can be seen from here.",
            "Choose trainer=cpu or trainer=auto; task=doctor shows what there is.",
        )
    return torch.device("cpu")


def refuse_changing_order(refused: bool) -> None:
    """Let torch refuse operations that add in a changing order, in this whole process, or not."""
    if refused:
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # read by the first product on a GPU
    torch.use_deterministic_algorithms(refused)


def _gpu(trainer: TrainerSettings, there: int) -> int:
    """The number of this process's GPU: of those listed, or of those that are there."""
    rank = int(os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", "0")))
    listed = trainer.listed_devices or range(there)
    chosen = listed[rank % len(listed)]
    if chosen >= there:
        raise SettingsError(
            f"trainer.devices={trainer.devices} names GPU {chosen}, but {there} can be seen.",
            "Count from 0 among the GPUs that CUDA_VISIBLE_DEVICES leaves visible.",
        )
    return chosen


def precision_of(settings: TrainerSettings, training: bool) -> str:
    """What ``trainer.precision`` means: where null, bf16 if the device multiplies it.

    Tests are in float32 on every device, as predictions of new images are: calibration, thresholds
    and the shares of mistakes that a test finds are those of the outputs they are applied to.

    Raises:
        SettingsError: a GPU is asked for that is not there.
    """
    if not training:
        return "32-true"
    if settings.precision is not None:
        return settings.precision
    return "bf16-mixed" if multiplies_bfloat16(choose_device(settings)) else "32-true"


def device_name(device: torch.device, processes: int = 1) -> str:
    """``"NVIDIA H100"``, ``"CPU, 2 threads"``, with the number of processes if above one."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        threads = torch.get_num_threads()
        name = f"{device.type.upper()}, {threads} thread{'s'[: threads > 1]}"
    return name if processes == 1 else f"{processes} × {name}"


def planned_processes(trainer: TrainerSettings) -> int:
    """Processes of a run, on all nodes together."""
    return (trainer.processes or max(1, torch.cuda.device_count())) * trainer.num_nodes


def planned_device(trainer: TrainerSettings) -> str:
    """What a run would compute on, as finished outputs name it (:func:`.clock.device`)."""
    try:
        device = choose_device(trainer)
    except SettingsError:  # of a cluster, seen from where its jobs are submitted
        return OTHER_GPU
    return device_name(device, planned_processes(trainer)).partition(",")[0]


def gain_of_one_thread(step: Callable[[], object], device: torch.device, took: float) -> float:
    """How many times as fast one thread is as all of them, which ``took`` so many seconds.

    Threads wait for one another in every operation. Where other processes take their cores that can
    take longer than to compute alone (docs/speed.md). 1: not much faster, or there is one thread.
    """
    threads = torch.get_num_threads()
    if device.type != "cpu" or threads == 1:
        return 1.0
    torch.set_num_threads(1)
    try:
        alone = timed(step, device)
    finally:
        torch.set_num_threads(threads)
    return took / alone if took > FASTER * alone else 1.0


def timed(step: Callable[[], object], device: torch.device) -> float:
    """Seconds of a step, the better of two."""
    seconds = []
    for _ in range(3):  # the first call pays for set-up
        start = time.perf_counter()
        step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:])
