"""A study judged on its runs' redrawn test sets, from files to page."""

import shutil

import pandas as pd
import pytest

from svp_lightning.report.costs import cost_rows, study_total
from svp_lightning.report.figures.effects import augmentation_effect
from svp_lightning.report.run import run_report
from svp_lightning.report.study import compared_runs, study_report
from svp_lightning.report.study_findings import answers, caveats, compare_cells, study_headline
from svp_lightning.report.study_runs import control_of, group_runs, read_run, read_study

from .made_up import TEST, change_results, made_up_study
from .pages import Page

SMALL = (("none", 0.0), ("duplicate", 1.0), ("diffusion", 1.0))
FIVE = (1, 2, 3, 4, 5)


@pytest.fixture(scope="module")
def small_study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study") / "made_up"
    return made_up_study(folder, arms=SMALL, backbones=("resnet18",), seeds=FIVE)


@pytest.fixture
def small(small_study, tmp_path):
    """A copy of three arms with five seeds each, to be changed."""
    return shutil.copytree(small_study, tmp_path / "made_up")


@pytest.fixture
def make_study(tmp_path):
    """One backbone with a control and diffusion 1×, unless stated otherwise."""

    def make(**kwargs):
        given = {"arms": SMALL[::2], "backbones": ("resnet18",), "seeds": (1,)} | kwargs
        return made_up_study(tmp_path / "made_up", **given)

    return make


def compared(folder):
    groups = group_runs(read_study(folder))
    return groups, compare_cells(groups, ["macro_auprc"])


def by_arms(folder):
    return {(c.group.cell.method, c.reference.cell.method): c.first for c in compared(folder)[1]}


def headline(folder):
    groups, comparisons = compared(folder)
    return " ".join(study_headline(groups, comparisons, answers(groups, comparisons)))


def test_the_sentences_follow_the_numbers(small_study):
    found = by_arms(small_study)
    assert {arms: one.verdict for arms, one in found.items()} == {
        ("diffusion", "none"): "higher", ("diffusion", "duplicate"): "higher",
        ("duplicate", "none"): "no detectable difference",
    }  # fmt: skip
    assert found["diffusion", "none"].low < 0.03 < found["diffusion", "none"].high
    assert [found[arms].compared for arms in sorted(found)] == [1, 2, 2]
    words = headline(small_study)
    assert "diffusion 1×: higher than" in words
    assert "1 above the control and 1 without a detectable difference" in words


@pytest.mark.parametrize("seeds", [(1,), (1, 2, 3)])
def test_few_repetitions_are_no_claim(make_study, seeds):
    folder = make_study(seeds=seeds)
    assert "too few repetitions to claim a difference from the control" in headline(folder)
    page = Page(study_report(folder))
    assert f"Some cells have {len(seeds)} repetition" in page.words
    assert not {"range higher", "range lower"} & set(page.values("span", "class"))


def test_no_gain_is_no_finding(make_study):
    folder = make_study(arms=(*SMALL[::2], ("diffusion", 2.0)), gain=0.0, seeds=FIVE)
    assert {one.verdict for one in by_arms(folder).values()} == {"no detectable difference"}
    assert "2 without a detectable difference" in headline(folder)


def test_the_best_oracle_of_several_is_the_bound(make_study):
    folder = make_study(arms=(*SMALL, ("oracle", 1.0), ("oracle_mixup", 1.0)), seeds=FIVE)
    for pattern, by in (("*oracle_1x*", 0.02), ("*oracle_mixup*", 0.05)):
        change_results(folder, lambda facts, by=by: raise_auprc(facts, by), pattern)
    (found,) = answers(*compared(folder))
    assert found.oracle.value == pytest.approx(0.05, abs=0.01)


def test_simulated_images_meet_the_remedies_without_any(make_study):
    matched = ("simulated_mixup", 1.0)
    arms = (*SMALL, ("simulated", 1.0), matched, ("class_weights", 0.0))
    found = by_arms(make_study(arms=arms, seeds=FIVE))
    for arm in ("simulated", "simulated_mixup"):
        of_arm = {reference for method, reference in found if method == arm}
        assert of_arm == {"none", "duplicate", "class_weights"}
        assert ("diffusion", arm) in found
    assert found["diffusion", "class_weights"].compared == 3


def raise_auprc(facts, by):
    facts["metrics"]["macro_auprc"] += by


