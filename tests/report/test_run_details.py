import numpy as np
import pandas as pd
import pytest

from svp_lightning.errors import DataError
from svp_lightning.report.figures.prevalence import metrics_by_prevalence
from svp_lightning.report.html import run_report
from svp_lightning.report.inputs import read_results
from svp_lightning.report.run_details import slice_tables, threshold_rows
from svp_lightning.report.run_findings import headline
from svp_lightning.report.text import interval, with_interval

CLASSES = ("protein", "silicone_oil", "air_bubble")


def point(threshold):
    return {
        "threshold": threshold,
        "validation_precision": 0.96,
        "validation_recall": 0.81,
        "precision": 0.912,
        "recall": 0.77,
        "precision_ci95": [0.85, 0.95],
        "recall_ci95": [0.7, 0.83],
    }


def cut(column, name, class_name="protein", images=50):
    return {"column": column, "slice": name, "class": class_name, "images": images,
            "recall": 0.5, "ci95": [0.4, 0.6]}  # fmt: skip


@pytest.fixture
def detailed(make_run):
    bins = {name: [[0.2, 0.1, 0.6], [0.9, 0.95, 0.4]] for name in CLASSES}
    one = {"ece": 0.0321, "classwise_ece": 0.0123, "brier": 0.2, "reliability": bins}
    change = {
        "schema": 2,
        "working_points": {"protein": point(0.5), "silicone_oil": point(None)},
        "calibration": {"temperature": 1.7, "as_is": one, "scaled": one | {"ece": 0.01}},
        "slices": [cut("ecd_um", "10 to 25"), cut("ecd_um", "2 to 5", images=7),
                   cut("ecd_um", "2 to 5", "silicone_oil"), cut("morphology", "film")],
    }  # fmt: skip
    folder = make_run(change=change)
    metrics = {f"{c}/{m}": [0.9, 0.5] for c in CLASSES
               for m in ("precision", "recall_at_precision_95", "auprc")}  # fmt: skip
    pd.DataFrame({"ratio": [1, 1000]} | metrics).to_csv(folder / "prevalence.csv", index=False)
    return folder


def test_the_page_shows_what_schema_2_adds(detailed):
    words = run_report(detailed).read_text(encoding="utf-8")
    for part in ("none is precise enough", "0.912", "1,000 : 1", "0.0321", "task=prevalence",
                 "figure-reliability", "figure-prevalence", "n = 7"):  # fmt: skip
        assert part in words, part


def test_a_file_of_schema_1_has_none_of_it(make_run):
    words = run_report(make_run()).read_text(encoding="utf-8")
    for part in ("thresholds-table", "prevalence-table", "calibration-table", 'id="slices"'):
        assert part not in words


def test_tables_are_in_order_and_gaps_stay_gaps(detailed):
    run = read_results(detailed)
    sizes, kinds = slice_tables(run)
    assert [name for name, _ in sizes.rows] == ["2 to 5", "10 to 25"]
    assert sizes.rows[0][1][2] is None
    assert [name for name, _ in kinds.rows] == ["film"]
    rows = threshold_rows(run)
    assert [row.name for row in rows] == ["protein", "silicone_oil"]
    assert rows[0].best_on_test == run.estimate("protein/recall_at_precision_95")


def test_broken_prevalence_table(detailed):
    pd.DataFrame({"ratio": [1]}).to_csv(detailed / "prevalence.csv", index=False)
    with pytest.raises(DataError, match="protein/precision"):
        run_report(detailed)


@pytest.mark.parametrize(("named", "shown"), [(None, "protein"), ("air_bubble", "air bubble")])
def test_the_class_varied_is_named(detailed, named, shown):
    table = pd.read_csv(detailed / "prevalence.csv")  # of a version that did not name it
    if named is not None:
        table.assign(common=named).to_csv(detailed / "prevalence.csv", index=False)
    words = run_report(detailed).read_text(encoding="utf-8")
    assert f"At another prevalence of {shown}" in words
    assert f"{shown.capitalize()} : each other class" in words
    assert "Recall does not change" not in words


def test_the_axis_names_the_class_varied(detailed):
    table = pd.read_csv(detailed / "prevalence.csv")
    figure = metrics_by_prevalence(table, CLASSES, "air_bubble")
    assert {axes.get_xlabel() for axes in figure.axes} == {"Air bubble : each other class"}


def claim(folder):
    return headline(read_results(folder), None)[-1]


def precise(make_run, low, name):
    """A run whose precision is perfect, its interval from ``low``."""
    from .conftest import results

    values = results()
    for own, ci in zip(values["metrics"]["per_class"].values(),
                       values["ci95"]["per_class"].values(), strict=True):  # fmt: skip
        own["precision"], ci["precision"] = 1.0, [low, 1.0]
    return make_run(name, change={part: values[part] for part in ("metrics", "ci95")})


def test_a_perfect_small_test_set_claims_nothing(make_run):
    collapsed = claim(precise(make_run, 1.0, "a"))
    assert "too few" in collapsed
    assert "interval not known" in collapsed
    wide = claim(precise(make_run, 0.7, "b"))
    assert "too few" in wide
    assert "from 0.700" in wide
    sure = claim(precise(make_run, 0.97, "c"))
    assert sure == "Precision is at least 95 % for every class, intervals included."


def test_a_collapsed_interval_is_named_as_such(make_run):
    run = read_results(precise(make_run, 1.0, "a"))
    one = run.estimate("protein/precision")
    assert interval(one) == "too few images for an interval"
    assert with_interval(one) == "1.000"
    assert np.isclose(one.low, one.high)
