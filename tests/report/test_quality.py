"""The page of a quality report."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from svp_lightning.data.store import Store
from svp_lightning.evaluation.particle_counts import Sample, particles_of, samples_of
from svp_lightning.evaluation.quality_table import calls_of, quality_table, reference, with_blank
from svp_lightning.report.quality import write_quality_report
from svp_lightning.report.quality_pictures import Contents
from tests.data.importers.made_runs import CAL, imported, write_flowcam
from tests.report.counted import SHARES, judged, predicted, store_of
from tests.report.pages import Page

HOSTILE = "<script>alert(1)</script> $\\frac{1}{0}$ & \"q'"


def written(
    folder: Path,
    groups: list[str],
    runs: dict,
    unfamiliar: list[bool] | None = None,
    blank: str | None = None,
    ml: float | None = None,
    earlier: str = "",
) -> Page:
    store = store_of(folder / "store", groups, runs)
    samples = [
        replace(one, earlier=one.name == earlier) for one in with_blank(samples_of(store), blank)
    ]
    return page_of(folder, store, samples, unfamiliar, ml)


def page_of(
    folder: Path,
    store: Store,
    samples: list[Sample],
    unfamiliar: list[bool] | None = None,
    ml: float | None = None,
) -> Page:
    found = predicted(store)
    seen = judged(found)
    if unfamiliar:
        seen = replace(seen, unfamiliar=np.array(unfamiliar))
    particles = particles_of(store, seen)
    calls = calls_of(samples, particles, (2.0, 10.0), found, None, SHARES, None)
    contents = Contents(
        store, particles, calls, quality_table(calls, ml), reference("injection", ml), ml,
        [f"Doubt of {HOSTILE}"], {"Classifier": HOSTILE},
    )  # fmt: skip
    return Page(write_quality_report(folder, contents))


@pytest.mark.draws
def test_hostile_names_are_shown_as_they_are(tmp_path: Path) -> None:
    runs = {HOSTILE: {"volume_ml": 0.5, "particles": 3, "note": HOSTILE}, "water": {"volume_ml": 1}}
    page = written(tmp_path, [HOSTILE] * 3 + ["water"] * 2, runs, blank="water", ml=1.0)
    assert "script" not in [tag for tag in page.tags if tag != "style"]
    assert page.words.count(HOSTILE) >= 5
    assert "USP <787>/<788>" in page.words
    assert "6,000 per container" in page.words
    assert "equivalent circular diameter" in page.words
    assert "nothing is corrected" in page.words  # no test predictions are given
    assert all(uri.startswith("data:") for uri in page.values("img", "src"))


@pytest.mark.parametrize(("strange", "refused"), [(3, True), (2, False)])
def test_a_run_that_is_mostly_unlike_every_class_is_not_to_be_reported(
    tmp_path: Path, strange: int, refused: bool
) -> None:
    unfamiliar = [number < strange for number in range(4)]
    page = written(tmp_path, ["a"] * 4, {"a": {"volume_ml": 0.5}}, unfamiliar)
    assert ("3 of its 4 particles are unlike" in page.words) == refused
    assert "not corrected, 95 % of counting alone" in page.words


def test_runs_are_next_to_one_another_with_their_difference(tmp_path: Path) -> None:
    runs = {name: {"volume_ml": 0.5} for name in "ab"}
    page = written(tmp_path, ["a"] * 2 + ["b"] * 4, runs)
    cells = [shown for _, shown in page.cells["compared"]]
    assert cells[6:9] == ["4", "8", "4"]  # all, of any size
    table = pd.read_csv(tmp_path / "quality_report.csv")
    assert set(table["quantity"]) == {"single", "difference"}
    assert set(table["size_definition"]) == {"equivalent circular diameter"}


def test_runs_that_are_compared_are_shown_without_their_blank(tmp_path: Path) -> None:
    runs = {name: {"volume_ml": 0.5} for name in ("a", "b", "water")}
    groups = ["a"] * 2 + ["b"] * 4 + ["water"]
    page = written(tmp_path, groups, runs, blank="water")
    assert "b, less water" in page.words
    assert "less the blank where there is one" in page.words
    cells = [shown for _, shown in page.cells["compared"]]
    assert cells[6:9] == ["2", "6", "4"]
    assert "No blank is subtracted" not in page.words
    page = written(tmp_path / "other", groups, runs, blank="water", earlier="a")
    assert "No blank is subtracted from a, but one from the other runs" in page.words


def test_what_the_user_states_is_not_said_by_the_files(tmp_path: Path) -> None:
    write_flowcam(tmp_path / "runs", "run1")
    options = {"dilution": 4.0, "pixel_size_um": CAL}
    store = imported("flowcam", tmp_path / "runs", labelled=False, **options)
    page = page_of(tmp_path, store, samples_of(store, 0.05, *options.values()))
    assert (
        "Volume imaged: 0.0125 mL of the original sample, which was diluted 4 times." in page.words
    )
    assert (
        "Stated, not read from its files: a volume imaged of 0.05 mL (its files: 0.0174 mL), a "
        "dilution of 4 and a pixel size of 0.55 µm (its files: 0.55 µm)." in page.words
    )
    files = page.words.split("as its files say")[1]
    assert "volume imaged ml0.0174" in files
    assert "dilution" not in files
    assert "0.0125" not in files
    assert "Stated" not in page_of(tmp_path, store, samples_of(store)).words


def test_a_blank_alone_is_a_report(tmp_path: Path) -> None:
    page = written(tmp_path, [], {"water": {"volume_ml": 0.5, "particles": 0}})
    assert "0 to 7.38" in page.words
