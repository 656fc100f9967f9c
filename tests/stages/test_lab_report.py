"""What a quality report knows of the classifier's mistakes."""

from pathlib import Path

import numpy as np
import pytest

from svp_lightning.evaluation.particle_counts import samples_of
from svp_lightning.evaluation.predictions import Predictions
from svp_lightning.evaluation.schema import Results
from svp_lightning.report.quality_pictures import Contents
from svp_lightning.stages import lab_report
from tests import configured
from tests.report.counted import ECD, NAMES, SHARES, judged, predicted, store_of
from tests.report.made_up import made_up_results, write_run

ESD, ABD, MFI = "ESD diameter (vendor)", "ABD diameter (vendor)", "ECD (vendor)"


@pytest.mark.parametrize(
    ("tested_by", "source", "sized_by", "alike"),
    [
        (ECD, "simulated", ABD, True),
        (ECD, "folder", ESD, False),
        (ESD, "flowcam", "ESD diameter (vendor, scaled to data.pixel_size_um)", True),
        (MFI, "mfi", ABD, True),
        (ABD, "flowcam", ESD, False),
        (None, "simulated", ESD, False),
        (None, "folder", ESD, True),
        (ABD, "flowcam", "size", True),
    ],
)
def test_mistakes_are_of_a_size_only_where_both_sizes_are_one_diameter(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tested_by: str | None,
    source: str,
    sized_by: str,
    alike: bool,
) -> None:
    seen: list[Contents] = []
    monkeypatch.setattr(lab_report, "write_quality_report", lambda _, one: seen.append(one))
    values = made_up_results(NAMES)
    values["size_definition"] = tested_by
    values["provenance"]["preparation"] = {
        "source": source, "background": None, "background_grey": 170.0
    }  # fmt: skip
    labels = np.repeat([0, 1], 60)
    sizes = np.tile([1.0, 3.0, 7.0], 40)  # the small ones are all taken for protein
    p = np.where((labels[:, None] == 0) | (sizes[:, None] < 2), [0.9, 0.1], [0.1, 0.9])
    test = Predictions(np.arange(120).astype(str), labels, p, NAMES, SHARES, sizes)
    run = write_run(tmp_path / "run", values, test)
    store = store_of(tmp_path / "store", ["a"] * 6, size_definition=sized_by)
    raw = predicted(store)
    lab_report.lab_report(
        tmp_path, run, store, samples_of(store), raw, judged(raw), Results.model_validate(values),
        configured.tiny().predict, [], {"classifier": "c", "configuration": "d"},
    )  # fmt: skip
    (contents,) = seen
    confusion = contents.calls.corrector.confusion
    assert confusion is not None
    assert (confusion.images[1] != confusion.images[3]).any() == alike
    for said in (" ".join(contents.warnings), " ".join(capsys.readouterr().out.split())):
        assert (f"sized by {sized_by}, the classifier's test images by" in said) != alike
    expected = tested_by or (ECD if source == "simulated" else "not recorded")
    assert contents.provenance["Sizes of the classifier's test images"] == expected
