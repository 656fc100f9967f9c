import json
import math

import pytest

from svp_lightning.errors import DataError
from svp_lightning.report.html import study_report
from svp_lightning.report.inputs import (
    read_results,
    read_study,
    unfinished_cells,
)


def break_metric(values):
    values["metrics"]["macro_f1"] = 1.5


def drop_metric(values):
    del values["metrics"]["macro_auprc"]


def drop_class(values):
    del values["metrics"]["per_class"]["protein"]


def wrong_schema(values):
    values["schema"] = 99


def negative_count(values):
    values["counts"]["test"]["protein"] = -1


def foreign_prevalence(values):
    values["prevalence"] = {"dust": 1.0}


def foreign_rare_class(values):
    values["rare_classes"] = ["dust"]


def interval_of_three(values):
    values["ci95"]["accuracy"] = [0.1, 0.2, 0.3]


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (break_metric, "metrics.macro_f1"),
        (drop_metric, "metrics.macro_auprc"),
        (drop_class, "metrics.per_class"),
        (wrong_schema, "schema"),
        (negative_count, "counts.test.protein"),
        (foreign_prevalence, "prevalence"),
        (foreign_rare_class, "rare_classes"),
        (interval_of_three, "ci95.accuracy"),
    ],
)
def test_malformed_results_name_file_and_key(make_run, spoil, named):
    folder = make_run()
    file = folder / "results.json"
    values = json.loads(file.read_text())
    spoil(values)
    file.write_text(json.dumps(values))
    with pytest.raises(DataError) as error:
        read_results(folder)
    assert str(file) in error.value.what
    assert named in error.value.what
    assert error.value.remedy
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null"])
def test_results_that_are_no_object(make_run, text):
    folder = make_run()
    (folder / "results.json").write_text(text)
    with pytest.raises(DataError, match=r"results\.json"):
        read_results(folder)


def test_missing_folder_file_and_study(tmp_path):
    with pytest.raises(DataError, match="no folder"):
        read_results(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"has no results\.json"):
        read_results(tmp_path)
    with pytest.raises(DataError, match="no folder"):
        read_study(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"no results\.json anywhere"):
        read_study(tmp_path)


def test_values_and_defaults(make_run):
    run = read_results(make_run())
    assert run.rare == ("silicone_oil", "air_bubble")
    assert run.synthetic["protein"] == 0
    assert not run.prevalence_is_given
    assert math.isclose(sum(run.prevalence.values()), 1)
    estimate = run.estimate("macro_auprc")
    assert (estimate.value, estimate.low, estimate.high) == (0.9, 0.9 - 0.02, 0.9 + 0.02)
    assert run.estimate("no/such").value is None


def test_not_a_number_is_undefined(make_run):
    folder = make_run()
    file = folder / "results.json"
    values = json.loads(file.read_text())
    values["metrics"]["per_class"]["protein"]["precision"] = float("nan")
    values["metrics"]["macro_precision"] = None
    file.write_text(json.dumps(values))
    run = read_results(folder)
    assert run.estimate("protein/precision").value is None
    assert run.estimate("macro_precision").value is None


def test_prevalence_in_any_unit(make_run):
    relative = {"air_bubble": 1, "protein": 998, "silicone_oil": 1}
    run = read_results(make_run(change={"prevalence": relative}))
    assert run.prevalence == {"protein": 0.998, "silicone_oil": 0.001, "air_bubble": 0.001}
    assert run.prevalence_is_given
    changed = {"prevalence": relative, "prevalence_stated": False}
    assert not read_results(make_run("test_split", change=changed)).prevalence_is_given
    assert list(run.prevalence) == list(run.class_names)


