"""The device, and the precision on it, on made-up machines."""

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from svp_lightning.commands.doctor import _precision
from svp_lightning.errors import SettingsError
from svp_lightning.stages.environment import (
    choose_device,
    gain_of_one_thread,
    precision_of,
    timed,
    wandb_mode,
)
from svp_lightning.stages.settings import TrainerSettings
from tests.configured import changed, tiny

Machine = Callable[..., None]


def trainer(accelerator: str = "auto", devices: Any = 1, **more: Any) -> TrainerSettings:
    given = {"accelerator": accelerator, "devices": devices, "precision": None}
    return changed(tiny().trainer, given | more)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A machine with ``gpus`` GPUs, on which this process has the given local rank."""

    def set_up(gpus: int, bf16: bool = True, local_rank: int | None = None) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        monkeypatch.setattr(
            torch.cuda,
            "is_bf16_supported",
            lambda including_emulation=True: including_emulation or bf16,
        )
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
        monkeypatch.delenv("SLURM_LOCALID", raising=False)
        monkeypatch.delenv("LOCAL_RANK", raising=False)
        if local_rank is not None:
            monkeypatch.setenv("LOCAL_RANK", str(local_rank))

    return set_up


@pytest.mark.parametrize(
    ("devices", "local_rank", "number"),
    [(1, None, 0), ([1], None, 1), ("2,", None, 2), ([1, 3], 1, 3), ("auto", 2, 2), (4, 3, 3)],
)
def test_gpu_is_the_one_that_lightning_takes(
    machine: Machine, devices: Any, local_rank: int | None, number: int
) -> None:
    machine(4, local_rank=local_rank)
    assert choose_device(trainer("gpu", devices)) == torch.device("cuda", number)


def test_what_is_not_there_is_refused(machine: Machine) -> None:
    machine(0)
    assert choose_device(trainer("auto")) == torch.device("cpu")
    with pytest.raises(SettingsError, match="accelerator=gpu"):
        choose_device(trainer("gpu"))
    assert "trainer=cpu" in _precision(trainer("gpu"))  # what doctor shows
    machine(2)
    with pytest.raises(SettingsError, match="GPU 5, but 2"):
        choose_device(trainer("gpu", [5]))


@pytest.mark.parametrize(("bf16", "chosen"), [(True, "bf16-mixed"), (False, "32-true")])
def test_precision_follows_the_hardware_and_tests_are_exact(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, bf16: bool, chosen: str
) -> None:
    machine(1, bf16=bf16)
    assert precision_of(trainer(), training=True) == chosen
    assert precision_of(trainer(), training=False) == "32-true"
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bf16)
    assert precision_of(trainer("cpu"), training=True) == chosen
    assert precision_of(trainer("cpu"), training=False) == "32-true"
    assert _precision(trainer("cpu")) == f"{chosen} for training, 32-true for tests"
    mixed = trainer(precision="16-mixed")
    assert [precision_of(mixed, training) for training in (True, False)] == ["16-mixed", "32-true"]


@pytest.mark.parametrize(("took", "advised"), [(0.4, True), (0.055, False)])
def test_one_thread_is_advised_where_it_is_much_faster(took: float, advised: bool) -> None:
    threads = []

    def step() -> None:
        threads.append(torch.get_num_threads())
        time.sleep(0.04)

    before, cpu = torch.get_num_threads(), torch.device("cpu")
    try:
        torch.set_num_threads(2)
        faster = gain_of_one_thread(step, cpu, took)
        assert set(threads) == {1}
        assert torch.get_num_threads() == 2
        torch.set_num_threads(1)
        assert gain_of_one_thread(step, cpu, took) == 1
    finally:
        torch.set_num_threads(before)
    assert timed(step, cpu) >= 0.04
    assert faster <= took / 0.04
    assert (faster > 1.5) if advised else (faster == 1)


@pytest.fixture
def wandb_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """A user with a key and kept settings; returns the hosts that are then asked for."""

    def set_up(kept: str = "", **environment: str) -> list[str]:
        for name in [n for n in os.environ if n.lower().startswith(("wandb", "http", "no_proxy"))]:
            monkeypatch.delenv(name)
        asked: list[str] = []

        def connect(address: tuple[str, int], timeout: float) -> socket.socket:
            asked.append(f"{address[0]}:{address[1]}")
            raise OSError

        monkeypatch.setattr(socket, "create_connection", connect)
        (tmp_path / "settings").write_text(kept)
        given = {"WANDB_API_KEY": "k" * 40, "WANDB_CONFIG_DIR": str(tmp_path)} | environment
        for name, value in given.items():
            monkeypatch.setenv(name, value)
        return asked

    return set_up


OWN_SERVER = "[default]\nbase_url = http://wandb.corp.example\n"


def test_wandb_asks_the_server_that_the_user_has_logged_in_to(
    wandb_user: Callable[..., list[str]],
) -> None:
    asked = wandb_user(OWN_SERVER)
    assert wandb_mode() == "offline"
    assert asked == ["wandb.corp.example:80"]
    asked = wandb_user(OWN_SERVER, WANDB_BASE_URL="https://other.example:8443")
    assert wandb_mode() == "offline"
    assert asked == ["other.example:8443"]
    asked = wandb_user("no settings")
    assert wandb_mode() == "offline"
    assert asked == ["api.wandb.ai:443"]


def test_wandb_goes_through_a_proxy_and_keeps_the_mode_that_is_set(
    wandb_user: Callable[..., list[str]],
) -> None:
    asked = wandb_user(https_proxy="http://proxy.corp.example:3128")
    assert wandb_mode() == "online"
    wandb_user(https_proxy="http://proxy.corp.example:3128", no_proxy="api.wandb.ai")
    assert wandb_mode() == "offline"
    asked = wandb_user("[default]\nmode = disabled\n")
    assert wandb_mode() == "disabled"
    assert not asked
    wandb_user("[default]\nmode = disabled\n", WANDB_MODE="shared")
    assert wandb_mode() == "shared"