def test_generated_images_meet_the_best_control_and_the_oracle(make_study):
    arms = (*SMALL, ("oracle", 1.0), ("class_weights", 0.0))
    folder = make_study(arms=arms, seeds=FIVE, real_images=(100, 1000), gain=0.03)
    change_results(folder, lambda facts: raise_auprc(facts, 0.01), "*class_weights*_100_*")
    change_results(folder, lambda facts: raise_auprc(facts, 0.01), "*duplicate*_1000_*")
    change_results(folder, lambda facts: raise_auprc(facts, 0.06), "*oracle*")
    groups, comparisons = compared(folder)
    found = answers(groups, comparisons)
    assert [one.group.cell.real_images for one in found] == [100, 1000]
    assert [one.control.cell.method for one in found] == ["class_weights", "duplicate"]
    for one in found:
        assert one.gain.value == pytest.approx(0.02, abs=0.005)
        assert one.oracle.value == pytest.approx(0.05, abs=0.005)
        assert one.closed.value == pytest.approx(one.gain.value / one.oracle.value)
        assert 0 < one.closed.low < one.closed.value < one.closed.high < 1
    assert "of the gap to the oracle" in headline(folder)
    page = Page(study_report(folder))
    shown = [value for value, _ in page.cells["answer-table"]]
    table = pd.read_csv(folder / "answers.csv")
    assert table["oracle_gain"].tolist() == [one.oracle.value for one in found]
    for one in found:
        for value in (one.gain.value, one.gain.p_adjusted, one.oracle.value, one.closed.value):
            assert str(value) in shown
    # The oracle is no remedy: it is no control, and p-values are not corrected for it.
    without = [group for group in groups if not group.cell.is_oracle]
    alone = answers(without, compare_cells(without, ["macro_auprc"]))
    assert [one.gain.compared for one in alone] == [one.gain.compared for one in found]
    assert {(one.oracle, one.closed.value) for one in alone} == {(None, None)}


@pytest.mark.parametrize(
    ("gain", "arms", "said"),
    [
        (0.03, SMALL, "largest gain"),
        (-0.05, (*SMALL[::2], ("diffusion", 2.0)), "No cell gains"),
        (-0.05, SMALL[::2], ""),  # one cell: no choice
    ],
)
def test_the_cell_looked_at_closely_is_called_what_it_is(make_study, gain, arms, said):
    folder = make_study(arms=arms, gain=gain)
    runs, why = compared_runs(compared(folder)[1], read_study(folder))
    assert [run.cell.method for run in runs] == ["none", "diffusion"]
    assert said in why
    assert bool(said) == bool(why)


@pytest.mark.parametrize(("drawn", "said"), [(40_000, True), (400_000, False), (None, False)])
def test_brief_trainings_are_a_caveat(small, drawn, said):
    change_results(small, lambda facts: facts["provenance"].update(training_images_drawn=drawn))
    assert ("train longer" in " ".join(caveats(compared(small)[0]))) == said


@pytest.mark.parametrize(
    ("method", "said"), [("hard_negatives_classical", True), ("classical", False)]
)
def test_an_arm_whose_draws_change_a_class_is_a_caveat(make_study, method, said):
    folder = make_study(arms=(("none", 0.0), (method, 0.0)))
    found = "Compare arms with hard negatives by AUPRC" in " ".join(caveats(compared(folder)[0]))
    assert found == said


@pytest.mark.parametrize("apart", [False, True])
def test_what_repetitions_share_is_a_caveat(small, apart):
    def same(facts):
        seed = facts["seed"] if apart else 1
        facts["provenance"] |= {"rare_images": 50, "rare_seed": seed}
        facts["provenance"] |= {"generator": f"g{seed}", "synthetic": f"s{seed}"}

    change_results(small, same)
    notes = " ".join(caveats(compared(small)[0]))
    for name in ("data.rare_seed", "generator.seed", "sampler.seed"):
        assert (name in notes) == (not apart)


@pytest.mark.parametrize("shared", ["generator", "sampler", None])
def test_seeds_that_make_images_alike_are_a_caveat_though_the_images_differ(small, shared):
    def own_generators(facts):
        seed = facts["seed"]
        seeds = {f"{name}_seed": 0 if name == shared else seed for name in ("generator", "sampler")}
        facts["provenance"] |= {"generator": f"g{seed}", "synthetic": f"s{seed}", **seeds}

    change_results(small, own_generators)
    notes = " ".join(caveats(compared(small)[0]))
    for name in ("generator", "sampler"):
        assert (f"({name}.seed)" in notes) == (name == shared)


def test_too_few_test_images_for_the_prevalence_are_a_caveat(small):
    few = "recall at 95 % precision of silicone oil and air bubble"
    assert few in " ".join(caveats(compared(small)[0]))
    change_results(small, lambda facts: facts["counts"]["test"].update(protein=100_000))
    assert few not in " ".join(caveats(compared(small)[0]))


def test_cells_with_and_without_a_control(make_study):
    folder = make_study(arms=SMALL, backbones=("resnet18", "resnet50"))
    for run in folder.glob("resnet50_none*"):
        shutil.rmtree(run)
    assert "of 2 cells" in headline(folder)
    assert "control of its own kind: ResNet-50, diffusion 1×; ResNet-50, dupl" in headline(folder)


