"""The commands other than evaluate."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from svp_lightning.commands import audit
from svp_lightning.evaluation.schema import read_results
from svp_lightning.report.figures.sheets import worst_mistakes
from tests.conftest import only_run
from tests.data.importers.test_flowcam_facts import write_blank

Svp = Callable[..., None]


def test_ingest_prints_what_the_store_holds(svp: Svp, capsys: pytest.CaptureFixture[str]) -> None:
    svp("task=ingest")
    out = " ".join(capsys.readouterr().out.split())
    assert "214 images of 16 × 16 px" in out
    assert "Silicone oil │ 32 │ 12 │ 8 │ 12 │" in out  # all, train, val, test


def test_predict_counts_every_particle(
    svp: Svp, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    svp("augmentation=none")
    run = only_run(tmp_path / "outputs")
    capsys.readouterr()
    svp("task=predict", f"predict.run={run}", "study=mine", "data.seed=3")
    recall = read_results(run / "results.json").metrics.per_class["protein"].recall
    assert f"recall and precision are Protein {recall:.0%}" in capsys.readouterr().out
    (folder,) = (tmp_path / "outputs" / "mine").iterdir()
    table = pd.read_csv(folder / "counts.csv")
    assert (table["size_definition"] == "equivalent circular diameter").all()
    counts = table[(table["group"] == "all groups") & (table["min_size_um"] == 0)]
    assert counts["class"].tolist() == ["protein", "silicone_oil", "air_bubble", "uncertain", "all"]
    assert counts["count"].iloc[:-1].sum() == counts["count"].iloc[-1] == 214
    predictions = pd.read_csv(folder / "predictions.csv")
    assert len(predictions) == 214
    uncertain = int(predictions["uncertain"].sum())
    assert counts.set_index("class").loc["uncertain", "count"] == uncertain
    # Files and folder name the classifier that was used, not the one of the default settings.
    assert folder.name.startswith(f"predict_{run.name}_")
    assert (folder / "classifier_config.yaml").read_text() == (run / "config.yaml").read_text()
    assert str(run) in (folder / "config.yaml").read_text()
    assert "diffusion" not in (folder / "config.yaml").read_text()

    write_blank(tmp_path / "blank")  # water is a result
    capsys.readouterr()
    blank = ("data=flowcam", f"data.root={tmp_path / 'blank'}", "study=blank")
    svp("task=predict", f"predict.run={run}", *blank)
    assert "the 95 % interval of the expected count is 0 to 3.69" in capsys.readouterr().out
    (file,) = tmp_path.glob("outputs/blank/*/counts.csv")
    row = pd.read_csv(file).set_index(["run", "min_size_um", "class"]).loc[("water", 10, "all")]
    assert row[["count", "per_ml"]].tolist() == [0, 0]
    assert row["per_ml_high"] == pytest.approx(3.68888 / 0.0174, rel=1e-5)


def test_audit_lists_suspects_by_id(svp: Svp, tmp_path: Path) -> None:
    svp("task=audit", "augmentation=none")
    (issues,) = tmp_path.glob("outputs/*/*/label_issues.csv")
    table = pd.read_csv(issues)
    assert (table["given"] != table["suggested"]).all()
    assert table["self_confidence"].is_monotonic_increasing


def test_audit_is_compared_with_injected_flips(
    svp: Svp,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    captions: list[float] = []

    def watched(images: Any, given: Any, suggested: Any, probability: Any, names: Any) -> Figure:
        captions.extend(probability)
        return worst_mistakes(images, given, suggested, probability, names)

    monkeypatch.setattr(audit, "worst_mistakes", watched)
    svp("task=audit", "augmentation=none", "data.simulation.label_noise.rate=0.3")
    out = capsys.readouterr().out
    assert "val labels" in out
    flips = re.search(r"(\d+) of them are among the (\d+) labels", out)
    assert flips is not None
    (issues,) = tmp_path.glob("outputs/*/*/label_issues.csv")
    table = pd.read_csv(issues)
    assert int(flips[1]) == table["label_flipped"].sum() > 0
    np.testing.assert_allclose(captions, table["suggested_probability"][: audit.SHOWN])
    # With three classes or more another one has its part of what is left.
    assert (table["self_confidence"] + table["suggested_probability"] < 1).all()


def test_doctor_names_what_it_found(svp: Svp, capsys: pytest.CaptureFixture[str]) -> None:
    svp("task=doctor")
    out = capsys.readouterr().out
    for word in ("torch", "GPUs", "for training, ", "for tests", "paths.artifacts", "W&B"):
        assert word in out
