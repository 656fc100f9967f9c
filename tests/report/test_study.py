"""A study judged on its runs' redrawn test sets, from files to page."""

import shutil

import numpy as np
import pandas as pd
import pytest

from svp_lightning.evaluation import comparison
from svp_lightning.evaluation.predictions import read_resamples, write_resamples
from svp_lightning.report.arms import control_of, group_runs, read_run, read_study
from svp_lightning.report.figures.effects import augmentation_effect
from svp_lightning.report.run import run_report
from svp_lightning.report.study import choice, study_report
from svp_lightning.report.study_findings import (
    caveats,
    compare_cells,
    reference_name,
    study_headline,
    verdict_sentence,
)
from svp_lightning.report.study_tables import cost_rows, study_total
from svp_lightning.report.text import score

from .made_up import IN_USE, NAMES, TEST, change_results, made_up_study
from .pages import Page

SMALL = (("none", 0.0), ("duplicate", 1.0), ("diffusion", 1.0))


@pytest.fixture(scope="module")
def small_study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study") / "made_up"
    return made_up_study(folder, arms=SMALL, backbones=("resnet18",))


@pytest.fixture
def small(small_study, tmp_path):
    """A copy of three arms with three seeds each, to be changed."""
    return shutil.copytree(small_study, tmp_path / "made_up")


@pytest.fixture
def make_study(tmp_path):
    """One backbone with a control and diffusion 1×, unless stated otherwise."""

    def make(**kwargs):
        given = {"arms": SMALL[::2], "backbones": ("resnet18",)} | kwargs
        return made_up_study(tmp_path / "made_up", **given)

    return make


def compared(folder):
    groups = group_runs(read_study(folder))
    return groups, compare_cells(groups, ["macro_auprc"])


def by_arms(comparisons):
    return {(c.group.cell.method, c.reference.cell.method): c for c in comparisons}


def differences(folder):
    return {arms: c.differences[0] for arms, c in by_arms(compared(folder)[1]).items()}


def test_pairing_is_sharper_than_separate_intervals(small_study):
    pair = by_arms(compared(small_study)[1])["diffusion", "none"]
    paired = pair.differences[0]
    apart = comparison.by_intervals(pair.group.runs, pair.reference.runs, "macro_auprc")
    assert paired.value == pytest.approx(apart.value)
    assert paired.high - paired.low < 0.8 * (apart.high - apart.low)
    assert paired.verdict == "higher"
    assert paired.low < 0.03 < paired.high
    assert 0 < paired.error_reduction < 1


def test_the_sentences_follow_the_numbers(small_study):
    groups, comparisons = compared(small_study)
    found = by_arms(comparisons)
    higher = verdict_sentence(found["diffusion", "none"])
    assert "higher than the control" in higher
    assert "after correction for 2 comparisons" in higher
    assert "no detectable difference" in verdict_sentence(found["duplicate", "none"])
    assert "better in 1 of 1 comparisons" in " ".join(study_headline(groups, comparisons))


def test_one_training_is_called_one_training(make_study):
    folder = make_study(seeds=(1,))
    _, (one,) = compared(folder)
    assert one.differences[0].verdict == "higher"
    assert "another seed may differ" in verdict_sentence(one)
    assert "One seed only" in Page(study_report(folder)).words


def test_no_gain_is_no_finding(make_study):
    groups, comparisons = compared(make_study(arms=(*SMALL[::2], ("diffusion", 2.0)), gain=0.0))
    assert {c.differences[0].verdict for c in comparisons} == {"no detectable difference"}
    assert "without a detectable difference" in study_headline(groups, comparisons)[0]


def test_a_gain_that_is_none_is_not_called_one(make_study):
    found = compared(make_study(arms=(*SMALL[::2], ("diffusion", 2.0)), seeds=(1,), gain=-0.05))
    assert study_headline(*found)[1].startswith(
        "None scores higher; the nearest is ResNet-18, diffusion 1×: −"
    )


