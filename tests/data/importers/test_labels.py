"""Names of classes, and labels joined by id, whatever a spreadsheet has made of the table."""

import unicodedata
from pathlib import Path

import pandas as pd
import pytest

from svp_lightning.data.importers.labels import class_names, labels_from_table
from svp_lightning.data.importers.tables import Skips
from svp_lightning.errors import DataError


@pytest.mark.parametrize(
    ("given", "name"),
    [
        (
            ["Silicone Oil", "silicone_oil", "SILICONE-OIL ", "silicone\N{EN DASH}oil"],
            "silicone_oil",
        ),
        ([unicodedata.normalize(form, "Gelée") for form in ("NFC", "NFD")], "gelée"),
    ],
)
def test_spellings_of_one_class_are_one_class(given: list[str], name: str) -> None:
    assert len(set(given)) == len(given)
    assert set(class_names(given, "here").values()) == {name}


@pytest.mark.parametrize(
    ("one", "other"),
    [("protein+", "protein-"), ("aggregate <10 µm", "aggregate >10 µm"), ("a.b", "a b")],
)
def test_spellings_that_differ_in_more_are_refused_by_name(one: str, other: str) -> None:
    with pytest.raises(DataError) as caught:
        class_names(["x", one, one, other], "the table")
    assert all(part in str(caught.value) for part in ("the table", repr(one), repr(other)))


def test_names_too_long_for_a_file_are_refused() -> None:
    assert set(class_names(["x" * 100], "here").values()) == {"x" * 100}
    with pytest.raises(DataError, match="x' is no class name"):
        class_names(["x" * 101], "here")


PARTICLES = pd.DataFrame(
    {"id": ["r/000001", "r/000002", "r/000010"], "group": "r", "particle_id": [1, 2, 10]}
)


def joined(folder: Path, text: str, particles: pd.DataFrame = PARTICLES) -> list[str | None]:
    (folder / "labels.csv").write_text(text)
    return labels_from_table(particles, folder / "labels.csv", Skips())["label"].tolist()


@pytest.mark.parametrize("cell", ["1", "1.0", "000001", "1,0"])
def test_a_number_is_the_same_however_it_is_written(tmp_path: Path, cell: str) -> None:
    text = f"run;particle_id;label\nr;{cell};oil\nr;10;air\n"
    assert joined(tmp_path, text) == ["oil", None, "air"]


@pytest.mark.parametrize(
    "header", ["Particle ID,Class", "PARTICLE_ID,Label", "ParticleID,class", "particle-id, label"]
)
def test_headers_may_be_spelled_as_people_do(tmp_path: Path, header: str) -> None:
    assert joined(tmp_path, f"{header}\n1,oil\n") == ["oil", None, None]


def test_labels_missing_at_the_end_of_a_row_leave_a_particle_unlabelled(tmp_path: Path) -> None:
    assert joined(tmp_path, "particle_id,label,comment\n1\n2,oil\n") == [None, "oil", None]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("particle_id,label\n1,oil\n\n000001,air\n", "row 4: run r, particle_id 1 is listed tw"),
        ("label,particle_id\noil\n", "row 2: the particle_id is empty"),
        ("particle_id,label\n1.5,oil\n", r"first: r/1\.5"),
        ("particle_id,label\n" + 100_000 * "0" + "x,oil\n", "first: r/000"),  # at once
        ("particle_id,label,Class,class\n1,oil,a,b\n", "columns 'Class' and 'class' for the same"),
        ("particle_id,label\n1,oil,air\n", "row 2: 3 cells where the header has 2"),
        ("particle_id,label\n1,oil+\n2,oil-\n", r"'oil\+' and 'oil-'"),
        ("particle_id,label,split\n1,oil,train\n2,air,spare\n", "row 3: the split is 'spare'"),
        *(  # the rest of the table is one cell, or some rows are
            (text, rf"labels\.csv, row 3: {problem}.* [Cc]lose .*quotation mark")
            for text, problem in (
                ('particle_id,label\n1,oil\n"2,air\n10,oil\n', "a quotation mark is not closed"),
                ('particle_id,label\n1,oil\n2,"air\n10,oil', "a quotation mark is not closed"),
                ('particle_id,label\n1,oil\n2,"' + "air\n" * 50_000, "field larger than"),
                ('particle_id,label\n1,oil\n"2,air\n10,"oil"\n', "1 cells where the header has 2"),
                ('particle_id,label\n1,oil\n"2,"air"\n10,oil\n', "1 cells where the header has 2"),
            )
        ),
        ('"particle_id,label\n1,oil\n', "row 1: a quotation mark is not closed"),
    ],
)
def test_bad_tables_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        joined(tmp_path, text)


