import pandas as pd
import pytest

from svp_lightning.report.inputs import predictions_of, read_results
from svp_lightning.report.run_findings import (
    PARTICLES,
    expected_counts,
    headline,
)
from svp_lightning.report.text import metric_name, percent, points, score

CLASSES = ("protein", "silicone_oil", "air_bubble")


def certain(folder, matrix):
    """Predictions with exactly this confusion matrix."""
    rows = []
    for given, counts in zip(CLASSES, matrix, strict=True):
        for predicted, n in zip(CLASSES, counts, strict=True):
            row = {"label": given} | {f"probability_{c}": float(c == predicted) for c in CLASSES}
            rows += [row] * n
    table = pd.DataFrame(rows)
    table.insert(0, "id", [str(i) for i in range(len(table))])
    table.to_parquet(folder / "predictions.parquet")
    run = read_results(folder)
    return run, predictions_of(run)


def test_expected_counts_at_a_prevalence(make_run):
    prevalence = {"protein": 998, "silicone_oil": 1, "air_bubble": 1}
    folder = make_run(change={"prevalence": prevalence})
    run, predicted = certain(folder, [[990, 10, 0], [5, 45, 0], [0, 0, 20]])
    rows = expected_counts(run, predicted)
    assert rows[0][1].expected == pytest.approx(0.01 * 0.998 * PARTICLES)
    assert rows[1][1].expected == pytest.approx(0.9 * 0.001 * PARTICLES)
    assert sum(one.expected for row in rows for one in row) == pytest.approx(PARTICLES)
    words = " ".join(headline(run, predicted))
    assert "about 998 protein particles" in words
    assert "would be counted as silicone oil, beside about 90 real silicone oil" in words


def test_rare_is_what_is_rare_in_use(make_run):
    """Oil has most training images here, and one particle of a thousand in use."""
    prevalence = {"protein": 998, "silicone_oil": 1, "air_bubble": 1}
    change = {"prevalence": prevalence, "rare_classes": ["protein", "air_bubble"]}
    run, predicted = certain(make_run(change=change), [[990, 10, 0], [5, 45, 0], [0, 0, 20]])
    words = " ".join(headline(run, predicted))
    assert "of the silicone oil images and" in words
    assert "would be counted as silicone oil, beside about 90 real silicone oil" in words


def test_no_error_seen_is_not_no_error(make_run):
    run, predicted = certain(make_run(), [[100, 0, 0], [0, 10, 0], [0, 0, 10]])
    words = " ".join(headline(run, predicted))
    assert "None of the 100 protein test images was counted as silicone oil" in words
    assert "still allows up to" in words


def test_precision_below_95_is_named(make_run):
    run = read_results(make_run())
    low = [name for name in CLASSES if run.estimate(f"{name}/precision").value < 0.95]
    assert low
    words = headline(run, None)[-1]
    assert words.startswith("Precision stays below 95 %")
    for name in low:
        assert name.replace("_", " ") in words
        assert score(run.estimate(f"{name}/precision").value) in words


def test_numbers_are_never_rounded_to_certainty():
    assert score(0.99996) == "0.99996"
    assert score(0.9999999) == "0.99999"
    assert score(1.0) == score(0.9999999999999998) == "1.000"
    assert score(None) == "–"
    assert percent(0.99999) == "99.999 %"
    assert percent(0.00004) == "0.004 %"
    assert percent(1.0) == "100 %"


def test_differences_are_signed_points():
    assert points(0.0134) == "+1.3"
    assert points(-0.0134) == "−1.3"
    assert points(0.0002) == "+0.02"
    assert points(0.0) == "0.0"


def test_metric_names():
    assert metric_name("macro_auprc") == "Macro AUPRC"
    assert metric_name("silicone_oil/auprc") == "Silicone oil AUPRC"
    assert metric_name("air_bubble/recall_at_precision_95") == "Air bubble recall at 95 % precision"
