"""A stage killed at any point resumes, and ends as if it had never been interrupted."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from svp_lightning.data.store import Store
from svp_lightning.evaluation.predictions import read_predictions
from tests.conftest import clean_environment, in_process, only_run, results, tiny

# Small chunks and many steps, so that every stage can be caught in the middle.
SETTINGS = (
    "+experiment=resnet18_aug_ratio_1x",
    "data.simulation.chunk_size=16",
    "generator.steps=24",
    "sampler.batch_size=4",
    "classifier.steps=16",
    "classifier.validate_every=2",
)
KILLED_AT = Path(__file__).with_name("killed_at.py")
MOMENTS = (
    "store/*.partial/rows/*.parquet",
    "generator/*.partial/last.ckpt",
    "synthetic/*.partial/rows/*.parquet",
    "classifier/*.partial/last.ckpt",
)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    in_process(folder, folder / "artifacts", *SETTINGS)
    return folder


def test_killed_in_every_stage_ends_the_same(uninterrupted: Path, tmp_path: Path) -> None:
    artifacts = tmp_path / "artifacts"
    done = subprocess.run(
        [sys.executable, KILLED_AT, artifacts, *MOMENTS, "--", *tiny(artifacts, *SETTINGS)],
        cwd=tmp_path,
        env=clean_environment() | {"PYTHONPATH": str(KILLED_AT.parents[2])},
        capture_output=True,
        text=True,
        check=True,
        timeout=400,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith('{"pattern"')]
    *killed, last = map(json.loads, lines)
    assert killed == [
        {"pattern": pattern, "status": -signal.SIGKILL, "caught": True, "finished": False}
        for pattern in MOMENTS
    ], done.stderr
    assert (last["status"], last["finished"]) == (0, True), done.stderr

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
    in_process(uninterrupted, uninterrupted / "artifacts", *SETTINGS)
    assert (folder / "report.html").is_file()
    assert results(folder)["metrics"] == before["metrics"]