@pytest.mark.parametrize(
    ("method", "ratio", "is_control"),
    [
        ("none", 0.0, True),
        ("none", 1.0, True),
        ("diffusion", 0.0, True),
        ("diffusion", 0.5, False),
        ("duplicate", 0.0, True),
        ("class_weights", 0.0, False),
        ("classical", 0.0, False),
    ],
)
def test_what_counts_as_control(make_run, method, ratio, is_control):
    assert read_results(make_run(method=method, ratio=ratio)).cell.is_control is is_control


def test_ratio_of_a_method_that_adds_nothing_is_dropped(make_run):
    assert read_results(make_run(method="class_weights", ratio=1.0)).cell.ratio == 0


def test_two_results_of_one_cell(make_run):
    folder = make_run("a")
    make_run("b")
    with pytest.raises(DataError, match="same cell"):
        read_study(folder.parent)


def test_experiments_tell_cells_apart(make_run):
    folder = make_run("a", change={"experiment": "guidance_1"})
    make_run("b", change={"experiment": "guidance_2"})
    assert [run.cell.variant for run in read_study(folder.parent)] == ["guidance_1", "guidance_2"]


def test_experiment_names_are_not_variants_when_not_needed(make_run):
    folder = make_run("a", change={"experiment": "x"}, ratio=1.0)
    make_run("b", change={"experiment": "y"}, ratio=2.0)
    assert {run.cell.variant for run in read_study(folder.parent)} == {""}


@pytest.fixture
def split_anew(make_run):
    """``split_anew(limit, seed)``: a run whose seed has a few more training images."""

    def make(limit, seed, *, counts=True):
        train = {"protein": 9000, "silicone_oil": 1000 + 7 * seed, "air_bubble": 990 + 7 * seed}
        test = {"protein": 200, "silicone_oil": 100, "air_bubble": 66}
        provenance = {"data": f"{seed}{limit}", "rare_images": limit}
        change = {"provenance": provenance, "rare_classes": ["silicone_oil", "air_bubble"],
                  "counts": {"test": test} | ({"train": train} if counts else {})}  # fmt: skip
        return make_run(f"{limit}-{seed}", change=change, seed=seed)

    return make


def test_seeds_that_split_anew_are_seeds_not_a_learning_curve(split_anew):
    for seed in (1, 2, 3):
        folder = split_anew(None, seed)
    assert {run.cell.real_images for run in read_study(folder.parent)} == {None}


def test_limits_are_a_learning_curve_and_no_limit_is_one_place_on_it(split_anew):
    for seed in (1, 2):
        folder = split_anew(None, seed)
        split_anew(50, seed)
    cells = [(run.cell.real_images, run.cell.seed) for run in read_study(folder.parent)]
    assert cells == [(50, 1), (50, 2), (997, 1), (997, 2)]


def test_limits_beside_a_run_without_counts_are_reported(split_anew):
    split_anew(50, 1)
    folder = split_anew(None, 1, counts=False)
    words = study_report(folder.parent).read_text(encoding="utf-8")
    assert "<td>all</td>" in words


def test_unfinished_cells(make_run, tmp_path):
    done = make_run("done")
    study = done.parent
    (study / "config.yaml").write_text("")
    (done / ".hydra").mkdir()
    (done / ".hydra" / "config.yaml").write_text("")
    (study / "open").mkdir()
    (study / "open" / "config.yaml").write_text("")
    for task in ("predict", "evaluate"):
        (study / task).mkdir()
        (study / task / "config.yaml").write_text(f"task: {task}\nname: x\n")
    assert unfinished_cells(study) == (study / "evaluate", study / "open")


def test_scales_are_not_mixed(make_run):
    folder = make_run("a", change={"scale": "demo"})
    make_run("b", seed=2, change={"scale": "demo"})
    make_run("c", seed=3)
    assert [run.scale for run in read_study(folder.parent)] == ["demo", "demo", None]
    make_run("d", seed=4, change={"scale": "tiny"})
    with pytest.raises(DataError, match=r"several scales: .*scale=demo.* and d \(scale=tiny\)"):
        read_study(folder.parent)
