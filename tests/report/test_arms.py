"""Reading runs from disk, and putting them into the arms of a study."""

import json
from pathlib import Path

import pytest
import yaml

import svp_lightning
from svp_lightning.errors import SvpError
from svp_lightning.evaluation.predictions import write_predictions
from svp_lightning.report.arms import ARMS, Cell, arms_of
from svp_lightning.report.study_runs import (
    control_of,
    group_runs,
    read_run,
    read_study,
    remedies_of,
    unfinished_cells,
)
from tests.configured import augmentation

from .made_up import CLASSES, made_up_predictions

CONF = Path(svp_lightning.__file__).parents[1] / "conf" / "augmentation"


def test_every_arm_of_the_configuration_has_a_name_and_a_colour_of_its_own():
    files = [file for file in CONF.glob("*.yaml") if file.name != "base.yaml"]
    values = [yaml.safe_load(file.read_text(encoding="utf-8")) for file in files]
    methods = {arm.get("augmentation", arm)["method"] for arm in values}
    assert set(ARMS) == methods
    for fact in ("name", "colour", "marker"):
        assert len({getattr(arm, fact) for arm in ARMS.values()}) == len(ARMS), fact
    looks = arms_of(["diffusion", "mine", "other"])
    assert looks["diffusion"] == ARMS["diffusion"]
    assert len({arm.colour for arm in [*looks.values(), *ARMS.values()]}) == len(ARMS) + 2
    assert looks["mine"].name == "Mine"


@pytest.mark.parametrize(
    ("method", "settings", "control", "generative"),
    [
        ("none", {}, True, False),
        ("diffusion", {"extra": "diffusion", "ratio": 0}, True, False),
        ("diffusion", {"extra": "diffusion", "ratio": 0.5}, False, True),
        ("duplicate", {"extra": "duplicate", "ratio": 0}, True, False),
        ("class_weights", {"loss": "class_weights"}, False, False),
        ("classical", {"strength": 0.5}, False, False),
    ],
)
def test_parts_say_what_an_arm_does(method, settings, control, generative):
    arm = augmentation(method=method, **settings)
    cell = Cell("resnet18", arm.method, arm.ratio, 1, arm.parts)
    assert (cell.is_control, cell.is_generative) == (control, generative)


def test_values_of_a_run(make_run):
    run = read_run(make_run())
    one = run.results.estimate("macro_auprc")
    assert (one.value, one.low, one.high) == pytest.approx((0.9, 0.88, 0.92))
    own = run.results.metrics.per_class["protein"].recall
    assert run.results.estimate("protein/recall").value == own
    assert run.results.estimate("dust/recall").value is None
    assert run.command == "python -m svp_lightning seed=1"
    assert run.cell.name == "ResNet-50, diffusion 1×"
    # The ratio of a method that adds nothing is dropped.
    assert read_run(make_run("other", method="class_weights", ratio=1.0)).cell.ratio == 0


def test_predictions_of_a_run(make_run):
    folder = make_run(with_predictions=True)
    run = read_run(folder)
    assert run.predictions().class_names == CLASSES
    write_predictions(folder / "predictions.parquet", made_up_predictions({"dust": 3, "glass": 2}))
    with pytest.raises(SvpError, match="dust"):
        run.predictions()
    (folder / "predictions.parquet").unlink()
    assert run.predictions() is None


def test_missing_folder_file_and_study(tmp_path):
    for read in (read_run, read_study):
        with pytest.raises(SvpError, match="no folder"):
            read(tmp_path / "nowhere")
        with pytest.raises(SvpError, match=r"no results\.json"):
            read(tmp_path)


def test_experiments_tell_cells_apart_only_where_nothing_else_does(make_run):
    folder = make_run("a", change={"experiment": "guidance_1"}, ratio=1.0).parent
    make_run("b", change={"experiment": "guidance_2"}, ratio=2.0)
    assert [run.cell.variant for run in read_study(folder)] == ["", ""]
    make_run("c", change={"experiment": "guidance_3"}, ratio=2.0)
    assert [run.cell.variant for run in read_study(folder)] == [f"guidance_{k}" for k in (1, 2, 3)]
    make_run("d", change={"experiment": "guidance_3"}, ratio=2.0)
    with pytest.raises(SvpError, match="same cell"):
        read_study(folder)


@pytest.fixture
def limited(make_run):
    """``limited(limit, seed)``: a run of a random split, with a few more images each seed."""

    def make(limit, seed):
        train = {"protein": 9000, "silicone_oil": 1000 + 7 * seed, "air_bubble": 990 + 7 * seed}
        provenance = {"data": f"{seed}{limit}", "rare_images": limit}
        change = {"provenance": provenance, "counts": {"train": train}}
        return make_run(f"{limit}-{seed}", change=change, seed=seed)

    return make


def test_limits_are_a_learning_curve_and_seeds_of_a_random_split_are_one_place_on_it(limited):
    for seed in (1, 2):
        folder = limited(None, seed)
    assert {run.cell.real_images for run in read_study(folder.parent)} == {None}
    for seed in (1, 2):
        limited(50, seed)
    cells = [(run.cell.real_images, run.cell.seed) for run in read_study(folder.parent)]
    assert cells == [(50, 1), (50, 2), (997, 1), (997, 2)]


def test_scales_are_not_mixed(make_run):
    folder = make_run("a", change={"scale": "demo"})
    make_run("b", seed=2, change={"scale": "demo"})
    assert len(read_study(folder.parent)) == 2
    make_run("c", seed=3)
    with pytest.raises(SvpError, match=r"several scales: .*scale=demo.* and c \(scale=tiny\)"):
        read_study(folder.parent)


def test_unfinished_cells(make_run):
    done = make_run("done")
    study = done.parent
    (study / "config.yaml").write_text("")
    (done / ".hydra").mkdir()
    (done / ".hydra" / "config.yaml").write_text("")
    started = {"open": "", "predict": "task: predict\n", "eval": "task: evaluate\n"}
    for name, text in started.items():
        (study / name).mkdir()
        (study / name / "config.yaml").write_text(text)
    assert unfinished_cells(study) == (study / "eval", study / "open")


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


def test_ratio_0_and_none_are_one_control_and_not_two_seeds(make_run):
    folder = make_run("a", method="none", seed=1)
    make_run("b", method="diffusion", ratio=0.0, seed=1)
    make_run("c", method="diffusion", ratio=0.0, seed=2)
    (group,) = group_runs(read_study(folder.parent))
    assert group.seeds == (1, 2)


@pytest.fixture
def variants(make_run):
    """Two guidance strengths, and the control twice: as ``none`` and as 0 × generated images."""
    for seed in (1, 2):
        for name in ("guidance_1", "guidance_2"):
            folder = make_run(f"{name}{seed}", seed=seed, auprc=0.9, change={"experiment": name})
        same = make_run(f"none{seed}", method="none", seed=seed, change={"experiment": "control"})
        values = json.loads((same / "results.json").read_text())
        change = {"experiment": "zero", "metrics": values["metrics"], "ci95": values["ci95"]}
        make_run(f"zero{seed}", ratio=0.0, seed=seed, change=change)
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
    groups = group_runs(read_study(variants))
    assert {"control", "guidance_2"} <= {g.cell.variant for g in groups if g.cell.is_control}
    found = {g.cell.variant: control_of(g, groups) for g in groups if not g.cell.is_control}
    assert found["guidance_1"] is None
    assert found["guidance_2"].cell.variant == "guidance_2"
