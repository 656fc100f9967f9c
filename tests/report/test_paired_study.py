"""A study judged on its runs' redrawn test sets, from files to page."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from svp_lightning.evaluation.comparison import paired_over_seeds
from svp_lightning.evaluation.predictions import read_resamples, write_resamples
from svp_lightning.report.costs import cost_rows, study_total
from svp_lightning.report.figures.augmentation import augmentation_effect
from svp_lightning.report.html import run_report, study_report
from svp_lightning.report.inputs import read_study
from svp_lightning.report.study import control_of, group_runs, judge_by_intervals
from svp_lightning.report.study_findings import (
    caveats,
    compare_cells,
    study_headline,
    verdict_sentence,
)
from svp_lightning.report.study_page import effect_points
from svp_lightning.report.text import score
from svp_lightning.tasks import judge
from svp_lightning.tasks.judge import paired_judge

from .made_up import NAMES, TEST, made_up_study

SMALL = (("none", 0.0), ("duplicate", 1.0), ("diffusion", 1.0))


@pytest.fixture
def small(tmp_path):
    return made_up_study(tmp_path / "made_up", arms=SMALL, backbones=("resnet18",))


def compared(folder, metric="macro_auprc", judge=None):
    groups = group_runs(read_study(folder))
    return groups, compare_cells(groups, [metric], judge or paired_judge())


def by_arms(comparisons):
    return {(c.group.cell.method, c.reference.cell.method): c for c in comparisons}


def test_pairing_is_sharper_than_separate_intervals(small):
    _, paired = compared(small)
    _, apart = compared(small, judge=judge_by_intervals)
    a, b = (by_arms(c)["diffusion", "none"].differences[0] for c in (paired, apart))
    assert a.value == pytest.approx(b.value)
    assert a.high - a.low < 0.8 * (b.high - b.low)
    assert a.verdict == "higher"
    assert a.low < 0.03 < a.high
    assert 0 < a.error_reduction < 1


def test_the_sentences_follow_the_numbers(small):
    groups, comparisons = compared(small)
    found = by_arms(comparisons)
    higher = verdict_sentence(found["diffusion", "none"])
    assert "higher than the control" in higher
    assert "after correction for 2 comparisons" in higher
    assert "no detectable difference" in verdict_sentence(found["duplicate", "none"])
    assert "better in 1 of 1 comparisons" in " ".join(study_headline(groups, comparisons))


def test_one_training_is_called_one_training(tmp_path):
    arms = (("none", 0.0), ("diffusion", 1.0))
    folder = made_up_study(tmp_path / "s", arms=arms, backbones=("resnet18",), seeds=(1,))
    _, (one,) = compared(folder)
    assert one.differences[0].verdict == "higher"
    assert "another seed may differ" in verdict_sentence(one)
    words = study_report(folder, paired_judge()).read_text(encoding="utf-8")
    assert "One seed only" in words


def test_no_gain_is_no_finding(tmp_path):
    arms = (("none", 0.0), ("diffusion", 1.0), ("diffusion", 2.0))
    folder = made_up_study(tmp_path / "s", arms=arms, backbones=("resnet18",), gain=0.0)
    groups, comparisons = compared(folder)
    assert {c.differences[0].verdict for c in comparisons} == {"no detectable difference"}
    assert "without a detectable difference" in study_headline(groups, comparisons)[0]


@pytest.mark.parametrize(("drawn", "told"), [(40_000, True), (400_000, False), ("many", False)])
def test_a_short_training_is_told(small, drawn, told):
    """12,000 training images: seen 3.3 or 33 times."""
    for file in small.glob("*/results.json"):
        facts = json.loads(file.read_text())
        facts["provenance"]["training_images_drawn"] = drawn
        file.write_text(json.dumps(facts))
    notes = " ".join(caveats(*compared(small)))
    assert ("3.3 times" in notes) == told
    assert ("train longer" in notes) == told


def test_what_has_a_control_is_judged_beside_what_has_none(tmp_path):
    folder = made_up_study(tmp_path / "s", arms=SMALL, seeds=(1,))
    for run in folder.glob("resnet50_none*"):
        shutil.rmtree(run)
    told = study_headline(*compared(folder))
    assert "of the 2 cells" in told[0]
    assert "ResNet-50, diffusion 1×; ResNet-50, duplicates 1×" in " ".join(told)


def test_correction_is_for_one_kind_of_control(small):
    _, comparisons = compared(small)
    counts = {key: c.differences[0].compared for key, c in by_arms(comparisons).items()}
    assert counts == {("diffusion", "none"): 2, ("duplicate", "none"): 2,
                      ("diffusion", "duplicate"): 1}  # fmt: skip
    for c in comparisons:
        assert c.differences[0].p_value <= c.differences[0].p_adjusted <= 1


def test_other_test_images_are_not_paired(small):
    for file in small.glob("*none*/bootstrap.parquet"):
        held = read_resamples(file)
        write_resamples(file, held.values, NAMES, "other images")
    _, comparisons = compared(small)
    assert by_arms(comparisons)["diffusion", "none"].differences[0].p_value is None
    assert by_arms(comparisons)["diffusion", "duplicate"].differences[0].p_value is not None


def test_other_data_is_not_paired_though_its_images_have_the_same_ids(small):
    for file in small.glob("*none*/results.json"):
        facts = json.loads(file.read_text())
        facts["provenance"]["data"] = "another seed of the simulator"
        file.write_text(json.dumps(facts))
    found = by_arms(compared(small)[1])
    assert found["diffusion", "none"].differences[0].verdict == "not judged"
    assert found["diffusion", "duplicate"].differences[0].p_value is not None


def test_files_that_do_not_name_their_data_are_paired_by_their_draw(small):
    for file in small.glob("*/results.json"):
        facts = json.loads(file.read_text())
        del facts["provenance"]["data"]
        file.write_text(json.dumps(facts))
    assert all(c.differences[0].p_value is not None for c in compared(small)[1])


def test_arms_of_one_control_share_the_spread_of_seeds(small, monkeypatch):
    freedoms = []

    def listening(observed, redrawn, shared):
        freedoms.append(shared.freedom)
        return paired_over_seeds(observed, redrawn, shared=shared)

    monkeypatch.setattr(judge, "paired_over_seeds", listening)
    compared(small)
    # Two arms against the control, one against copies; three seeds: 2 × 4 A / (A + 3).
    assert sorted(freedoms) == pytest.approx([2, 3.2, 3.2])


def test_seeds_with_fewer_redraws_are_compared_on_those(small):
    for file in small.glob("*seed1*/bootstrap.parquet"):
        held = read_resamples(file)
        write_resamples(file, held.values[:50], NAMES, held.draw)
    _, comparisons = compared(small)
    for one in by_arms(comparisons).values():
        assert one.differences[0].p_value is not None


def test_runs_at_other_prevalences_are_not_judged(small):
    for file in small.glob("*none*/results.json"):
        facts = json.loads(file.read_text())
        facts["prevalence"] = {"protein": 0.998, "silicone_oil": 0.001, "air_bubble": 0.001}
        file.write_text(json.dumps(facts))
    _, comparisons = compared(small)
    found = by_arms(comparisons)
    assert found["diffusion", "none"].differences[0].verdict == "not judged"
    assert found["diffusion", "duplicate"].differences[0].p_value is not None


def test_the_page_shows_everything_and_the_tables_every_seed(small):
    broken = small / "failed"
    broken.mkdir()
    (broken / "command.txt").write_text("python -m svp_lightning seed=9\n")
    for run in small.glob("*seed1"):
        run_report(run)
    words = study_report(small, paired_judge()).read_text(encoding="utf-8")
    for part in ("differences-table", "costs-table", "close-up", "failed", "figure-confusion_1",
                 "Holm", "figure-close_up", "GPU time"):  # fmt: skip
        assert part in words, part
    assert "learning-curve" not in words  # the number of real images does not vary
    runs, pairs = pd.read_csv(small / "runs.csv"), pd.read_csv(small / "differences.csv")
    assert len(runs) == 3 * 3
    assert set(runs["seed"]) == {1, 2, 3}
    first = json.loads((small / runs["run"][0] / "results.json").read_text())
    assert runs["macro_auprc"][0] == first["metrics"]["macro_auprc"]
    assert runs["silicone_oil/precision_at_threshold"].notna().all()
    assert runs["n_test/protein"].unique().tolist() == [TEST["protein"]]
    assert len(pairs) == 3 * 4
    assert pairs["p_holm"].between(0, 1).all()


def test_learning_curve_compares_equals(tmp_path):
    folder = made_up_study(
        tmp_path / "s", arms=SMALL, backbones=("resnet18",), seeds=(1, 2), real_images=(100, 1000)
    )
    groups, comparisons = compared(folder)
    assert {group.cell.real_images for group in groups} == {100, 1000}
    for group in groups:
        assert control_of(group, groups).cell.real_images == group.cell.real_images
    for one in comparisons:
        assert one.reference.cell.real_images == one.group.cell.real_images
    words = study_report(folder, paired_judge()).read_text(encoding="utf-8")
    assert "figure-learning_curve" in words
    assert (folder / "figures" / "learning_curve.svg").is_file()
    assert "100 real rare images" in words


def test_the_largest_gain_is_named_with_its_number_of_real_images(tmp_path):
    arms = (("none", 0.0), ("diffusion", 1.0))
    folder = made_up_study(
        tmp_path / "s", arms=arms, backbones=("resnet18",), seeds=(1,), real_images=(50, 1000)
    )
    for file in folder.glob("*diffusion*_50_*/results.json"):
        facts = json.loads(file.read_text())
        facts["metrics"]["macro_auprc"] += 0.05
        file.write_text(json.dumps(facts))
    told = study_headline(*compared(folder))[1]
    assert told.startswith("The largest gain is that of ResNet-18, diffusion 1×, 50 real rare")
    best, at = max(
        (run.estimate("macro_auprc").value, run.cell.real_images) for run in read_study(folder)
    )
    assert at == 1000  # the best score is another cell's
    assert score(best) not in told


def test_where_nothing_gains_none_is_called_a_gain(tmp_path):
    arms = (("none", 0.0), ("diffusion", 1.0), ("diffusion", 2.0))
    folder = made_up_study(
        tmp_path / "s", arms=arms, backbones=("resnet18",), seeds=(1,), gain=-0.05
    )
    told = study_headline(*compared(folder))[1]
    assert told.startswith("None scores higher; the nearest is ResNet-18, diffusion 1×: −")


def test_controls_of_variants_are_lines_in_the_main_figure(tmp_path):
    folder = made_up_study(tmp_path / "s", arms=SMALL[::2], backbones=("resnet18",), seeds=(1,))
    for run in list(folder.iterdir()):
        facts = json.loads((run / "results.json").read_text())
        for name, level in (("slow", 0.7), ("fast", 0.8)):
            facts["metrics"]["macro_auprc"] = level
            shutil.copytree(run, twin := run.with_name(f"{run.name}_{name}"))
            (twin / "results.json").write_text(json.dumps(facts | {"experiment": name}))
        shutil.rmtree(run)
    points = effect_points(group_runs(read_study(folder)), ["macro_auprc"])
    (panel,) = augmentation_effect(points).axes
    dashed = {line.get_ydata()[0] for line in panel.lines if line.get_linestyle() == "--"}
    assert dashed == {0.7, 0.8}
    assert [label.get_text() for label in panel.get_xticklabels()] == ["1×"]


def test_costs_count_shared_stages_once(small):
    results = read_study(small)
    groups, comparisons = compared(small)
    total = study_total(results)
    # Nine runs of 2 × 120 s, and one generator of 900 s that three of them share.
    assert total.wall_seconds == 9 * 240 + 900
    rows = {row.group.cell.method: row for row in cost_rows(groups, comparisons)}
    assert rows["diffusion"].wall == 240 + 900
    assert rows["none"].per_point is None
    assert rows["duplicate"].per_point is None  # no detectable gain, no price
    gain = by_arms(comparisons)["diffusion", "none"].differences[0].value
    assert rows["diffusion"].per_point == pytest.approx(900 / (100 * gain))


def test_a_network_that_is_another_runs_classifier_is_counted_once(small):
    for file in small.glob("*/results.json"):
        values = json.loads(file.read_text())
        shared = values["costs"]["classifier"] | {"artifact": "same"}
        stage = "network" if values["augmentation"]["method"] == "diffusion" else "classifier"
        values["costs"][stage] = shared
        file.write_text(json.dumps(values))
    # Of nine classifiers six are one, and it is the network of the generated arms as well.
    assert study_total(read_study(small)).wall_seconds == 9 * 120 + 3 * 120 + 120 + 900
    rows = {row.group.cell.method: row for row in cost_rows(*compared(small))}
    assert rows["diffusion"].wall == 120 + 240 + 900
    words = study_report(small, paired_judge()).read_text(encoding="utf-8")
    assert "Training the network that judges images" in words


def test_runs_without_costs_or_predictions_are_reported_too(small):
    for file in small.glob("*/predictions.parquet"):
        file.unlink()
    for file in small.glob("*/results.json"):
        values = json.loads(file.read_text())
        file.write_text(json.dumps({k: v for k, v in values.items() if k != "costs"}))
    words = study_report(small, paired_judge()).read_text(encoding="utf-8")
    assert "costs-table" not in words
    assert "figure-close_up" not in words
    assert "differences-table" in words


def test_a_collapsed_bootstrap_is_not_judged(small):
    for file in small.glob("*/bootstrap.parquet"):
        held = read_resamples(file)
        write_resamples(file, np.full_like(held.values, 0.9), NAMES, held.draw)
    for file in small.glob("*/results.json"):
        values = json.loads(file.read_text())
        values["metrics"]["macro_auprc"] = 0.95 if "diffusion" in str(file) else 0.9
        file.write_text(json.dumps(values))
    _, comparisons = compared(small)
    assert by_arms(comparisons)["diffusion", "none"].differences[0].verdict == "not judged"