def test_the_cell_looked_at_closely_is_called_what_it_is(small_study, make_study):
    assert "largest gain" in choice(compared(small_study)[1])
    assert choice(compared(make_study(seeds=(1,), gain=-0.05))[1]) == ""  # one cell: no choice


def test_a_loss_is_not_called_the_largest_gain(make_study):
    folder = make_study(arms=(*SMALL[::2], ("diffusion", 2.0)), seeds=(1,), gain=-0.05)
    assert "No cell gains" in choice(compared(folder)[1])
    assert "largest gain" not in Page(study_report(folder)).words


@pytest.mark.parametrize(("drawn", "said"), [(40_000, True), (400_000, False), (None, False)])
def test_a_short_training_is_a_caveat(small, drawn, said):
    """12,000 training images: seen 3.3 or 33 times."""
    change_results(small, lambda facts: facts["provenance"].update(training_images_drawn=drawn))
    notes = " ".join(caveats(*compared(small)))
    assert ("3.3 times" in notes) == said
    assert ("train longer" in notes) == said


def test_too_few_test_images_for_the_prevalence_are_a_caveat(small):
    assert "silicone oil and air bubble allows no error" in " ".join(caveats(*compared(small)))
    change_results(small, lambda facts: facts["counts"]["test"].update(protein=100_000))
    assert "allows no error" not in " ".join(caveats(*compared(small)))


def test_cells_with_and_without_a_control(make_study):
    folder = make_study(arms=SMALL, backbones=("resnet18", "resnet50"), seeds=(1,))
    for run in folder.glob("resnet50_none*"):
        shutil.rmtree(run)
    sentences = study_headline(*compared(folder))
    assert "of the 2 cells" in sentences[0]
    assert "ResNet-50, diffusion 1×; ResNet-50, duplicates 1×" in " ".join(sentences)


def test_correction_is_for_one_kind_of_control(small_study):
    found = differences(small_study)
    assert {arms: one.compared for arms, one in found.items()} == {
        ("diffusion", "none"): 2, ("duplicate", "none"): 2, ("diffusion", "duplicate"): 1,
    }  # fmt: skip
    assert all(one.p_value <= one.p_adjusted <= 1 for one in found.values())


def test_other_test_images_are_not_paired(small):
    for file in small.glob("*none*/bootstrap.parquet"):
        held = read_resamples(file)
        write_resamples(file, held.values, NAMES, "other images")
    found = differences(small)
    assert found["diffusion", "none"].p_value is None
    assert found["diffusion", "none"].verdict != "not judged"
    assert found["diffusion", "duplicate"].p_value is not None


@pytest.mark.parametrize(
    "change",
    [
        lambda facts: facts["provenance"].update(data="another seed of the simulator"),
        lambda facts: facts.update(prevalence=dict.fromkeys(IN_USE, 1 / 3)),
    ],
)
def test_other_data_or_prevalence_is_not_compared(small, change):
    """Though simulated images have the same ids."""
    change_results(small, change, "*none*")
    found = differences(small)
    assert found["diffusion", "none"].verdict == "not judged"
    assert found["diffusion", "duplicate"].p_value is not None


def test_arms_of_one_control_share_the_spread_of_seeds(small_study, monkeypatch):
    freedoms, judge = [], comparison.paired_over_seeds

    def listening(observed, redrawn, shared):
        freedoms.append(shared.freedom)
        return judge(observed, redrawn, shared=shared)

    monkeypatch.setattr(comparison, "paired_over_seeds", listening)
    compared(small_study)
    # Two arms against the control, one against copies; three seeds: 2 × 4 A / (A + 3).
    assert sorted(freedoms) == pytest.approx([2, 3.2, 3.2])


def test_seeds_with_fewer_redraws_are_compared_on_those(small):
    for file in small.glob("*seed1*/bootstrap.parquet"):
        held = read_resamples(file)
        write_resamples(file, held.values[:50], NAMES, held.draw)
    assert all(one.p_value is not None for one in differences(small).values())


