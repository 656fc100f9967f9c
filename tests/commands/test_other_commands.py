"""The commands other than evaluate."""

import json
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx2
import pandas as pd
import pytest

from svp_lightning.commands.doctor import _folder
from svp_lightning.evaluation.schema import read_results
from svp_lightning.stages.run_folder import OVERRIDES
from tests.conftest import Program, clean_environment
from tests.data.importers.made_runs import write_blank


def test_ingest_prints_what_the_store_holds(svp: Program) -> None:
    svp("task=ingest")
    out = svp.said()
    assert "214 images of 16 × 16 px" in out
    assert "Silicone oil │ 32 │ 12 │ 8 │ 12 │" in out  # all, train, val, test


def test_predict_counts_every_particle(svp: Program, tmp_path: Path) -> None:
    svp("augmentation=none")
    run = svp.run
    svp.said()
    svp("task=predict", f"predict.run={run}", "study=mine", "data.seed=3")
    recall = read_results(run / "results.json").metrics.per_class["protein"].recall
    out = svp.said()
    assert f"recall and precision are Protein {recall:.0%}" in out
    assert "(estimated from these images)" in out
    (folder,) = (tmp_path / "outputs" / "mine").iterdir()
    table = pd.read_csv(folder / "counts.csv")
    assert (table["size_definition"] == "equivalent circular diameter").all()
    counts = table[(table["group"] == "all groups") & (table["min_size_um"] == 0)]
    assert counts["class"].tolist() == [
        "protein", "silicone_oil", "air_bubble", "uncertain", "unfamiliar", "all",
    ]  # fmt: skip
    assert counts["count"].iloc[:-1].sum() == counts["count"].iloc[-1] == 214
    predictions = pd.read_csv(folder / "predictions.csv")
    assert len(predictions) == 214
    of = counts.set_index("class")["count"]
    assert of["unfamiliar"] == predictions["unfamiliar"].sum()
    assert of["uncertain"] == (predictions["uncertain"] & ~predictions["unfamiliar"]).sum()
    # Sets hold the counted class; 8 validation images of a rare class promise 8 of 9.
    assert all(p in held.split("|") for p, held in predictions[["predicted", "set"]].to_numpy())
    assert "8 validation images of Air bubble are too few for a coverage of 95 %" in out
    assert "its sets hold 88.9 % at least" in out
    # Files and folder name the classifier that was used, not the one of the default settings.
    assert folder.name.startswith(f"predict_{run.name}_")
    assert (folder / "classifier_config.yaml").read_text() == (run / "config.yaml").read_text()
    assert str(run) in (folder / "config.yaml").read_text()
    assert "diffusion" not in (folder / "config.yaml").read_text()

    write_blank(tmp_path / "blank")  # water is a result
    svp.said()
    blank = ("data=flowcam", f"data.root={tmp_path / 'blank'}", "study=blank")
    svp("task=predict", f"predict.run={run}", *blank)
    assert "the 95 % interval of the expected count is 0 to 3.69" in svp.said()
    (file,) = tmp_path.glob("outputs/blank/*/counts.csv")
    row = pd.read_csv(file).set_index(["run", "min_size_um", "class"]).loc[("water", 10, "all")]
    assert row[["count", "per_ml"]].tolist() == [0, 0]
    assert row["per_ml_high"] == pytest.approx(3.68888 / 0.0174, rel=1e-5)


