"""Run folders with small made-up results."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .made_up import made_up_predictions, made_up_results, write_run

MakeRun = Callable[..., Path]


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """``make_run("name", seed=2, change={...})`` writes a run folder and returns it.

    ``change`` replaces top-level keys of ``results.json``; a dict is merged into the one there.
    """

    def make(
        name: str = "run",
        *,
        change: dict[str, Any] | None = None,
        with_predictions: bool = False,
        **kwargs: Any,
    ) -> Path:
        values = made_up_results(**kwargs)
        for key, new in (change or {}).items():
            values[key] = values[key] | new if isinstance(new, dict) else new
        predictions = made_up_predictions(values["counts"]["test"]) if with_predictions else None
        return write_run(tmp_path / "study" / name, values, predictions)

    return make
