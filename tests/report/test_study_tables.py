import io
import math

import pandas as pd
import pytest
from rich.console import Console

from svp_lightning.report.arms import read_study
from svp_lightning.report.study_tables import print_table, study_table, to_csv, to_markdown

from .made_up import made_up_study


@pytest.fixture
def study(make_run):
    """Two backbones × three ratios × two seeds, with one cell missing."""
    for backbone in ("resnet18", "resnet50"):
        for ratio in (0.0, 0.5, 10.0):
            for seed in (1, 2):
                if (backbone, ratio, seed) == ("resnet50", 10.0, 2):
                    continue
                folder = make_run(
                    f"{backbone}-{ratio}-{seed}", backbone=backbone, ratio=ratio, seed=seed,
                    auprc=0.5 + seed / 10,
                )  # fmt: skip
    return folder.parent


def test_one_row_per_cell_with_means_over_seeds(study):
    table = study_table(read_study(study))
    assert len(table) == 6
    assert table["seeds"].tolist() == ["1 2"] * 5 + ["1"]
    assert table["macro_auprc"].tolist() == pytest.approx([0.65] * 5 + [0.6])
    results = read_study(study)
    for row in table.to_dict("records"):
        runs = [
            run
            for run in results
            if (run.cell.backbone, run.cell.ratio) == (row["backbone"], row["ratio"])
        ]
        mean = sum(run.results.estimate("macro_f1").value for run in runs) / len(runs)
        assert row["macro_f1"] == pytest.approx(mean)
        assert row["macro_f1_low"] <= row["macro_f1"] <= row["macro_f1_high"]


def test_control_comes_first_and_ratios_ascend(study):
    table = study_table(read_study(study))
    assert table["ratio"].tolist() == [0.0, 0.5, 10.0] * 2
    assert table["treatment"].tolist()[:3] == [
        "Control (nothing added)",
        "Diffusion 0.5×",
        "Diffusion 10×",
    ]


def test_undefined_values_are_empty_not_zero(make_run):
    """A class that one run of the study does not know."""
    folder = make_run("a", class_names=("protein", "air_bubble"))
    make_run("b", seed=2)
    runs = read_study(folder.parent)
    table = study_table(runs)
    assert math.isnan(table["silicone_oil/precision"].iloc[0])
    assert "| – |" in to_markdown(table)
    back = pd.read_csv(io.StringIO(to_csv(table)))
    assert math.isnan(back["silicone_oil/precision"].iloc[0])


def test_csv_keeps_every_digit(study):
    table = study_table(read_study(study))
    back = pd.read_csv(io.StringIO(to_csv(table)))
    assert back["macro_f1"].tolist() == table["macro_f1"].tolist()
    assert "treatment" not in back


def test_markdown_is_a_rectangle(study):
    lines = to_markdown(study_table(read_study(study))).splitlines()
    assert len(lines) == 2 + 6
    assert len({line.count("|") for line in lines}) == 1


def test_console_table_fits_100_columns(study):
    stream = io.StringIO()
    print_table(study_table(read_study(study)), Console(file=stream, width=100))
    lines = stream.getvalue().splitlines()
    assert max(map(len, lines)) <= 100
    assert "…" not in stream.getvalue()
    assert len(lines) == 1 + 6 + 1
    assert "0.650 [" in stream.getvalue()


def test_order_of_folders_does_not_matter(study):
    results = read_study(study)
    for position, run in enumerate(results):
        run.folder.rename(study / f"{len(results) - position:02d}")
    again = study_table(read_study(study))
    pd.testing.assert_frame_equal(study_table(results), again)


def test_console_table_tells_numbers_of_real_images_apart(tmp_path):
    made_up_study(
        tmp_path / "s",
        arms=(("none", 0.0), ("diffusion", 1.0)),
        backbones=("resnet18",),
        seeds=(1,),
        real_images=(100, 1000),
    )
    stream = io.StringIO()
    table = study_table(read_study(tmp_path / "s"))
    print_table(table, Console(file=stream, width=100))
    lines = stream.getvalue().splitlines()
    numbers = [line.split()[1] for line in lines if line.startswith("ResNet-18")]
    assert numbers == ["100", "100", "1000", "1000"]
