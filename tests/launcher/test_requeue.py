"""A job of the real program that is preempted while it trains, in submitit's local mode."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from svp_lightning.__main__ import configured
from svp_lightning.classifier.validation import BEST
from svp_lightning.pipeline import Pipeline
from svp_lightning.stages.classifier_training import RECORD
from tests.commands.test_sweep import NOTES_WHO_HASHES
from tests.conftest import clean_environment, tiny
from tests.launcher.test_stopping import wait_until

TRAINING = ("task=train_classifier", "augmentation=none", "classifier=resnet18_quarter",
            "classifier.steps=8", "classifier.validate_every=2")  # fmt: skip
STEP = 7
"""At which the job is preempted; its last checkpoint is that of step 6."""
JOB = ("-m", "hydra/launcher=slurm", "hydra.launcher.cluster=local",
       "hydra.launcher.gpus_per_node=1")  # fmt: skip


def test_a_preempted_training_goes_on_from_its_checkpoint_to_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("submitit", reason="needs the extra slurm")
    monkeypatch.chdir(tmp_path)
    whole = Pipeline(configured(*tiny(tmp_path / "whole", *TRAINING)), tmp_path / "run").classifier

    artifacts, paused = tmp_path / "artifacts", tmp_path / "paused"
    shutil.copytree(tmp_path / "whole" / "store", artifacts / "store")
    pause = "+callbacks.pause={_target_:tests.launcher.paused.PauseOnce," + (
        f"step:{STEP},file:{paused}}}"
    )
    (tmp_path / "sitecustomize.py").write_text(NOTES_WHO_HASHES)
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])
    sweep = subprocess.Popen(
        [sys.executable, "-m", "svp_lightning", *JOB, *tiny(artifacts, *TRAINING), pause],
        env=clean_environment() | {"PYTHONPATH": path, "HASHED": str(tmp_path / "hashed.txt")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert wait_until(lambda: paused.exists() or sweep.poll() is not None, 300)
    assert sweep.poll() is None, sweep.communicate()
    cell = int(paused.read_text())
    job = int(Path(f"/proc/{cell}/stat").read_text().rpartition(")")[2].split()[1])
    for process in (cell, job):  # SLURM warns all processes of a job
        os.kill(process, signal.SIGUSR2)
    _, errors = sweep.communicate(timeout=300)
    assert sweep.returncode == 0, errors

    (log,) = tmp_path.glob("outputs/*/logs/*.log")
    said = log.read_text()
    assert said.count("Building classifier") == said.count("Resuming classifier") == 1, said
    assert said.count(f"Continues after step {STEP - 1}") == 1
    resumed = artifacts / "classifier" / whole.name
    weights = [torch.load(f / BEST, weights_only=True)["state_dict"] for f in (whole, resumed)]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    records = [json.loads((folder / RECORD).read_text()) for folder in (whole, resumed)]
    assert records[0] == records[1]
    # The second job knows the hashes that the first has read.
    hashed = [line.split() for line in (tmp_path / "hashed.txt").read_text().splitlines()]
    assert len({process for process, file in hashed if "/store/" in file}) == 1
