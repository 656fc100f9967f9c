"""What a user meets before any work starts."""

import os
import re
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from svp_lightning.__main__ import _plain, main
from svp_lightning.classifier.settings import RELEASED
from svp_lightning.config import TASKS, help_text, parse_config
from svp_lightning.runtime.settings import INCLUDED
from tests.conftest import fresh_process

ROOT = Path(__file__).parents[1]
GROUPS = {
    "data": {"simulated", "folder", "flowcam", "mfi", "collage"},
    "data/instrument": {"flowcam_10x", "flowcam_nano", "mfi_5200"},
    "generator": {"unet", "paper"},
    "sampler": {"dpm_solver", "ddim", "ddpm"},
    "classifier": {"resnet18", "resnet34", "resnet50"},
    "augmentation": {
        *("none", "duplicate", "class_weights", "balanced_sampling", "logit_adjustment", "mixup"),
        *("classical", "classical_mild", "classical_strong", "diffusion"),
        "diffusion_balanced_sampling",
    },
    "pretraining": {"none", "simulated"},
    "scale": {"tiny", "demo", "lab", "paper"},
    "trainer": {"auto", "cpu", "gpu", "ddp", "ddp_cpu", "slurm"},
    "logger": {"csv", "wandb"},
    "callbacks": {"default"},
    "paths": {"default"},
    "debug": {"default"},
}


def test_every_task_has_a_command() -> None:
    for name in TASKS:
        assert (ROOT / "svp_lightning" / "commands" / f"{name}.py").is_file()


@pytest.mark.parametrize("group", GROUPS)
def test_what_is_promised_is_there_and_every_option_composes(group: str) -> None:
    files = [*(ROOT / "conf" / group).glob("*.yaml")]
    assert {file.stem for file in files} >= GROUPS[group]
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        for file in files:
            if file.stem in INCLUDED:
                continue
            own = GROUPS["data"] - {"simulated"}
            root = ["data.root=/images"] if file.stem in own else []
            scale = [] if group in ("scale", "debug") else ["scale=tiny"]
            size = ["data.image_size=32"] if "physics" in file.stem else []  # its weights' own
            cfg = compose("config", overrides=[f"{group}={file.stem}", *root, *scale, *size])
            parse_config(_plain(cfg))
            OmegaConf.resolve(cfg)


def test_scales_have_the_same_keys() -> None:
    """So that what composes at one scale does so at all."""
    has_default = {"pool_ratio"}  # where it is read

    def keys(values: Any) -> Any:
        if not isinstance(values, dict):
            return None
        return {k: keys(v) for k, v in values.items() if k not in has_default}

    files = (ROOT / "conf" / "scale").glob("*.yaml")
    first, *others = (keys(yaml.safe_load(file.read_text())) for file in files)
    assert all(other == first for other in others)


HEAVY = {"torch", "numpy", "pandas", "pytorch_lightning", "torchvision", "diffusers", "matplotlib"}


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (("--help",), "+experiment="),
        (("+experiment=resnet50_aug_ratio_1x", "--cfg", "job"), "backbone: resnet50"),
    ],
)
def test_help_and_cfg_answer_at_once(
    tmp_path: Path, arguments: tuple[str, ...], shown: str
) -> None:
    """None of the libraries that take seconds to import is asked for."""
    done = fresh_process(tmp_path, *arguments, PYTHONPROFILEIMPORTTIME="1")
    assert shown in done.stdout
    imported = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines()}
    assert "hydra" in imported
    assert not imported & HEAVY
    assert not list(tmp_path.iterdir())


def test_help_names_every_option_of_every_group() -> None:
    lines = " ".join(help_text().split())
    for file in (ROOT / "conf").glob("*/**/*.yaml"):
        group = file.parent.relative_to(ROOT / "conf").as_posix()
        options = re.search(rf"(?<!\S){group}: ((\w+, )*\w+)", lines)
        assert options is not None
        assert (file.stem in options[1].split(", ")) == (file.stem not in INCLUDED)
    assert f"task: {', '.join(TASKS)} " in lines


def test_wheel_carries_the_configuration(tmp_path: Path) -> None:
    from hatchling.builders.wheel import WheelBuilder

    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path))
    names = set(zipfile.ZipFile(wheel).namelist())
    for file in (ROOT / "conf").rglob("*.yaml"):
        assert f"svp_lightning/conf/{file.relative_to(ROOT / 'conf').as_posix()}" in names
    assert "hydra_plugins/svp_process_launcher/launcher.py" in names
    assert any(name.endswith(".html.j2") for name in names)
    for file in RELEASED.iterdir():
        assert file.relative_to(ROOT).as_posix() in names
    zipfile.ZipFile(wheel).extractall(tmp_path / "installed")
    shown = fresh_process(
        tmp_path, "+experiment=paper_grid", "--cfg", "job", PYTHONPATH=str(tmp_path / "installed")
    )
    assert "study: paper_grid" in shown.stdout


def test_debug_run_stays_out_of_an_experiments_study(tmp_path: Path) -> None:
    overrides = ("debug=overfit", "+experiment=resnet50_aug_ratio_1x")
    done = fresh_process(tmp_path, *overrides, check=False)
    assert done.returncode == 1
    assert "debug=overfit and +experiment=resnet50_aug_ratio_1x exclude" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_sweep_in_one_process_refuses_several_devices_by_any_strategy(tmp_path: Path) -> None:
    devices = ("trainer=cpu", "trainer.devices=2")  # with strategy=auto, which becomes ddp
    done = fresh_process(tmp_path, "-m", "hydra/launcher=basic", *devices, "seed=1,2", check=False)
    assert done.returncode == 1
    assert "hydra/launcher=process" in done.stderr


def interrupted() -> None:
    raise KeyboardInterrupt


def interrupted_in_training() -> None:
    """As Lightning does."""
    try:
        interrupted()
    except KeyboardInterrupt:
        sys.exit(1)


@pytest.mark.parametrize("work", [interrupted, interrupted_in_training])
def test_ctrl_c_ends_in_one_sentence(
    work: Callable[[], None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("hydra.main", lambda **_: lambda _: work)
    monkeypatch.setattr("sys.argv", ["svp_lightning"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 128 + signal.SIGINT
    assert capsys.readouterr().err == "\nStopped. The same command resumes.\n"


@pytest.mark.parametrize(
    ("given", "expected"),
    [({}, "30000"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "None"), ({"GOMP_SPINCOUNT": "9"}, "9")],
)
def test_waiting_threads_spin_briefly_unless_the_user_has_set_a_policy(
    given: dict[str, str], expected: str
) -> None:
    known = {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"}
    clean = {name: value for name, value in os.environ.items() if name not in known}
    code = "import os, svp_lightning; print(os.environ.get('GOMP_SPINCOUNT'))"
    done = subprocess.run(
        [sys.executable, "-c", code], env=clean | given, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == expected