def test_a_collapsed_bootstrap_is_not_judged(small):
    for file in small.glob("*/bootstrap.parquet"):
        held = read_resamples(file)
        write_resamples(file, np.full_like(held.values, 0.9), NAMES, held.draw)
    for pattern, value in (("*", 0.9), ("*diffusion*", 0.95)):
        change_results(small, lambda f, v=value: f["metrics"].update(macro_auprc=v), pattern)
    assert differences(small)["diffusion", "none"].verdict == "not judged"


def test_the_page_shows_everything_and_the_tables_every_seed(small):
    broken = small / "failed cell"
    broken.mkdir()
    (broken / "command.txt").write_text("python -m svp_lightning seed=9\n")
    for run in small.glob("*seed1"):
        run_report(run)
    path = study_report(small)
    page = Page(path)
    assert path == small / "report.html"
    for part in ("Holm", "GPU time", "failed cell", "seed=9", "1 run has no result"):
        assert part in page.words, part
    assert {"differences-table", "costs-table", "study-table"} <= set(page.values("table", "id"))
    assert {"figure-augmentation_effect", "figure-differences", "figure-close_up",
            "figure-confusion_1"} <= set(page.values("figure", "id"))  # fmt: skip
    assert "learning-curve" not in page.text  # the number of real images does not vary
    links = [link for link in page.values("a", "href") if not link.startswith("#")]
    assert all((small / link).is_file() for link in links)
    pages = {link for link in links if link.endswith("report.html")}
    assert pages == {f"{run.name}/report.html" for run in small.glob("*seed1")}
    assert (small / "figures" / "augmentation_effect.svg").is_file()
    assert (small / "table.md").read_text(encoding="utf-8").count("\n") == 2 + 3
    runs, pairs = pd.read_csv(small / "runs.csv"), pd.read_csv(small / "differences.csv")
    assert len(runs) == 3 * 3
    assert set(runs["seed"]) == {1, 2, 3}
    first = read_run(small / runs["run"][0]).results
    assert runs["macro_auprc"][0] == first.metrics.macro_auprc
    assert runs["silicone_oil/precision_at_threshold"].notna().all()
    assert runs["n_test/protein"].unique().tolist() == [TEST["protein"]]
    assert len(pairs) == 3 * 4
    assert pairs["p_holm"].between(0, 1).all()


def test_study_table_numbers_are_those_of_the_results(make_run):
    folder = make_run("control", ratio=0.0, auprc=0.80)
    make_run("treated", ratio=1.0, auprc=0.81)
    page = Page(study_report(folder.parent))
    shown = {value for value, _ in page.cells["study-table"]}
    for run in read_study(folder.parent):
        for metric in ("macro_auprc", "macro_f1", "silicone_oil/recall_at_precision_95"):
            assert str(run.results.estimate(metric).value) in shown
    assert "no detectable difference from the control: +1.0 percentage points" in page.words
    assert "That of one seed does not cover another" in page.words


@pytest.mark.parametrize(
    ("method", "said", "not_said"),
    [("diffusion", "no control", "percentage points of"), ("none", "nothing to compare", "above")],
)
def test_one_arm_alone_claims_nothing(make_run, method, said, not_said):
    words = Page(study_report(make_run(method=method).parent)).words
    assert said in words
    assert not_said not in words


def test_learning_curve_compares_equals(make_study):
    folder = make_study(arms=SMALL, seeds=(1, 2), real_images=(100, 1000))
    groups, comparisons = compared(folder)
    assert {group.cell.real_images for group in groups} == {100, 1000}
    for group in groups:
        assert control_of(group, groups).cell.real_images == group.cell.real_images
    for one in comparisons:
        assert one.reference.cell.real_images == one.group.cell.real_images
    page = Page(study_report(folder))
    assert "figure-learning_curve" in page.values("figure", "id")
    assert (folder / "figures" / "learning_curve.svg").is_file()
    assert "100 real rare images" in page.words


