"""Corrected labels: applied to a view of the store, and refused where they do not fit."""

from pathlib import Path

import pandas as pd
import pytest

from svp_lightning.data.overrides import with_overrides
from svp_lightning.data.store import Store
from svp_lightning.errors import DataError
from tests.configured import folder

ROWS = [("p0", "protein", "relabel", "silicone_oil"), ("p1", "protein", "keep", "protein"),
        ("p4", "silicone_oil", "unsure", "silicone_oil")]  # fmt: skip


@pytest.fixture
def store(make_store) -> Store:
    return make_store([("protein", "train", 4), ("silicone_oil", "test", 2)])


def written(path: Path, rows=ROWS, **more: object) -> Path:
    table = pd.DataFrame(rows, columns=["id", "given", "decision", "label"]).assign(**more)
    table.to_csv(path / "labels.csv", index=False)
    return path / "labels.csv"


def test_only_relabelled_images_change_and_the_store_stays(store: Store, tmp_path: Path) -> None:
    changed = with_overrides(store, written(tmp_path, who="Ada", when="2026", why="clear ring"))
    assert (
        changed.particles["label"].tolist()
        == ["silicone_oil", *["protein"] * 3] + ["silicone_oil"] * 2
    )
    assert changed.counts("train") == {"protein": 3, "silicone_oil": 1}
    assert changed.labels.tolist() == [1, 0, 0, 0, 1, 1]
    recorded = changed.particles[["label_given", "label_who", "label_when", "label_why"]]
    assert recorded.iloc[0].tolist() == ["protein", "Ada", "2026", "clear ring"]
    assert recorded.iloc[1].tolist() == ["protein", "", "", ""]
    assert changed.sha256 != store.sha256
    assert Store.open(store.path).particles.equals(store.particles)


def test_a_file_of_ids_and_labels_is_enough(store: Store, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("id,label\np2,silicone_oil\n")
    changed = with_overrides(store, tmp_path / "labels.csv")
    assert changed.particles["label"].tolist()[2] == "silicone_oil"


@pytest.mark.parametrize(
    ("rows", "named"),
    [
        ([("p9", "protein", "relabel", "silicone_oil")], "'p9' is no image"),
        ([("p0", "protein", "relabel", "glass")], "'p0' gets a label"),
        ([("p0", "silicone_oil", "relabel", "silicone_oil")], "'p0' had another label"),
        ([("p0", "protein", "perhaps", "silicone_oil")], "'p0' has a decision"),
        ([ROWS[0], ROWS[0]], "id p0 is listed twice"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(
    store: Store, tmp_path: Path, rows: list[tuple[str, ...]], named: str
) -> None:
    with pytest.raises(DataError) as caught:
        with_overrides(store, written(tmp_path, rows))
    assert named in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_an_image_that_had_no_label_is_not_corrected(make_store, tmp_path: Path) -> None:
    store = make_store([("protein", "train", 4), (None, "", 2)])
    with pytest.raises(DataError, match=r"'p4' has no label.*data\.labels"):
        with_overrides(store, written(tmp_path, [("p4", "", "relabel", "protein")]))
    with_overrides(store, written(tmp_path, [("p4", "", "unsure", "protein")]))


@pytest.mark.parametrize("content", [None, b"", b"name,label\np0,protein\n", b"\xff\xfe\x00"])
def test_broken_files_are_refused(store: Store, tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "labels.csv"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(DataError, match=r"label_overrides=.*labels\.csv"):
        with_overrides(store, file)


def test_the_contents_of_the_file_are_part_of_what_the_data_is(tmp_path: Path) -> None:
    plain, file = folder(tmp_path), written(tmp_path)
    given = folder(tmp_path, label_overrides=file)
    assert "label_overrides" not in plain.identity()
    before = given.identity()
    assert before == folder(tmp_path, label_overrides=file.rename(tmp_path / "moved")).identity()
    written(tmp_path, ROWS[:1])
    assert given.identity() != before
