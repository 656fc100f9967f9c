"""``task=ingest`` tells a scientist what came in, and what did not."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from tests.data.test_flowcam import write_run


def test_what_was_found_and_left_out_is_printed(
    svp: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for k in range(4):
        write_run(tmp_path / "runs" / f"day{k}", f"run{k}")
    (tmp_path / "runs" / "day0" / "run0_000002.tif").unlink()
    arguments = ["task=ingest", "data=flowcam", f"data.root={tmp_path / 'runs'}"]
    svp(*arguments, "data.unreadable=skip")
    shown = " ".join(capsys.readouterr().out.split())
    assert "21 images of 32 × 32 px, 0.55 µm/px: 8 protein, 7 oil_drop, 6 unlabelled" in shown
    assert "Left out: 3 (its picture cannot be read)" in shown
    for word in ("Protein", "Oil Drop", "Unlabelled", "run3", "2-5 µm", "0.0174"):
        assert word.lower() in shown.lower(), word
    (folder,) = tmp_path.glob("outputs/*/*")
    assert {f.name for f in folder.glob("contact_sheet_*.png")} == {
        f"contact_sheet_{name}.png" for name in ("protein", "oil_drop", "unlabelled")
    }
    assert len(pd.read_csv(folder / "particles.csv")) == 21
    assert len(pd.read_csv(folder / "skipped.csv")) >= 3