def test_the_largest_gain_is_named_with_its_number_of_real_images(make_study):
    folder = make_study(seeds=(1,), real_images=(50, 1000))

    def gain(facts):
        facts["metrics"]["macro_auprc"] += 0.05

    change_results(folder, gain, "*diffusion*_50_*")
    sentence = study_headline(*compared(folder))[1]
    assert sentence.startswith("The largest gain is that of ResNet-18, diffusion 1×, 50 real rare")
    best, at = max(
        (run.results.metrics.macro_auprc, run.cell.real_images) for run in read_study(folder)
    )
    assert at == 1000  # the best score is another cell's
    assert score(best) not in sentence


def test_controls_of_variants_are_lines_in_the_main_figure(make_study):
    folder = make_study(seeds=(1,))
    for run in list(folder.iterdir()):
        for name, level in (("slow", 0.7), ("fast", 0.8)):
            shutil.copytree(run, run.with_name(f"{run.name}_{name}"))

            def change(facts, name=name, level=level):
                facts["experiment"], facts["metrics"]["macro_auprc"] = name, level

            change_results(folder, change, f"{run.name}_{name}")
        shutil.rmtree(run)
    (panel,) = augmentation_effect(group_runs(read_study(folder)), ["macro_auprc"]).axes
    dashed = {line.get_ydata()[0] for line in panel.lines if line.get_linestyle() == "--"}
    assert dashed == {0.7, 0.8}
    assert [label.get_text() for label in panel.get_xticklabels()] == ["1×"]


def test_images_of_all_classes_are_not_as_many_as_duplicates(make_run):
    folder = make_run("control", method="none")
    for method in ("duplicate", "diffusion", "diffusion_all_classes"):
        make_run(method, method=method)
    groups, comparisons = compared(folder.parent)
    against = {arms[0]: reference_name(c) for arms, c in by_arms(comparisons).items()
               if arms[1] == "duplicate"}  # fmt: skip
    assert against == {"diffusion": "the same number of duplicates",
                       "diffusion_all_classes": "duplicates of the rare classes alone"}  # fmt: skip
    sentences = " ".join(study_headline(groups, comparisons))
    assert "duplicated real images, generated images are better in 0 of 1" in sentences
    assert "rare classes alone, generated images of all classes are better in 0 of 1" in sentences


def test_costs_count_shared_stages_once(small_study):
    groups, comparisons = compared(small_study)
    # Nine runs of 2 × 120 s, and one generator of 900 s that three of them share.
    assert study_total(read_study(small_study)).wall_seconds == 9 * 240 + 900
    rows = {row.group.cell.method: row for row in cost_rows(groups, comparisons)}
    assert rows["diffusion"].wall == 240 + 900
    assert rows["none"].per_point is None
    assert rows["duplicate"].per_point is None  # no detectable gain, no price
    gain = by_arms(comparisons)["diffusion", "none"].differences[0].value
    assert rows["diffusion"].per_point == pytest.approx(900 / (100 * gain))


def test_a_network_that_is_another_runs_classifier_is_counted_once(small):
    def share(facts):
        shared = facts["costs"]["classifier"] | {"artifact": "same"}
        generated = facts["augmentation"]["method"] == "diffusion"
        facts["costs"]["network" if generated else "classifier"] = shared

    change_results(small, share)
    # Of nine classifiers six are one, and it is the network of the generated arms as well.
    assert study_total(read_study(small)).wall_seconds == 9 * 120 + 3 * 120 + 120 + 900
    rows = {row.group.cell.method: row for row in cost_rows(*compared(small))}
    assert rows["diffusion"].wall == 120 + 240 + 900


def test_runs_without_costs_or_predictions_are_reported_too(small):
    for file in small.glob("*/predictions.parquet"):
        file.unlink()
    change_results(small, lambda facts: facts.update(costs={}))
    page = Page(study_report(small))
    assert "costs-table" not in page.text
    assert "figure-close_up" not in page.values("figure", "id")
    assert "differences-table" in page.values("table", "id")
