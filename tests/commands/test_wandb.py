"""W&B, ``metrics.csv`` and ``results.json`` hold the same numbers."""

import csv
import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import wandb
from wandb.proto.wandb_internal_pb2 import Record

from svp_lightning.classifier.module import ClassifierModule
from tests.conftest import Program, results

HEADER, BLOCK, RECORD_HEADER = 7, 32768, "<IHB"
WAIT_SECONDS = 60
LAST_PARTS = (1, 4)  # a whole record, or the last part of one


@pytest.fixture(autouse=True)
def a_service_of_its_own() -> Iterator[None]:
    """W&B's service keeps the folder and the variables of the test that has started it."""
    yield
    wandb.teardown()


def records(file: Path) -> Iterator[Record]:
    """What an offline run holds: protocol buffers in LevelDB's log format."""
    content, at, parts = file.read_bytes(), HEADER, b""
    head = struct.calcsize(RECORD_HEADER)
    while at + head <= len(content):
        left = BLOCK - at % BLOCK
        if left < head:
            at += left
            continue
        _, length, kind = struct.unpack_from(RECORD_HEADER, content, at)
        if at + head + length > len(content):  # W&B's service is writing it
            return
        parts += content[at + head : at + head + length]
        at += head + length
        if kind in LAST_PARTS:
            yield Record.FromString(parts)
            parts = b""


def wait_until_whole(file: Path) -> None:
    """W&B's service writes in the background, also after a run was finished."""
    for _ in range(WAIT_SECONDS):
        if "exit" in (record.WhichOneof("record_type") for record in records(file)):
            return
        time.sleep(1)
    pytest.fail(f"{file} was not finished within {WAIT_SECONDS} s")


def logged(file: Path) -> tuple[list[dict[str, Any]], dict[str, Any], Any]:
    """Every logged row, the configuration, and the run."""
    rows, config, run = [], {}, None
    for record in records(file):
        match record.WhichOneof("record_type"):
            case "history":
                items = record.history.item
                rows.append(
                    {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in items}
                )
            case "config":
                updates = record.config.update
                config |= {u.key or u.nested_key[0]: json.loads(u.value_json) for u in updates}
            case "run":
                run = record.run
    return rows, config, run


@pytest.mark.draws
def test_same_numbers_as_on_disk_and_a_run_of_its_own_for_each(
    svp: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    # Seed 77 is no other test's: curves are logged where training really happens.
    for seed in (1, 77):
        own = ("study=grid", f"seed={seed}", "classifier.validate_every=2")
        svp("augmentation=none", "logger=wandb", *own)
    files = sorted(tmp_path.glob("outputs/grid/*/wandb/offline-run-*/*.wandb"))
    folders = [file.parents[2] for file in files]
    assert len(set(folders)) == len(files) == 2
    assert len({file.name for file in files}) == 2  # which is the run's id
    file, folder = next((f, d) for f, d in zip(files, folders, strict=True) if "seed77" in d.name)
    assert list(file.parent.glob("files/media/images/figures/*.png"))
    assert list(file.parent.glob("files/media/table/test/*.json"))

    wait_until_whole(file)
    rows, config, run = logged(file)
    held = results(folder)
    assert run.run_group == "grid"
    assert (config["seed"], config["method"], config["ratio"]) == (77, "none", 0)
    assert config.keys() >= {"backbone", "rare_images", "experiment"}  # as the dashboard groups
    numbers = {name: value for row in rows for name, value in row.items()}
    metrics = held["metrics"].pop("per_class") | {"": held["metrics"]}
    bounds = held["ci95"].pop("per_class") | {"": held["ci95"]}
    for class_name, values in metrics.items():
        for metric, value in values.items():
            name = f"{class_name}/{metric}".lstrip("/")
            assert numbers[f"test/{name}"] == value
            low, high = bounds[class_name][metric]
            assert (numbers[f"ci95/{name}/low"], numbers[f"ci95/{name}/high"]) == (low, high)

    with (folder / "metrics.csv").open(newline="") as file:
        logged_rows = [row for row in csv.DictReader(file) if row["val/macro_auprc"]]
    scores = {int(row["step"]): float(row["val/macro_auprc"]) for row in logged_rows}
    score, step = "val/macro_auprc", "trainer/global_step"
    in_wandb = {row[step]: row[score] for row in rows if score in row}
    assert len(in_wandb) == 2
    assert in_wandb == scores


def test_a_resumed_run_continues_its_own_and_no_key_is_written(
    svp: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "5f" * 20
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_API_KEY", key)
    own = ("augmentation=none", "logger=wandb", "seed=78", "classifier.validate_every=1")
    end = ClassifierModule.on_train_batch_end

    def stopped(module: ClassifierModule, *given: Any) -> None:
        if module.global_step == 3:
            raise RuntimeError("power cut")
        end(module, *given)

    with monkeypatch.context() as patch:
        patch.setattr(ClassifierModule, "on_train_batch_end", stopped)
        with pytest.raises(RuntimeError, match="power cut"):
            svp(*own)
    svp(*own)
    files = sorted(tmp_path.glob("outputs/*/*/wandb/offline-run-*/*.wandb"))
    assert len(files) == 2
    attempts, statuses = [], []
    for file in files:
        wait_until_whole(file)
        attempts.append(logged(file))
        statuses += [
            r.exit.exit_code for r in records(file) if r.WhichOneof("record_type") == "exit"
        ]
    assert sorted(statuses) == [0, 1]  # the first failed
    assert len({run.run_id for _, _, run in attempts}) == 1
    assert all(run.resume for _, _, run in attempts)  # what `wandb sync` appends them by
    step, score = "trainer/global_step", "val/macro_auprc"
    steps = [[row[step] for row in rows if score in row] for rows, _, _ in attempts]
    assert steps == [[0, 1], [2, 3]]  # logged before the step is counted
    assert all(key.encode() not in f.read_bytes() for f in tmp_path.rglob("*") if f.is_file())
    printed = svp.captured.readouterr()
    assert key not in printed.out + printed.err
    assert "`resume` will be ignored" not in printed.err
