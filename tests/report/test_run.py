"""The page of one run, and what any page must be."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from svp_lightning.errors import SvpError
from svp_lightning.evaluation.counting import CLASS_METRICS, MACRO_METRICS, SUPPORTED
from svp_lightning.evaluation.predictions import Predictions
from svp_lightning.evaluation.schema import Estimate, Results
from svp_lightning.report.figures.diagnostics import metrics_by_prevalence
from svp_lightning.report.figures.sheets import contact_sheet
from svp_lightning.report.run import run_report, slice_tables
from svp_lightning.report.run_findings import PARTICLES, brevity, expected_counts, headline
from svp_lightning.report.study import study_report
from svp_lightning.report.study_runs import read_run
from svp_lightning.report.style import save_figure
from svp_lightning.report.text import (
    interval,
    metric_name,
    percent,
    points,
    score,
    share,
    with_interval,
)
from svp_lightning.stages.run_outputs import summary

from .made_up import CLASSES, IN_USE, made_up_results
from .pages import Page

REPORTS = {"run": run_report, "study": study_report}
STATED = {"prevalence": IN_USE, "prevalence_stated": True}


@pytest.fixture
def run_dir(make_run):
    folder = make_run(with_predictions=True, change=STATED)
    tiles = np.full((4, 16, 16), 90, np.uint8)
    sheet = contact_sheet({"Real": tiles, "Generated": tiles}, pixel_size_um=0.5)
    save_figure(sheet, folder / "figures" / "contact_sheet_silicone_oil.png")
    return folder


@pytest.fixture
def study_dir(make_run):
    folder = make_run("control", ratio=0.0, auprc=0.80)
    make_run("treated", ratio=1.0, auprc=0.81)
    return folder.parent


@pytest.mark.parametrize("kind", ["run", "study"])
def test_pages_need_no_network(kind, request):
    page = Page(REPORTS[kind](request.getfixturevalue(f"{kind}_dir")))
    text = re.sub(r"base64,[^\"]*", "", page.text)
    assert not re.search(r"(https?:)?//[a-z0-9]", text, re.I)
    for tag, name, value in page.attributes:
        if name in ("src", "href", "srcset", "action", "data"):
            local = value.startswith(("#", "data:")) or (tag == "a" and ":" not in value)
            assert local, (tag, value[:80])
    assert "Content-Security-Policy" in page.values("meta", "http-equiv")
    assert not {"iframe", "object", "embed", "form"} & set(page.tags)


@pytest.mark.parametrize("kind", ["run", "study"])
def test_pages_are_deterministic(kind, request, tmp_path):
    report, folder = REPORTS[kind], request.getfixturevalue(f"{kind}_dir")
    copy = tmp_path / "elsewhere" / folder.name
    shutil.copytree(folder, copy)
    first = report(folder).read_bytes()
    assert report(folder).read_bytes() == first
    assert report(copy).read_bytes() == first


@pytest.mark.parametrize("report", [run_report, study_report])
def test_one_clear_error_and_nothing_written(report, make_run, tmp_path):
    folder = make_run()
    (folder / "results.json").write_text("{")
    target = folder if report is run_report else folder.parent
    before = sorted(folder.parent.rglob("*"))
    with pytest.raises(SvpError, match=r"results\.json"):
        report(target)
    assert sorted(folder.parent.rglob("*")) == before
    with pytest.raises(SvpError, match="no folder"):
        report(tmp_path / "nowhere")


def test_every_number_of_the_metric_tables_is_that_of_the_results(run_dir):
    page = Page(run_report(run_dir))
    values = json.loads((run_dir / "results.json").read_text())["metrics"]
    per_class = [values["per_class"][c][m] for c in CLASSES for m in CLASS_METRICS]
    overall = [values[name] for name in MACRO_METRICS]
    for table, expected in (("class-metrics", per_class), ("overall-metrics", overall)):
        assert [float(value) for value, _ in page.cells[table]] == expected
        assert [shown for _, shown in page.cells[table]] == [score(v) for v in expected]


def test_run_page_draws_what_is_missing_and_keeps_what_is_there(run_dir):
    page = Page(run_report(run_dir))
    assert set(page.values("figure", "id")) == {
        "figure-precision_recall", "figure-precision_recall_log", "figure-confusion",
        "figure-reliability", "figure-contact_sheet_silicone_oil",
    }  # fmt: skip
    assert all(page.values("img", "alt"))
    figure = run_dir / "figures" / "confusion.png"
    other = (run_dir / "figures" / "precision_recall.png").read_bytes()
    figure.write_bytes(other)
    run_report(run_dir)
    assert figure.read_bytes() == other


def test_run_page_without_predictions(make_run):
    page = Page(run_report(make_run()))
    assert "in-use" not in page.text
    assert page.values("figure", "id") == ["figure-reliability"]
    assert "python -m svp_lightning seed=1" in page.words


def test_names_are_escaped(make_run):
    names = ("protein", "<script src=a.js>")
    assert "<script src" not in Page(run_report(make_run(class_names=names))).text.lower()


def cut(column, name, class_name="protein", images=50):
    return {"column": column, "slice": name, "class": class_name, "images": images,
            "recall": 0.5, "ci95": [0.4, 0.6]}  # fmt: skip


@pytest.fixture
def detailed(make_run):
    change = {
        "slices": [cut("ecd_um", "10 to 25"), cut("ecd_um", "2 to 5", images=7),
                   cut("ecd_um", "2 to 5", "silicone_oil"), cut("morphology", "large_bubble")],
        "size_definition": "ESD diameter (vendor)",
    }  # fmt: skip
    folder = make_run(change=change)
    file = folder / "results.json"
    values = json.loads(file.read_text())
    values["working_points"]["silicone_oil"] |= {"threshold": None}
    values["calibration"]["biases"]["protein"] = -0.09
    file.write_text(json.dumps(values))
    metrics = {f"{c}/{m}": [0.9, 0.5] for c in CLASSES for m in CLASS_METRICS}
    metrics |= {f"{c}/{SUPPORTED}": [True, c == "air_bubble"] for c in CLASSES}
    table = pd.DataFrame({"ratio": [1, 1000], "common": "air_bubble"} | metrics)
    table.to_csv(folder / "prevalence.csv", index=False)
    return folder


def test_the_page_shows_thresholds_slices_prevalence_and_calibration(detailed):
    page = Page(run_report(detailed))
    for part in ("none is precise enough", "0.930", "1,000 : 1", "0.0321", "task=prevalence",
                 "n = 7", "At another prevalence of air bubble",
                 "Size (µm): ESD diameter (vendor)", "large bubble", "−0.09"):  # fmt: skip
        assert part in page.words, part
    tables = [name for name in page.values("div", "class") if name.split()[0] == "scroll"]
    assert page.values("div", "tabindex") == ["0"] * len(tables)  # all scroll in a narrow window
    assert {"figure-reliability", "figure-prevalence"} <= set(page.values("figure", "id"))


def test_bins_are_in_order_and_gaps_stay_gaps(detailed):
    results = read_run(detailed).results
    (_, sizes), (_, kinds) = slice_tables(results)
    assert [name for name, _ in sizes] == ["2 to 5", "10 to 25"]
    assert sizes[0][1][2] is None
    assert [name for name, _ in kinds] == ["large bubble"]


def test_recall_beyond_the_test_images_is_marked(detailed):
    page = Page(run_report(detailed))
    assert page.text.count("<span>*</span>") == 2 + len(read_run(detailed).results.out_of_reach)
    assert "Too few test images" in page.words
    figure = metrics_by_prevalence(pd.read_csv(detailed / "prevalence.csv"), CLASSES, "air_bubble")
    assert {axes.get_xlabel() for axes in figure.axes} == {"Air bubble : each other class"}
    hollow = [line for line in figure.axes[1].lines if line.get_markerfacecolor() == "white"]
    assert [line.get_xdata().tolist() for line in hollow] == [[1000], [1000]]


def test_broken_prevalence_table(detailed):
    pd.DataFrame({"ratio": [1]}).to_csv(detailed / "prevalence.csv", index=False)
    with pytest.raises(SvpError, match="protein/precision"):
        run_report(detailed)


def certain(matrix, **change):
    """A run and predictions with exactly this confusion matrix."""
    matrix = np.array(matrix)
    labels = np.repeat(np.arange(3), matrix.sum(axis=1))
    predicted = np.concatenate([np.repeat(np.arange(3), row) for row in matrix])
    p = np.eye(3, dtype=np.float32)[predicted]
    results = Results.model_validate(made_up_results() | change)
    shares = results.prevalence
    return results, Predictions(np.empty(0, object), labels, p, CLASSES, shares)


def test_expected_counts_at_a_prevalence():
    results, predicted = certain([[990, 10, 0], [5, 45, 0], [0, 0, 20]], **STATED)
    rows = expected_counts(results, predicted)
    assert rows[0][1].expected == pytest.approx(0.01 * 0.998 * PARTICLES)
    assert rows[1][1].expected == pytest.approx(0.9 * 0.001 * PARTICLES)
    assert sum(one.expected for row in rows for one in row) == pytest.approx(PARTICLES)
    assert all(one.low <= one.expected <= one.high for row in rows for one in row)
    words = " ".join(headline(results, predicted))
    assert "About 998" in words
    assert "with 90 real ones" in words


def test_rare_is_what_is_rare_in_use():
    """Whatever had few training images."""
    rare = {"rare_classes": ["protein", "air_bubble"]}
    words = headline(*certain([[990, 10, 0], [5, 45, 0], [0, 0, 20]], **STATED, **rare))[0]
    assert "silicone oil" in words
    assert "protein" not in words


def test_no_error_seen_is_not_no_error():
    words = " ".join(headline(*certain([[100, 0, 0], [0, 10, 0], [0, 0, 10]])))
    assert "No protein test image was counted as silicone oil" in words
    assert "95 % bound" in words


@pytest.mark.parametrize(
    ("passes", "said"), [(0.05, True), (9.96, True), (10, False), (None, False)]
)
def test_a_short_training_is_said(make_run, passes, said):
    facts = made_up_results()
    images = sum(facts["counts"]["train"].values()) + sum(facts["counts"]["synthetic"].values())
    drawn = None if passes is None else round(passes * images)
    change = {"provenance": facts["provenance"] | {"training_images_drawn": drawn}}
    folder = make_run(change=change)
    run_report(folder)
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert ("train longer" in page) == said
    results = read_run(folder).results
    assert ("train longer" in summary(results, folder)) == said
    assert all(f"{min(passes, 9.9):.2g} times" in sentence for sentence in brevity(results))


def test_the_terminal_names_the_prevalence(make_run):
    stated, own = (
        read_run(make_run(f"r{n}", change=c)).results for n, c in enumerate((STATED, {}))
    )
    assert "weighted to the stated prevalence: 99.8 % protein" in summary(stated, Path())
    assert "as they are: " in summary(own, Path())


@pytest.mark.parametrize(
    ("precision", "low", "said"),
    [(0.9, 0.7, "below 95 %"), (1.0, 0.7, "too few test images"), (1.0, 0.97, "every class")],
)
def test_what_is_said_of_precision(precision, low, said):
    values = made_up_results()
    for part, value in (("metrics", precision), ("ci95", [low, 1.0])):
        for own in values[part]["per_class"].values():
            own["precision"] = value
    words = headline(Results.model_validate(values), None)[-1]
    assert said in words
    named = [name in words for name in ("protein", "silicone oil", "air bubble")]
    assert named == [said != "every class"] * 3


COLLAPSED = Estimate(1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (score(0.99996, 4), "> 0.9999"),
        (score(0.99949), "0.999"),
        (score(0.99951), "> 0.999"),
        (score(0.9999999999999998), "1.000"),
        (score(None), "–"),
        (percent(0.99999), "99.999 %"),
        (percent(0.00004), "0.004 %"),
        (percent(1.0), "100 %"),
        (points(0.0134), "+1.3"),
        (points(-0.0134), "−1.3"),
        (points(0.0002), "+0.02"),
        (points(0.0002, most=1), "0.0"),
        (share(Estimate(0.451, -0.1, 1.2)), "45 % (−10 % to 120 %)"),
        (share(Estimate(None)), "–"),
        (interval(COLLAPSED), "too few images for an interval"),
        (with_interval(COLLAPSED), "1.000"),
        (metric_name("silicone_oil/auprc"), "Silicone oil AUPRC"),
        (metric_name("air_bubble/recall_at_precision_95"), "Air bubble recall at 95 % precision"),
    ],
)
def test_numbers_are_signed_and_never_rounded_to_certainty(shown, expected):
    assert shown == expected
