"""``task=doctor``: what this machine offers and whether a run would start."""

import os
from pathlib import Path
from tempfile import TemporaryFile

import torch
from rich.table import Table

from svp_lightning.config import Config
from svp_lightning.errors import SettingsError
from svp_lightning.pipeline import Pipeline
from svp_lightning.runtime.terminal import print_table
from svp_lightning.stages.environment import (
    git_revision,
    package_versions,
    precision_of,
    wandb_mode,
)
from svp_lightning.stages.settings import TrainerSettings


def run(pipeline: Pipeline) -> None:
    """Print versions, devices, folders and W&B mode."""
    table = Table(show_header=False, title="svp_lightning doctor")
    for name, value in findings(pipeline.config).items():
        table.add_row(name, value)
    print_table(table)


def findings(config: Config) -> dict[str, str]:
    """Name -> finding, in the order to read them."""
    found = package_versions()
    found["git revision"] = git_revision() or "not a checkout"
    found["CPU"] = f"{os.cpu_count()} cores, {torch.get_num_threads()} threads per process"
    count = torch.cuda.device_count()
    found["GPUs"] = ", ".join(torch.cuda.get_device_name(k) for k in range(count)) or "none"
    found["precision"] = _precision(config.trainer)
    for name in ("artifacts", "outputs"):
        found[f"paths.{name}"] = _folder(getattr(config.paths, name))
    found["W&B"] = wandb_mode()
    return found


def _precision(trainer: TrainerSettings) -> str:
    try:
        training, testing = (precision_of(trainer, training) for training in (True, False))
    except SettingsError as error:
        return str(error)
    return f"{training} for training, {testing} for tests"


def _folder(path: Path) -> str:
    for place in (path, *path.parents):
        if place.is_symlink() and not place.exists():
            return f"{path} (NOT WRITABLE, the link {place} leads nowhere)"
    existing = next(p for p in [path.resolve(), *path.resolve().parents] if p.exists())
    try:
        with TemporaryFile(dir=existing):
            writable = "writable"
    except OSError:
        writable = "NOT WRITABLE"
    usage = os.statvfs(existing)
    return f"{path} ({writable}, {usage.f_bavail * usage.f_frsize / 1e9:.0f} GB free)"
