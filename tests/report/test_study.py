import json

import numpy as np
import pytest
from scipy import stats

from svp_lightning.report.inputs import Estimate, read_study
from svp_lightning.report.study import (
    control_of,
    difference,
    group_runs,
    over_seeds,
    remedies_of,
)
from svp_lightning.report.study_findings import compare_cells, reference_name, study_headline


@pytest.fixture
def make_cell(make_run):
    """A run with a macro AUPRC of ``value`` ± ``half``."""

    def make(name, value, half=0.02, **kwargs):
        return make_run(name, auprc=value, half_width=half, **kwargs)

    return make


def compared(folder):
    groups = group_runs(read_study(folder.parent))
    treated = next(group for group in groups if not group.cell.is_control)
    return difference(treated, control_of(treated, groups), "macro_auprc")


def test_one_seed_keeps_its_own_interval():
    one = Estimate(0.9, 0.85, 0.93)
    assert over_seeds([one]) == one


def test_several_seeds_are_never_surer_than_their_test_images():
    alike = [Estimate(0.9, 0.85, 0.95)] * 5
    mean = over_seeds(alike)
    assert mean.value == pytest.approx(0.9)
    assert mean.high - mean.low == pytest.approx(0.1)


def test_seed_interval_is_students_t():
    values = [0.70, 0.74, 0.78]
    mean = over_seeds([Estimate(value) for value in values])
    low, high = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    assert (mean.low, mean.high) == pytest.approx((low, high))


def test_interval_stays_within_0_and_1():
    mean = over_seeds([Estimate(0.99, 0.9, 1.0), Estimate(0.5, 0.4, 0.6)])
    assert (mean.low, mean.high) == (0.0, 1.0)


def test_undefined_in_one_seed_is_undefined():
    assert over_seeds([Estimate(0.9), Estimate(None)]).value is None


@pytest.mark.parametrize(
    ("value", "verdict"),
    [(0.86, "higher"), (0.83, "no detectable difference"), (0.74, "lower")],
)
def test_one_seed_is_judged_by_overlap(make_cell, value, verdict):
    folder = make_cell("control", 0.80, method="none")
    make_cell("treated", value)
    found = compared(folder)
    assert found.value == pytest.approx(value - 0.80)
    assert found.verdict == verdict
    assert found.low < found.value < found.high


def test_three_seeds_are_paired(make_cell):
    # The seeds differ far more than the treatment does: only pairing can see it.
    for seed, base in ((1, 0.60), (2, 0.75), (3, 0.90)):
        folder = make_cell(f"c{seed}", base, 0.001, method="none", seed=seed)
        make_cell(f"t{seed}", base + 0.02 + seed / 1000, 0.001, seed=seed)
    found = compared(folder)
    assert found.seeds == (1, 2, 3)
    assert found.value == pytest.approx(0.022)
    assert found.verdict == "higher"


def test_seed_noise_hides_a_small_difference(make_cell):
    for seed, shift in ((1, -0.03), (2, 0.06), (3, 0.0)):
        folder = make_cell(f"c{seed}", 0.8, 0.001, method="none", seed=seed)
        make_cell(f"t{seed}", 0.8 + shift, 0.001, seed=seed)
    assert compared(folder).verdict == "no detectable difference"


def test_only_common_seeds_are_compared(make_cell):
    folder = make_cell("c1", 0.8, method="none", seed=1)
    make_cell("t1", 0.9, seed=1)
    make_cell("t2", 0.1, seed=2)
    found = compared(folder)
    assert found.seeds == (1,)
    assert found.value == pytest.approx(0.1)


def test_other_data_is_not_compared(make_cell, make_run):
    folder = make_cell("control", 0.8, method="none")
    make_run("treated", change={"provenance": {"data": "other"}})
    found = compared(folder)
    assert found.value is None
    assert found.verdict == "not judged"


def test_without_intervals_nothing_is_judged(make_run):
    folder = make_run("control", method="none", auprc=0.2, change={"ci95": {}})
    make_run("treated", auprc=0.9)
    found = compared(folder)
    assert found.value == pytest.approx(0.7)
    assert found.verdict == "not judged"


def test_swapping_the_two_changes_the_sign_only(make_cell):
    folder = make_cell("control", 0.80, method="none")
    make_cell("treated", 0.86)
    a, b = group_runs(read_study(folder.parent))
    one, other = difference(a, b, "macro_auprc"), difference(b, a, "macro_auprc")
    assert one.value == pytest.approx(-other.value)
    assert one.low == pytest.approx(-other.high)


