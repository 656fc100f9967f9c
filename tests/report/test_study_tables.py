import io
import math
import re

import pandas as pd
import pytest
from rich.console import Console

from svp_lightning.report.study_runs import read_study
from svp_lightning.report.study_tables import print_table, study_table, to_csv, to_markdown
from svp_lightning.report.text import seed_ranges

from .made_up import made_up_study


@pytest.fixture
def study(make_run):
    """Two backbones × three ratios × two seeds, with one cell missing."""
    for backbone in ("resnet18", "resnet50"):
        for ratio in (0.0, 0.5, 10.0):
            for seed in (1, 2) if (backbone, ratio) != ("resnet50", 10.0) else (1,):
                name, auprc = f"{backbone}-{ratio}-{seed}", 0.5 + seed / 10
                folder = make_run(name, backbone=backbone, ratio=ratio, seed=seed, auprc=auprc)
    return folder.parent


def printed(folder, width=100):
    stream = io.StringIO()
    print_table(study_table(read_study(folder)), Console(file=stream, width=width))
    lines = stream.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert "…" not in stream.getvalue()
    return lines


@pytest.mark.parametrize(
    ("seeds", "words"),
    [
        ([], ""),
        ([4], "4"),
        ([1, 2], "1, 2"),
        ([1, 2, 3], "1–3"),
        ([1, 3, 4, 8, 9, 10], "1, 3, 4, 8–10"),
    ],
)
def test_seeds_in_a_row_are_a_range(seeds, words):
    assert seed_ranges(seeds) == words


def test_one_row_per_cell_with_means_over_seeds_in_order(study):
    runs = read_study(study)
    table = study_table(runs)
    assert table["seeds"].tolist() == ["1 2"] * 5 + ["1"]
    assert table["ratio"].tolist() == [0.0, 0.5, 10.0] * 2
    names = ["Control (nothing added)", "Diffusion 0.5×", "Diffusion 10×"]
    assert table["treatment"].tolist() == names * 2
    assert table["macro_auprc"].tolist() == pytest.approx([0.65] * 5 + [0.6])
    assert (table["macro_f1_low"] <= table["macro_f1"]).all()
    assert (table["macro_f1"] <= table["macro_f1_high"]).all()
    first = [run.results.metrics.macro_f1 for run in runs if run.cell.name == runs[0].cell.name]
    assert table["macro_f1"][0] == pytest.approx(sum(first) / 2)
    for position, run in enumerate(runs):  # the names of folders do not matter
        run.folder.rename(study / f"{len(runs) - position:02d}")
    pd.testing.assert_frame_equal(table, study_table(read_study(study)))


def test_undefined_values_are_empty_not_zero(make_run):
    """A class that one run of the study does not know."""
    folder = make_run("a", class_names=("protein", "air_bubble"))
    make_run("b", seed=2)
    table = study_table(read_study(folder.parent))
    assert math.isnan(table["silicone_oil/precision"].iloc[0])
    assert "| – |" in to_markdown(table)
    back = pd.read_csv(io.StringIO(to_csv(table)))
    assert math.isnan(back["silicone_oil/precision"].iloc[0])


def test_csv_keeps_every_digit_and_markdown_is_a_rectangle(study):
    table = study_table(read_study(study))
    back = pd.read_csv(io.StringIO(to_csv(table)))
    assert back["macro_f1"].tolist() == table["macro_f1"].tolist()
    assert "treatment" not in back
    lines = to_markdown(table).splitlines()
    assert len(lines) == 2 + 6
    assert len({line.count("|") for line in lines}) == 1


def test_names_are_no_markup_and_end_no_cell(make_run):
    name = "<script src=f>[a](b.c)|`d`"
    folder = make_run("a", class_names=("protein", name), method=f"{name}\n|")
    text = to_markdown(study_table(read_study(folder.parent)))
    assert not re.search(r"<script|\]\(|`", text)
    assert text.count(r"&lt;script src=f>[a]\(b.c)\|'d'") == 3 + 1
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in text.splitlines()}) == 1
    assert len(text.splitlines()) == 3


def test_console_table(study, tmp_path):
    lines = printed(study)
    assert sum("ResNet" in line for line in lines) == 6
    assert any("0.650 [" in line for line in lines)
    arms = (("none", 0.0), ("diffusion", 1.0))
    made_up_study(tmp_path / "s", arms=arms, backbones=("resnet18",), seeds=(1,),
                  real_images=(100, 1000))  # fmt: skip
    first, _, *lines = printed(tmp_path / "s", width=80)
    assert first == "ResNet-18"  # once, so that a terminal of 80 columns has room for the rest
    assert [line.split()[0] for line in lines if "[" in line] == ["100", "100", "1000", "1000"]