def test_images_without_numbers_need_the_column_id(tmp_path: Path) -> None:
    images = PARTICLES.drop(columns="particle_id")
    with pytest.raises(DataError, match="lacks the column id"):
        joined(tmp_path, "run,particle_id,label\nr,1,oil\n", images)


def given(folder: Path, text: str, particles: pd.DataFrame = PARTICLES) -> list[tuple[object, ...]]:
    (folder / "labels.csv").write_text(text)
    found = labels_from_table(particles, folder / "labels.csv", Skips())
    return list(found.itertuples(index=False, name=None))


@pytest.mark.parametrize("name", ["group", "Vial", "sample"])
def test_groups_and_splits_of_the_table_are_taken(tmp_path: Path, name: str) -> None:
    text = f"particle_id,label,{name},split\n1,oil,v1,Train\n10,air,,testing\n2,,v3,\n"
    nothing = (None, None, None)
    assert given(tmp_path, text) == [("oil", "v1", "train"), nothing, ("air", None, "test")]
    empty = given(tmp_path, "particle_id,label,split\n1,oil,\n")
    assert empty == [("oil", None, None), nothing, nothing]


def test_the_coarsest_group_is_taken_and_a_run_is_one_only_next_to_ids(tmp_path: Path) -> None:
    text = "id,label,run,vial\nr/000001,oil,r,v1\n"
    assert given(tmp_path, text)[0] == ("oil", "v1", None)
    assert given(tmp_path, text.replace("vial", "other"))[0] == ("oil", "r", None)
    assert given(tmp_path, "run,particle_id,label\nr,1,oil\n")[0] == ("oil", None, None)


RUNS = pd.DataFrame(
    {
        "id": ["a/000001", "a/000002", "a/b/000001", "a/b/000002"],
        "group": ["a", "a", "a/b", "a/b"],
        "particle_id": [1, 2, 1, 2],
    }
)


@pytest.mark.parametrize(
    ("strangers", "lost", "kept"),
    [
        ([], {}, ["oil", "air", "oil", "air"]),
        (["a/000003"], {}, [None, None, "oil", "air"]),
        (["a/b/000003"], {}, ["oil", "air", None, None]),
        (["a/b/000003"], {"a/b": 1}, ["oil", "air", "oil", "air"]),  # it could not be read
        (["a/b/000003", "a/b/000004"], {"a/b": 1}, ["oil", "air", None, None]),
        (["c/000001"], {}, ["oil", "air", "oil", "air"]),  # a run that is not imported
    ],
)
def test_labels_of_a_list_that_may_be_renumbered_are_left_out(
    tmp_path: Path, strangers: list[str], lost: dict[str, int], kept: list[str | None]
) -> None:
    named = zip([*RUNS["id"], *strangers], ["oil", "air"] * 4, strict=False)
    table = tmp_path / "labels.csv"
    table.write_text("\n".join(["id,label", *(f"{name},{label}" for name, label in named)]) + "\n")
    skips = Skips("skip")
    assert labels_from_table(RUNS, table, skips, lost)["label"].tolist() == kept
    listed = skips.table()
    dropped = [name for name, label in zip(RUNS["id"], kept, strict=True) if label is None]
    assert listed["file"].tolist() == [*strangers, *dropped]
    assert not listed["particle_lost"].any()
    if strangers:
        with pytest.raises(DataError, match=f"labels {len(strangers)} particles that were not"):
            labels_from_table(RUNS, table, Skips(), lost)


def test_labels_of_images_are_named_by_their_path_and_kept(tmp_path: Path) -> None:
    lines = ["id,label", "r/000001,oil", r"r\000002,air", r"r\000010,air", "r/gone.png,air"]
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    images = PARTICLES.drop(columns="particle_id").replace("r/000010", r"r\000010")
    found = labels_from_table(images, tmp_path / "labels.csv", Skips("skip"))
    assert found["label"].tolist() == ["oil", "air", "air"]