def test_controls_are_matched_by_backbone_and_duplicates_by_ratio(make_run):
    for backbone in ("resnet18", "resnet50"):
        folder = make_run(f"{backbone}0", backbone=backbone, ratio=0.0)
        for method in ("diffusion", "duplicate"):
            for ratio in (1.0, 2.0):
                name = f"{backbone}{method}{ratio}"
                make_run(name, backbone=backbone, method=method, ratio=ratio)
    groups = group_runs(read_study(folder.parent))
    assert len(groups) == 10
    for group in groups:
        control = control_of(group, groups)
        assert control.cell.is_control
        assert control.cell.backbone == group.cell.backbone
        if group.cell.method == "diffusion":
            (twin,) = remedies_of(group, groups)
            assert (twin.cell.backbone, twin.cell.ratio) == (group.cell.backbone, group.cell.ratio)


def test_ratio_0_and_none_are_one_control(make_run):
    folder = make_run("a", method="none", seed=1)
    make_run("b", method="diffusion", ratio=0.0, seed=2)
    (group,) = group_runs(read_study(folder.parent))
    assert group.seeds == (1, 2)


def test_one_control_under_two_names_is_not_two_seeds(make_run):
    folder = make_run("a", method="none", seed=1)
    make_run("b", method="diffusion", ratio=0.0, seed=1)
    make_run("c", method="none", seed=2)
    (group,) = group_runs(read_study(folder.parent))
    assert group.seeds == (1, 2)


def test_images_of_all_classes_are_not_as_many_as_duplicates(make_run):
    folder = make_run("control", method="none")
    for method in ("duplicate", "diffusion", "diffusion_all_classes"):
        make_run(method, method=method)
    groups = group_runs(read_study(folder.parent))
    comparisons = compare_cells(groups, ["macro_auprc"])
    against = {
        c.group.cell.method: reference_name(c)
        for c in comparisons
        if c.reference.cell.method == "duplicate"
    }
    assert against == {"diffusion": "the same number of duplicates",
                       "diffusion_all_classes": "duplicates of the rare classes alone"}  # fmt: skip
    told = " ".join(study_headline(groups, comparisons))
    assert (
        "the same number of duplicated real images, generated images are better in 0 of 1" in told
    )
    assert "rare classes alone, generated images of all classes are better in 0 of 1" in told


@pytest.fixture
def variants(make_run):
    """Two guidance strengths, and the control twice: as ``none`` and as 0 × generated images."""
    for seed in (1, 2):
        for name in ("guidance_1", "guidance_2"):
            folder = make_run(f"{name}{seed}", seed=seed, auprc=0.9, change={"experiment": name})
        make_run(f"none{seed}", method="none", seed=seed, change={"experiment": "control"})
        twin = make_run(f"zero{seed}", ratio=0.0, seed=seed, change={"experiment": "zero"})
        values = json.loads((twin.parent / f"none{seed}" / "results.json").read_text())
        change = {"experiment": "zero", "augmentation": {"method": "diffusion", "ratio": 0.0}}
        (twin / "results.json").write_text(json.dumps(values | change))
    return folder.parent


def test_variants_share_the_control_that_is_one_training(variants):
    groups = group_runs(read_study(variants))
    (control,) = [group for group in groups if group.cell.is_control]
    assert control.seeds == (1, 2)
    treated = [group for group in groups if not group.cell.is_control]
    assert [group.cell.variant for group in treated] == ["guidance_1", "guidance_2"]
    assert all(control_of(group, groups) is control for group in treated)


def test_controls_that_are_different_trainings_stay_apart(variants):
    file = variants / "zero1" / "results.json"
    values = json.loads(file.read_text())
    values["metrics"]["macro_auprc"] = 0.85
    file.write_text(json.dumps(values | {"experiment": "guidance_2"}))
    groups = {g.cell.variant: g for g in group_runs(read_study(variants)) if g.cell.is_control}
    assert {"control", "guidance_2"} <= set(groups)
    everything = group_runs(read_study(variants))
    found = {g.cell.variant: control_of(g, everything) for g in everything if not g.cell.is_control}
    assert found["guidance_1"] is None
    assert found["guidance_2"].cell.variant == "guidance_2"
    told = study_headline(everything, compare_cells(everything, ["macro_auprc"]))
    assert any("same classifier and experiment: ResNet-50, diffusion 1×" in one for one in told)


def test_other_prevalence_is_not_compared(make_cell, make_run):
    mixture = {"protein": 98, "silicone_oil": 1, "air_bubble": 1}
    folder = make_cell("control", 0.8, method="none", change={"prevalence": mixture})
    scaled = {name: share / 100 for name, share in mixture.items()}
    make_run("treated", seed=1, change={"prevalence": scaled})
    assert compared(folder).value is not None
    make_run("other", method="duplicate")
    groups = {group.cell.method: group for group in group_runs(read_study(folder.parent))}
    assert difference(groups["duplicate"], groups["none"], "macro_auprc").verdict == "not judged"
