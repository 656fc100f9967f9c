"""Two gloo processes: the same test metrics as one, every test image once, sweeps included."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from svp_lightning.data.store import Store
from svp_lightning.evaluation.predictions import read_predictions
from tests.conftest import fresh_process, in_process, only_run, results, tiny

CELL = "+experiment=resnet18_aug_ratio_1x"
BATCHES = "sampler.batch_size=5"
"""So that the pool of 24 takes several batches, the last one smaller."""


@pytest.fixture(scope="module")
def one_process(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("one")
    in_process(folder, folder / "artifacts", CELL, BATCHES)
    return folder


def test_two_processes_draw_the_same_pool_and_test_the_same(
    one_process: Path, tmp_path: Path
) -> None:
    """``trainer`` is no setting that matters: two processes test what one has trained."""
    artifacts = tmp_path / "artifacts"
    for stage in ("store", "generator", "classifier"):
        shutil.copytree(one_process / "artifacts" / stage, artifacts / stage)
    done = fresh_process(tmp_path, *tiny(artifacts, CELL, BATCHES, "trainer=ddp_cpu"))
    assert "24 images" in done.stdout
    assert "2 × CPU" in done.stdout
    assert "Building classifier" not in done.stdout
    pools = (next(p.glob("artifacts/synthetic/*/manifest.json")) for p in (one_process, tmp_path))
    assert len({Store.open(pool.parent).sha256 for pool in pools}) == 1
    one, two = only_run(one_process / "outputs"), only_run(tmp_path / "outputs")
    a, b = (read_predictions(folder / "predictions.parquet") for folder in (one, two))
    assert a.ids.tolist() == b.ids.tolist()
    np.testing.assert_allclose(a.probabilities, b.probabilities, atol=1e-5)
    assert results(two)["provenance"]["device"].startswith("2 × ")
    for name, value in results(one)["metrics"].items():
        if name != "per_class":
            assert results(two)["metrics"][name] == pytest.approx(value, abs=1e-9)


def test_sweep_over_device_counts_trains_and_counts_every_image(tmp_path: Path) -> None:
    """1, then 2 processes in one multirun, each training for itself."""
    places = "paths.artifacts=a/${trainer.devices}", "paths.outputs=o/${trainer.devices}"
    overrides = tiny(tmp_path, CELL, "trainer=ddp_cpu", *places)
    fresh_process(tmp_path, "-m", *overrides, "trainer.devices=1,2")
    for devices in (1, 2):
        run = only_run(tmp_path / "o" / str(devices))
        assert sum(results(run)["counts"]["test"].values()) == 84
        assert len(read_predictions(run / "predictions.parquet").ids) == 84
        assert results(run)["provenance"]["device"].startswith("2 × ") == (devices == 2)
        info = json.loads(next((tmp_path / "a" / str(devices)).rglob("generator.json")).read_text())
        assert info["generator"]["training"]["processes"] == devices
