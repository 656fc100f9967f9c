"""Folders with a table of labels, groups, sizes and splits; every bad row is named."""

import math
import shutil
from pathlib import Path

import pytest
from PIL import Image

from svp_lightning.data.importers.summary import IngestSummary
from tests.data.importers.class_folders import COUNT, particle


def write_table(root: Path, extra: str = "", columns: str = "path,label,group,size_um") -> None:
    lines = [columns]
    for name, label in (("Silicone Oil", "silicone oil"), ("protein", "Protein")):
        lines += [f"{name}/{n:02d}.png,{label},vial{n % 4},{n}.5" for n in range(COUNT)]
    (root / "list.csv").write_text("\n".join(lines) + "\n" + extra)


def test_a_table_gives_labels_groups_and_sizes(root, ingest) -> None:
    write_table(root)
    store = ingest(table="list.csv")
    assert store.class_names == ("protein", "silicone_oil")
    assert set(store.particles["group"]) == {"vial0", "vial1", "vial2", "vial3"}
    assert (store.particles.groupby("group")["split"].nunique() == 1).all()
    by_source = store.particles.set_index("source")["ecd_um"]
    assert by_source["protein/11.png"] == 11.5
    assert sum(IngestSummary(store).sizes.values()) == 2 * COUNT


@pytest.mark.parametrize(
    ("encoding", "first", "name"),
    [
        *((encoding, "", "Größe µ") for encoding in ("utf-8-sig", "utf-16", "latin-1")),
        ("utf-8", "sep=;\n", "a,b,c,d,e,f,g"),  # as Excel states it
    ],
)
def test_tables_come_in_any_encoding_and_separator(
    root, ingest, refuses, encoding, first, name
) -> None:
    write_table(root)
    text = (root / "list.csv").read_text().replace(",", ";").replace("vial1", name)
    (root / "list.csv").write_bytes((first + text).encode(encoding))
    assert name in set(ingest(table="list.csv").particles["group"])
    (root / "list.csv").write_bytes((first + text + "protein/99.png;oil\n").encode(encoding))
    refuses(f"row {26 + bool(first)}: 'protein/99.png' does not exist", table="list.csv")


def test_a_long_table_is_read_to_its_end(root, ingest) -> None:
    write_table(root)
    first, *rows = (root / "list.csv").read_text().splitlines()
    noted = [f"{first},note", *(f"{row},{'x' * 5000}" for row in rows)]
    (root / "list.csv").write_text("\n".join(noted))
    assert set(ingest(table="list.csv").particles["group"]) == {f"vial{n}" for n in range(4)}


@pytest.mark.parametrize(
    "columns",
    [
        "Path,Class,GROUP,Size um",
        "filename,class,vial,size_um",
        "File Name,Class,sample,size-um",
        "image,label,vial,ECD_um",
        "path,label,class,size_um",  # the label counts
    ],
)
def test_headers_may_be_spelled_as_people_do(root, ingest, columns) -> None:
    write_table(root, columns=columns)
    store = ingest(table="list.csv")
    assert (len(store), store.class_names) == (2 * COUNT, ("protein", "silicone_oil"))
    particles = store.particles.set_index("source")
    assert particles.loc["protein/11.png", ["label", "ecd_um"]].tolist() == ["protein", 11.5]


def test_cells_missing_at_the_end_of_a_row_are_empty(root, ingest) -> None:
    write_table(root, "protein/new.png,protein\n")
    image = particle(999)
    Image.fromarray(image).save(root / "protein" / "new.png")
    row = ingest(table="list.csv").particles.set_index("source").loc["protein/new.png"]
    assert (row["label"], row["group"]) == ("protein", "image protein/new.png")
    assert math.isnan(row["ecd_um"])


def test_the_case_of_file_names_does_not_matter_unless_it_tells_files_apart(
    root, ingest, refuses
) -> None:
    write_table(root)
    file = root / "list.csv"
    file.write_text(file.read_text().replace(".png", ".PNG"))
    store = ingest(table="list.csv")
    assert set(store.particles["source"].str[-4:]) == {".png"}
    assert len(store) == 2 * COUNT
    Image.fromarray(particle(999)).save(root / "protein" / "03.Png")
    refuses("'protein/03.PNG' does not exist", table="list.csv")


def test_rows_whose_picture_is_missing_can_be_left_out(root, ingest, refuses) -> None:
    write_table(root, "protein/99.png,protein,v,1\nprotein/98.png,protein,v,1,2\n")
    store = ingest(table="list.csv", unreadable="skip")
    assert len(store) == 2 * COUNT
    skipped = IngestSummary(store).skipped
    assert skipped == {"picture is missing": 1, "row of another length": 1}
    assert "protein/99.png,picture is missing" in (store.path / "skipped.csv").read_text()
    (root / "list.csv").write_text("path,label\nprotein/99.png,protein\n")
    refuses("lists no picture that exists", table="list.csv", unreadable="skip")


