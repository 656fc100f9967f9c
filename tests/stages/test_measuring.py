"""What an evaluation measures and stores, from the command line to the files."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from svp_lightning.classifier.validation import Collector
from svp_lightning.data.classes import commonest
from svp_lightning.evaluation.predictions import read_predictions, read_resamples
from svp_lightning.evaluation.reference import read_reference
from svp_lightning.evaluation.schema import read_results
from tests.conftest import Program, only_run


def test_an_evaluation_leaves_everything_a_study_needs(svp: Program) -> None:
    svp("augmentation=none")
    run = svp.run
    results = read_results(run / "results.json")
    assert results.schema_version == 4
    validation = read_predictions(run / "val_predictions.parquet")
    assert len(validation.labels) == sum(results.counts.validation.values()) == 46
    tested = read_predictions(run / "predictions.parquet")
    assert not set(validation.ids) & set(tested.ids)
    shares = results.trained_shares
    assert shares == tested.shares == validation.shares
    assert shares == pytest.approx({n: c / 84 for n, c in results.counts.train.items()})
    assert results.prevalence == pytest.approx(
        {n: (1000 if n == "protein" else 1) / 1002 for n in shares}
    )
    corrected = tested.at(results.prevalence)
    found = corrected.tally().metrics(results.prevalence)
    assert results.metrics.macro_auprc == pytest.approx(found["macro_auprc"])
    assert (
        results.metrics.per_class["protein"].precision == found["per_class"]["protein"]["precision"]
    )
    as_trained = results.metrics_as_trained
    assert as_trained.macro_recall == pytest.approx(
        np.mean(tested.confusion().diagonal() / tested.confusion().sum(axis=1))
    )
    validation, tested = validation.at(results.prevalence), corrected
    # The thresholds are values that validation images took; the recall is that on test.
    for k, name in enumerate(results.class_names):
        point = results.working_points[name]
        if point.threshold is not None:
            assert np.isclose(validation.probabilities[:, k], point.threshold).any()
            called = tested.probabilities[:, k] >= point.threshold
            assert point.recall == pytest.approx(called[tested.labels == k].mean())
    as_given = read_predictions(run / "val_predictions.parquet")
    reference = read_reference(run / "reference.safetensors")
    assert reference is not None
    assert "reference.safetensors" in json.loads((run / "checksums.json").read_text())
    for k, name in enumerate(results.class_names):
        own = np.sort(as_given.probabilities[as_given.labels == k, k])
        np.testing.assert_allclose(reference.probability[name], own, atol=1e-5)
        assert len(reference.strangeness[name]) == results.counts.validation[name]
    assert {one.column for one in results.slices} == {"ecd_um", "defocus_um", "morphology"}
    assert results.size_definition == "equivalent circular diameter"
    assert results.calibration is not None
    assert set(results.costs) == {"classifier", "test"}
    assert results.costs["classifier"].cpu_seconds > 0
    redrawn = read_resamples(run / "bootstrap.parquet")
    assert redrawn is not None
    percentiles = {
        name: np.quantile(redrawn.of(name), [0.025, 0.975]) for name in ("macro_f1", "macro_auprc")
    }
    assert results.ci95.macro_f1 == pytest.approx(percentiles["macro_f1"])
    low, high = results.ci95.macro_auprc
    assert low <= percentiles["macro_auprc"][0] < percentiles["macro_auprc"][1] <= high
    assert pd.read_csv(run / "prevalence.csv")["ratio"].max() == 1000


def test_runs_on_one_test_set_are_paired_and_reported_so(svp: Program, tmp_path: Path) -> None:
    for seed in (1, 2):
        for method in ("none", "class_weights"):
            svp(f"augmentation={method}", f"seed={seed}", "study=pair")
    draws = {
        held.draw
        for file in tmp_path.glob("outputs/pair/*/bootstrap.parquet")
        if (held := read_resamples(file)) is not None
    }
    assert len(draws) == 1
    svp("task=report", "study=pair")
    table = pd.read_csv(tmp_path / "outputs" / "pair" / "differences.csv")
    assert table["p"].notna().any()
    assert len(pd.read_csv(tmp_path / "outputs" / "pair" / "runs.csv")) == 4


def test_prevalence_can_be_asked_for_later(svp: Program, tmp_path: Path) -> None:
    svp("augmentation=none")
    run = svp.run
    before = json.loads((run / "results.json").read_text())
    svp("task=prevalence", f"predict.run={run}", "evaluation.prevalence_ratios=[2.5,50]")
    assert pd.read_csv(run / "prevalence.csv")["ratio"].tolist() == [2.5, 50]
    assert "2.5 : 1" in (run / "report.html").read_text(encoding="utf-8")
    assert "50 : 1" in (run / "report.html").read_text(encoding="utf-8")
    assert "50 : 1" in svp.said()
    assert json.loads((run / "results.json").read_text()) == before
    svp("task=verify")  # it is made of recorded predictions, as reports are
    assert "has no predictions.parquet" in svp.fails("task=prevalence", f"predict.run={tmp_path}")


def test_the_class_most_common_in_use_is_varied() -> None:
    trained = {"protein": 2000, "silicone_oil": 5000, "air_bubble": 500}
    assert commonest(trained) == "silicone_oil"
    assert commonest(trained, {"protein": 998, "silicone_oil": 1, "air_bubble": 1}) == "protein"
    assert commonest(trained, dict.fromkeys(trained, 1.0)) == "silicone_oil"


def test_the_stated_prevalence_says_which_class_is_varied(svp: Program) -> None:
    stated = "data.prevalence={protein: 1, silicone_oil: 998, air_bubble: 1}"
    svp("augmentation=none", stated)  # most training images are of protein
    run = svp.run
    first = pd.read_csv(run / "prevalence.csv")
    assert set(first["common"]) == {"silicone_oil"}
    assert first["silicone_oil/precision"].is_monotonic_increasing
    svp("task=prevalence", f"predict.run={run}")
    pd.testing.assert_frame_equal(pd.read_csv(run / "prevalence.csv"), first)
    words = (run / "report.html").read_text(encoding="utf-8")
    assert "Silicone oil : each other class" in words


def test_whole_runs_can_be_redrawn(svp: Program, tmp_path: Path) -> None:
    svp("augmentation=none", "study=images")
    svp("augmentation=none", "evaluation.resample=groups", "study=groups")
    assert "runs. Below 10, intervals of redrawn runs hold the truth less often" in svp.said()
    a, b = (only_run(tmp_path / "outputs" / name) for name in ("images", "groups"))
    held = [read_resamples(run / "bootstrap.parquet") for run in (a, b)]
    assert held[0] is not None
    assert held[1] is not None
    assert held[0].draw != held[1].draw  # never paired with one another


def test_predictions_are_all_that_is_kept_of_a_batch() -> None:
    # 501,000 images stream through: what stays is 16 + 4 K bytes of each, never its pixels.
    collector = Collector(3)
    for start in range(0, 100, 10):
        index = torch.arange(start, start + 10)
        collector.add(index, index % 3, torch.full((10, 3), 1 / 3))
    held = sum(t.untyped_storage().nbytes() for part in collector._parts for t in part)
    assert held == 100 * (8 + 8 + 4 * 3)
