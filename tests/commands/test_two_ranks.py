"""Two gloo processes: the same pool and test metrics as one, every test image once, in a sweep."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from svp_lightning.data.store import Store
from svp_lightning.evaluation.predictions import read_predictions
from tests.conftest import (
    clean_environment,
    fresh_process,
    in_process,
    only_run,
    results,
    tiny,
    wait_until,
)

CELL = ("+experiment=resnet18_aug_ratio_1x", "generator.selection.method=denoising",
        "sampler.batch_size=5")  # fmt: skip
"""The pool of 24 takes several batches, the last one smaller."""


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2 processes train, draw and test; then 1 tests what they have left.

    In one process, the second cell would find the ranks of the first in its environment.
    """
    folder = tmp_path_factory.mktemp("sweep")
    outputs = "paths.outputs=outputs/${trainer.devices}"
    overrides = tiny(folder / "artifacts", *CELL, "trainer=ddp_cpu", outputs)
    fresh_process(folder, "-m", *overrides, "trainer.devices=2,1")
    return folder


def test_two_processes_test_as_one_and_count_every_image(sweep: Path) -> None:
    one, two = (only_run(sweep / "outputs" / devices) for devices in "12")
    a, b = (read_predictions(run / "predictions.parquet") for run in (one, two))
    assert len(a.ids) == 84
    assert a.ids.tolist() == b.ids.tolist()
    np.testing.assert_allclose(a.probabilities, b.probabilities, atol=1e-5)
    for run in (one, two):
        found = results(run)
        assert sum(found["counts"]["test"].values()) == 84
        assert found["provenance"]["device"].startswith("2 × ") == (run == two)
    for stage in ("generator", "synthetic", "classifier"):  # made by the sweep's first cell
        (record,) = (sweep / "artifacts" / stage).glob("*/artifact.json")
        assert json.loads(record.read_text())["device"] == "2 × CPU"
    for name, value in results(one)["metrics"].items():
        if name != "per_class":
            assert results(two)["metrics"][name] == pytest.approx(value, abs=1e-9)


def test_two_processes_draw_the_same_pool(sweep: Path, tmp_path: Path) -> None:
    artifacts = tmp_path / "artifacts"
    for stage in ("store", "generator"):
        shutil.copytree(sweep / "artifacts" / stage, artifacts / stage)
    in_process(tmp_path, artifacts, *CELL, "task=sample")
    pools = (next(p.glob("artifacts/synthetic/*/manifest.json")) for p in (sweep, tmp_path))
    one, two = (Store.open(pool.parent) for pool in pools)
    assert len(one) == 24
    assert one.sha256 == two.sha256


def test_checkpoint_is_chosen_by_both_processes_as_recorded(sweep: Path) -> None:
    (file,) = sweep.glob("artifacts/generator/*/generator.json")
    training = json.loads(file.read_text())["generator"]["training"]
    assert training["processes"] == 2
    checks = {check["step"]: check for check in training["selection"]["checks"]}
    assert list(checks) == [0, 2, 4, 6]
    best = min(list(checks.values())[1:], key=lambda check: np.log(check["heldout"]).mean())
    assert training["selection"]["step"] == best["step"]


def test_a_rank_that_is_killed_ends_the_other_with_one_sentence(
    sweep: Path, tmp_path: Path
) -> None:
    artifacts, log = tmp_path / "artifacts", tmp_path / "log"
    shutil.copytree(sweep / "artifacts" / "store", artifacts / "store")
    endless = ("classifier.steps=100000", "classifier.validate_every=100000")
    training = ("task=train_classifier", "augmentation=none", "trainer=ddp_cpu", *endless)
    overrides = tiny(artifacts, *training, "trainer.devices=2")
    with log.open("w") as file:
        both = subprocess.Popen(
            [sys.executable, "-m", "svp_lightning", *overrides],
            cwd=tmp_path, env=clean_environment(), stdout=file, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        log_of_attempt = "classifier/*.partial/logs/attempt_*"  # written once both are connected
        assert wait_until(lambda: any(artifacts.glob(log_of_attempt)), 120)
        children = Path(f"/proc/{both.pid}/task/{both.pid}/children").read_text().split()
        (other,) = (one for one in children if b"LOCAL_RANK=1" in environment(one))
        os.kill(int(other), signal.SIGKILL)
        assert both.wait(timeout=60) == 1
    finally:
        both.kill()
    said = [line for line in log.read_text().splitlines() if line.startswith("Error: ")]
    assert len(said) == 1, log.read_text()
    assert "Traceback" not in log.read_text()


def environment(process: str) -> bytes:
    return Path(f"/proc/{process}/environ").read_bytes()
