"""A stage killed at any point goes on, and ends as if it had never been interrupted."""

import json
import os
import signal
import subprocess
import sys
import time
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
MOMENTS = {
    "store": "store/*.partial/rows/*.parquet",
    "generator": "generator/*.partial/last.ckpt",
    "synthetic": "synthetic/*.partial/rows/*.parquet",
    "classifier": "classifier/*.partial/last.ckpt",
}


def start(folder: Path, artifacts: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", "svp_lightning", *tiny(artifacts, *SETTINGS)],
        cwd=folder,
        env=clean_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def kill_when(folder: Path, artifacts: Path, pattern: str) -> None:
    """Start the run and SIGKILL it as soon as a file matching ``pattern`` is there."""
    process = start(folder, artifacts)
    limit = time.monotonic() + 300
    while not list(artifacts.glob(pattern)):
        assert process.poll() is None, f"ended before {pattern}: {process.communicate()[1]!r}"
        assert time.monotonic() < limit
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    process = start(folder, folder / "artifacts")
    assert process.wait(timeout=400) == 0, process.communicate()[1]
    return folder


def test_killed_in_every_stage_ends_the_same(uninterrupted: Path, tmp_path: Path) -> None:
    artifacts = tmp_path / "artifacts"
    for pattern in MOMENTS.values():
        kill_when(tmp_path, artifacts, pattern)
        assert list(artifacts.glob(pattern)), "killed in the middle of the stage"
        assert not list(tmp_path.rglob("results.json"))
    process = start(tmp_path, artifacts)
    assert process.wait(timeout=400) == 0, process.communicate()[1]

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
