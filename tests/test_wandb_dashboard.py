"""The W&B dashboard is built without a network, from the names that runs really log."""

import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytest.importorskip("wandb_workspaces", reason="the extra `dashboard` is not installed")

FOLDER = Path(__file__).resolve().parents[1] / "experiments" / "wandb_dashboard"


@pytest.fixture(scope="module")
def dashboard() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        yield importlib.import_module("dashboard")


def sent(workspace: Any) -> dict[str, Any]:
    """What saving would send."""
    model = workspace._to_model()
    return json.loads(model.spec.model_dump_json(by_alias=True, exclude_none=True))


def test_workspace_shows_one_study_grouped_by_treatment(dashboard: ModuleType) -> None:
    text = json.dumps(sent(dashboard.build_workspace("team", "svp_lightning", "grid")))
    assert '"grid"' in text
    for key in ("backbone", "method", "ratio", "rare_images", "experiment", "test/macro_auprc"):
        assert key in text


def test_every_class_has_its_section(dashboard: ModuleType) -> None:
    workspace = dashboard.build_workspace("team", "p", "s", ("glass", "fibre"))
    assert {"Glass", "Fibre"} <= {section.name for section in workspace.sections}
    assert "test/glass/recall_at_precision_95" in json.dumps(sent(workspace))
