"""Different classes never become one in silence, and one class is never two."""

import shutil
import unicodedata
from pathlib import Path

import pytest

from svp_lightning.data.importers.labels import class_names
from svp_lightning.errors import DataError
from tests.data.importers.class_folders import COUNT
from tests.data.importers.test_flowcam import ingest as flowcam  # noqa: F401 (a fixture)
from tests.data.importers.test_flowcam import runs  # noqa: F401 (a fixture)


def test_case_blanks_hyphens_and_underscores_make_no_other_class() -> None:
    given = ["Silicone Oil", "silicone_oil", "SILICONE-OIL ", "silicone\N{EN DASH}oil"]
    assert set(class_names(given, "here").values()) == {"silicone_oil"}


def test_an_accent_of_one_character_or_of_two_is_one_class() -> None:
    forms = [unicodedata.normalize(form, "Gelée") for form in ("NFC", "NFD")]
    assert forms[0] != forms[1]
    assert set(class_names(forms, "here").values()) == {"gelée"}


@pytest.mark.parametrize(
    ("one", "other"),
    [("protein+", "protein-"), ("aggregate <10 µm", "aggregate >10 µm"), ("a.b", "a b")],
)
def test_spellings_that_differ_in_more_are_refused_by_name(one: str, other: str) -> None:
    with pytest.raises(DataError) as caught:
        class_names(["x", one, one, other], "the table")
    assert all(part in str(caught.value) for part in ("the table", repr(one), repr(other)))


def test_class_folders_with_one_name_are_refused(root: Path, refuses) -> None:
    (root / "protein").rename(root / "protein+")
    shutil.copytree(root / "Silicone Oil", root / "protein-")
    refuses(r"'protein\+' and 'protein-'")
    for split in ("train", "test"):
        (root / split).mkdir()
    (root / "protein+").rename(root / "train" / "protein+")
    (root / "protein-").rename(root / "test" / "protein-")
    shutil.rmtree(root / "Silicone Oil")
    refuses(r"'protein-' and 'protein\+'|'protein\+' and 'protein-'")


@pytest.mark.parametrize("kind", ["table", "labels"])
def test_tables_with_one_name_for_two_classes_are_refused(root: Path, refuses, kind: str) -> None:
    names = [f"{name}/{n:02d}.png" for name in ("Silicone Oil", "protein") for n in range(COUNT)]
    rows = [f"{name},{'size <10' if 'protein' in name else 'size >10'}" for name in names]
    column = "path" if kind == "table" else "id"
    (root / "list.csv").write_text("\n".join([f"{column},label", *rows]))
    refuses("'size >10' and 'size <10'", **{kind: "list.csv"})


def test_saved_classifications_with_one_name_for_two_classes_are_refused(
    runs: Path,  # noqa: F811
    flowcam,  # noqa: F811
) -> None:
    for number, old in enumerate(("Oil drop", "Oil drop", "protein")):
        file = runs / f"day{number}" / f"run{number}.cla"
        file.write_text(file.read_text().replace(old, ("drop+", "drop-", "drop")[number]))
    with pytest.raises(DataError, match=r"'drop\+' and 'drop-'"):
        flowcam()
    assert len(flowcam(labelled=False)) == 24