def test_rows_with_a_bad_number_can_be_left_out(root, ingest, refuses) -> None:
    write_table(root)
    text = (root / "list.csv").read_text().replace(",1.5\n", ",1.5 um\n")
    (root / "list.csv").write_text(text.replace(",2.5\n", ",-2.5\n"))
    refuses("'1.5 um', not a number.*data.unreadable=skip leaves the row out", table="list.csv")
    store = ingest(table="list.csv", unreadable="skip")
    bad = text.count(",1.5 um\n"), text.count(",2.5\n")
    assert IngestSummary(store).skipped == {
        "ecd_um is not a number": bad[0], "size below 0": bad[1]
    }  # fmt: skip
    assert len(store) == 2 * COUNT - sum(bad)
    assert store.particles["ecd_um"].min() == 0.5
    assert not store.manifest.made_by["complete"]
    (root / "list.csv").write_text("path,label,ecd_um\nprotein/01.png,protein,x\n")
    refuses("no image with usable numbers", table="list.csv", unreadable="skip")


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("protein/99.png,protein,v,1\n", r"row 26: 'protein/99.png' does not exist"),
        ("../secret.png,protein,v,1\n", r"row 26: '../secret.png' is not inside"),
        ("/etc/passwd,protein,v,1\n", r"'/etc/passwd' is not inside"),
        ("protein/01.png,protein,v,1\n", r"row 26: path .*01.png is listed twice"),
        ("protein/01.png,protein,v,1,2\n", r"row 26: 5 cells where the header has 4"),
        ("protein/new.png\n", r"row 26: the label is empty"),
        (",protein,v,1\n", r"row 26: the path is empty"),
        ("\n\nprotein/99.png,protein,v,1\n", r"row 28: 'protein/99.png' does not exist"),
        ('\nprotein/new.png,protein,"v\n1",1\n,protein\n', r"row 29: the path is empty"),
        ("\nprotein/01.png,protein,v,1\n", r"row 27: path .*01.png is listed twice"),
    ],
)
def test_bad_rows_are_named(root, refuses, extra, message) -> None:
    (root.parent / "secret.png").write_bytes((root / "protein" / "00.png").read_bytes())
    shutil.copy(root / "protein" / "00.png", root / "protein" / "new.png")
    write_table(root, extra)
    refuses(message, table="list.csv")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("path,label", "photo,label"), "lacks the column path"),
        (("group,size_um", "path,size_um"), "column 'path' twice"),
        (("group,size_um", "id,size_um"), "row 6: id vial0 is listed twice"),
        ((",1.5", ",1.5 um"), "ecd_um is '1.5 um', not a number"),
        ((",1.5", ",-1.5"), r"list\.csv, row 3: ecd_um is below 0"),
        (("Protein", ""), "label is empty"),
        (("Protein", "--"), "no class name"),
        (("Protein", "silicone+oil"), r"'silicone oil' and 'silicone\+oil'"),
        (("group,size_um", "split,size_um"), "split is 'vial0'"),
        (("protein/03", '"protein/03'), r"list\.csv, row 17: a quotation mark is not closed"),
    ],
)
def test_bad_tables_are_named(root, refuses, change, message) -> None:
    write_table(root)
    text = (root / "list.csv").read_text()
    assert change[0] in text
    (root / "list.csv").write_text(text.replace(*change))
    refuses(message, table="list.csv")


def test_given_splits_must_not_share_a_group_or_lack_a_class(root, refuses) -> None:
    rows = [
        f"{name}/{n:02d}.png,{name},g{n},{('train', 'val', 'test')[n % 3]}"
        for name in ("Silicone Oil", "protein")
        for n in range(COUNT)
    ]
    header = "path,label,group,split"
    (root / "list.csv").write_text("\n".join([header, *rows]).replace("g1,val", "g0,val", 1))
    refuses("group g0 is in train and val", table="list.csv")
    only = [row for row in rows if not (row.startswith("protein") and row.endswith("test"))]
    (root / "list.csv").write_text("\n".join([header, *only]))
    refuses("test split has no images of protein", table="list.csv")
    shutil.copy(root / "protein" / "00.png", root / "protein" / "01.png")
    (root / "list.csv").write_text("\n".join([header, *rows]))
    refuses("are the same image in two splits", table="list.csv")