def test_an_exported_classifier_predicts_as_its_run_does_and_the_released_one_without_a_setting(
    svp: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    svp("augmentation=none")
    run, packaged = svp.run, tmp_path / "packaged"
    svp("task=export", f"export.classifier={run}", "export.onnx=false", f"export.to={packaged}")
    svp("task=predict", f"predict.run={run}", "study=run", "data.seed=3")
    svp("task=predict", f"predict.run={packaged}", "study=packaged", "data.seed=3")
    monkeypatch.setattr("svp_lightning.stages.run_folder.RELEASED", packaged)
    svp.said()
    svp("task=predict", "study=released", "data.seed=3")
    assert "the released classifier packaged is used" in svp.said()
    files = [next(tmp_path.glob(f"outputs/{s}/*/predictions.csv")) for s in ("run", "packaged")]
    files += tmp_path.glob("outputs/released/*/predictions.csv")
    assert len({file.read_text() for file in files}) == 1 < len(files)


def test_audit_ranks_every_label_and_corrections_are_trained_on(
    svp: Program, tmp_path: Path
) -> None:
    svp("task=audit", "augmentation=none", "data.simulation.label_noise.rate=0.3")
    (folder,) = tmp_path.glob("outputs/default/audit_*")
    assert (folder / "label_gallery.html").is_file()
    table = pd.read_csv(folder / "label_issues.csv")
    assert len(table) == table["id"].nunique() == 214
    assert set(table["split"]) == {"train", "val", "test"}
    assert (table["given"] != table["suggested"]).all()
    flips, listed = table["label_flipped"], table["confident"]
    said = svp.said()
    assert f"{listed.sum()} of 214 labels" in said
    assert f"{flips.sum()} labels were flipped on purpose: {(flips & listed).sum()} of" in said
    assert said.count("Building classifier") == 5  # a classifier for each fold

    row = table[table["split"] == "train"].iloc[0]
    (tmp_path / "labels.csv").write_text(f"id,label\n{row['id']},{row['suggested']}\n")
    noise = "data.simulation.label_noise.rate=0.3"
    svp("augmentation=none", noise, f"data.label_overrides={tmp_path / 'labels.csv'}")
    assert (svp.run / OVERRIDES).read_text() == (tmp_path / "labels.csv").read_text()
    assert OVERRIDES in json.loads((svp.run / "checksums.json").read_text())
    counts = read_results(svp.run / "results.json").counts.train
    given = (table.loc[table["split"] == "train", "given"]).value_counts()
    assert counts[row["suggested"]] == given[row["suggested"]] + 1
    assert counts[row["given"]] == given[row["given"]] - 1


@pytest.mark.parametrize("arm", ["diffusion", "oracle", "hard_negatives"])
def test_audit_with_added_images_has_enough_for_every_fold(
    svp: Program, tmp_path: Path, arm: str
) -> None:
    svp("task=audit", f"augmentation={arm}", "augmentation.ratio=2")
    assert len(list(tmp_path.glob("outputs/default/audit_*/label_gallery.html"))) == 1


def test_verify_finds_a_changed_result_of_any_task(svp: Program, tmp_path: Path) -> None:
    svp("augmentation=none")
    run = svp.run
    svp("task=predict", f"predict.run={run}", "study=mine", "data.seed=3")
    svp.said()
    svp("task=verify")
    assert "2 lines, unbroken" in svp.said()
    (file,) = tmp_path.glob("outputs/mine/*/counts.csv")
    file.write_text(file.read_text().replace("protein", "silicone_oil", 1))
    assert "since they were recorded: 1, the first" in svp.fails("task=verify")


def test_doctor_names_what_it_found(svp: Program, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    assert "NOT WRITABLE, the link link leads nowhere" in _folder(Path("link/below"))
    assert "(NOT WRITABLE, " in _folder(Path("/proc/below"))
    assert "(writable, " in _folder(Path("new"))
    svp("task=doctor")
    out = svp.said()
    for word in ("torch", "GPUs", "for training, ", "for tests", "paths.artifacts", "W&B"):
        assert word in out


def test_serve_answers_until_its_terminal_is_closed(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "svp_lightning", "task=serve", "serve.port=0"]
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as server:
        try:
            assert server.stdout is not None
            address = next(filter(None, (re.search(r"http://\S+", line) for line in server.stdout)))
            page = httpx2.get(address[0])
            assert page.status_code == 200
            assert "<html" in page.text
            server.send_signal(signal.SIGHUP)
            last = server.stdout.read()
            assert "uploads are removed" in last
            assert "Traceback" not in last
            assert server.wait(timeout=30) == 0
        finally:
            server.kill()


def test_serve_refuses_an_address_it_cannot_or_should_not_use(svp: Program) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = svp.fails("task=serve", f"serve.port={port}")
        assert f"cannot listen on 127.0.0.1:{port} (Address already in use)." in said
    assert "every network" in svp.fails("task=serve", "serve.port=0", "serve.host=0.0.0.0")
