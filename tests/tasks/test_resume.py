"""A stage killed at any point goes on, and ends as if it had never been interrupted."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from svp_lightning.data.store import Store
from svp_lightning.evaluation.predictions import read_predictions
from tests.conftest import clean_environment, fresh_process, only_run, results, tiny

# Small chunks and many steps, so that every stage can be caught in the middle.
SETTINGS = (
    "+experiment=resnet18_aug_ratio_1x",
    "data.simulation.chunk_size=16",
    "generator.steps=24",
    "sampler.batch_size=4",
    "classifier.steps=16",
)
KILLED_AT = Path(__file__).with_name("killed_at.py")
MOMENTS = {
    "store": "store/*.partial/rows/*.parquet",
    "generator": "generator/*.partial/last.ckpt",
    "synthetic": "synthetic/*.partial/rows/*.parquet",
    "classifier": "classifier/*.partial/last.ckpt",
}


def start(folder: Path, *command: str) -> "subprocess.Popen[bytes]":
    """A command of Python whose last arguments are those of the run."""
    return subprocess.Popen(
        [sys.executable, *command, *tiny(folder / "artifacts", *SETTINGS)],
        cwd=folder,
        env=clean_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def run(folder: Path) -> None:
    """Start the run, or go on with it, to its end."""
    process = start(folder, "-m", "svp_lightning")
    _, errors = process.communicate(timeout=400)
    assert process.returncode == 0, errors


def kill_when(folder: Path, pattern: str) -> None:
    """Start the run; it is killed once there is an artifact's file that matches ``pattern``."""
    process = start(folder, str(KILLED_AT), str(folder / "artifacts"), pattern)
    _, errors = process.communicate(timeout=400)
    assert process.returncode == -signal.SIGKILL, f"ended before {pattern}: {errors!r}"


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    run(folder)
    return folder


def test_killed_in_every_stage_ends_the_same(uninterrupted: Path, tmp_path: Path) -> None:
    artifacts = tmp_path / "artifacts"
    for pattern in MOMENTS.values():
        kill_when(tmp_path, pattern)
        assert list(artifacts.glob(pattern)), "killed in the middle of the stage"
        assert not list(tmp_path.rglob("results.json"))
    run(tmp_path)

    whole, resumed = only_run(uninterrupted / "outputs"), only_run(tmp_path / "outputs")
    assert whole.name == resumed.name
    for key in ("metrics", "ci95", "counts"):
        assert results(whole)[key] == results(resumed)[key]
    # One writer, two histories: the stores must agree byte for byte.
    sums = [
        sorted(Store.open(p.parent).sha256 for p in folder.rglob("manifest.json"))
        for folder in (uninterrupted, tmp_path)
    ]
    assert len(sums[0]) == 2
    assert sums[0] == sums[1]
    expected, found = (read_predictions(f / "predictions.parquet") for f in (whole, resumed))
    np.testing.assert_array_equal(expected.probabilities, found.probabilities)
    for key in ("data", "generator", "synthetic"):
        assert results(whole)["provenance"][key] == results(resumed)["provenance"][key]


def test_a_run_without_its_report_is_not_finished(uninterrupted: Path) -> None:
    """As after a kill between the results and the report: both are written again, the same."""
    folder = only_run(uninterrupted / "outputs")
    (folder / "report.html").unlink()
    before = json.loads((folder / "results.json").read_text())
    fresh_process(uninterrupted, *tiny(uninterrupted / "artifacts", *SETTINGS))
    assert (folder / "report.html").is_file()
    assert results(folder)["metrics"] == before["metrics"]