def test_the_page_shows_everything_and_the_tables_every_seed(small):
    broken = small / "failed cell"
    broken.mkdir()
    (broken / "command.txt").write_text("python -m svp_lightning seed=9\n")
    for run in small.glob("*seed1"):
        run_report(run)
    shutil.rmtree(next(small.glob("*duplicate*seed5")))
    path = study_report(small)
    page = Page(path)
    assert path == small / "report.html"
    for part in ("Holm", "GPU time", "failed cell", "seed=9", "1 run has no result", "seed 5"):
        assert part in page.words, part
    assert {"answer-table", "differences-table", "costs-table", "study-table"} <= set(
        page.values("table", "id")
    )
    assert {"figure-augmentation_effect", "figure-differences", "figure-close_up",
            "figure-confusion_1"} <= set(page.values("figure", "id"))  # fmt: skip
    assert "learning-curve" not in page.text  # the number of real images does not vary
    links = [link for link in page.values("a", "href") if not link.startswith("#")]
    assert all((small / link).is_file() for link in links)
    pages = {link for link in links if link.endswith("report.html")}
    assert pages == {f"{run.name}/report.html" for run in small.glob("*seed1")}
    anchors = {link[1:] for link in page.values("a", "href") if link.startswith("#")}
    assert anchors <= {*page.values("h2", "id")}
    assert (small / "figures" / "augmentation_effect.svg").is_file()
    assert (small / "table.md").read_text(encoding="utf-8").count("\n") == 2 + 3
    runs, pairs = pd.read_csv(small / "runs.csv"), pd.read_csv(small / "differences.csv")
    assert len(runs) == 3 * 5 - 1
    first = read_run(small / runs["run"][0]).results
    assert runs["macro_auprc"][0] == first.metrics.macro_auprc
    assert runs["silicone_oil/precision_at_threshold"].notna().all()
    assert runs["n_test/protein"].unique().tolist() == [TEST["protein"]]
    assert len(pairs) == 3 * 4
    assert pairs["p_holm"].between(0, 1).all()
    shown = {value for value, _ in page.cells["study-table"] + page.cells["runs-table"]}
    for run in read_study(small):
        assert str(run.results.metrics.macro_auprc) in shown
    means = pd.read_csv(small / "table.csv")
    assert set(map(str, means["macro_auprc"])) <= shown


@pytest.mark.parametrize(
    ("method", "said"), [("diffusion", "no control"), ("none", "nothing to compare")]
)
def test_one_arm_alone_claims_nothing(make_run, method, said):
    """Without predictions, redrawn test images and costs, too."""
    page = Page(study_report(make_run(method=method).parent))
    assert said in page.words
    assert not {"answer-table", "differences-table", "costs-table"} & set(
        page.values("table", "id")
    )
    assert "figure-close_up" not in page.values("figure", "id")


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
    assert "100 real rare images" in page.words


def test_a_pretrained_classifier_is_compared_with_its_own_control(make_study):
    folder = make_study()
    for run in list(folder.iterdir()):
        shutil.copytree(run, run.with_name(f"{run.name}_pretrained"))

    def pretrain(facts):
        facts["costs"]["pretraining"] = facts["costs"]["classifier"] | {"artifact": "start"}

    change_results(folder, pretrain, "*_pretrained")
    groups, comparisons = compared(folder)
    assert len(groups) == 4
    assert len(comparisons) == 2
    for one in comparisons:
        assert one.reference.cell.place == one.group.cell.place
    assert "ResNet-18, pretrained" in Page(study_report(folder)).words


def test_controls_of_variants_are_lines_in_the_main_figure(make_study):
    folder = make_study()
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


def test_costs_count_shared_stages_once(small_study):
    groups, comparisons = compared(small_study)
    # Fifteen runs of 2 × 120 s, and one generator of 900 s that five of them share.
    assert study_total(read_study(small_study)).wall_seconds == 15 * 240 + 900
    rows = {row.group.cell.method: row for row in cost_rows(groups, comparisons)}
    assert rows["diffusion"].wall == 240 + 900
    assert rows["none"].per_point is None
    assert rows["duplicate"].per_point is None  # no detectable gain, no price
    gain = by_arms(small_study)["diffusion", "none"].value
    assert rows["diffusion"].per_point == pytest.approx(900 / (100 * gain))


def test_a_network_that_is_another_runs_classifier_is_counted_once(small):
    def share(facts):
        shared = facts["costs"]["classifier"] | {"artifact": "same"}
        generated = facts["augmentation"]["method"] == "diffusion"
        facts["costs"]["network" if generated else "classifier"] = shared

    change_results(small, share)
    # Of fifteen classifiers ten are one, and it is the network of the generated arms as well.
    assert study_total(read_study(small)).wall_seconds == 15 * 120 + 5 * 120 + 120 + 900
    rows = {row.group.cell.method: row for row in cost_rows(*compared(small))}
    assert rows["diffusion"].wall == 120 + 240 + 900
