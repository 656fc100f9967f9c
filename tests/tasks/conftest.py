"""A configuration and its session, for calling the tasks' functions one by one."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from svp_lightning.__main__ import _plain, config_folder
from svp_lightning.config import Config, parse_config
from svp_lightning.tasks.session import Session, open_session
from tests.conftest import tiny


@pytest.fixture
def svp_config(
    tmp_path: Path, shared_artifacts: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[Config, Session]]:
    """Compose ``scale=tiny`` with overrides; no loggers, no callbacks."""
    monkeypatch.chdir(tmp_path)

    def build(*overrides: str) -> tuple[Config, Session]:
        GlobalHydra.instance().clear()
        with initialize_config_dir(str(config_folder()), version_base="1.3"):
            cfg = compose("config", overrides=tiny(shared_artifacts, *overrides))
        config = parse_config(_plain(cfg))
        return config, open_session(config, tmp_path / "run", "test", lambda _: [])

    return build
