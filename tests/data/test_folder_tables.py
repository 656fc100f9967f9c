"""Folders with a table of labels, groups, sizes and splits; every bad row is named."""

import shutil
from pathlib import Path

import pytest

from svp_lightning.data.ingest.summary import summarise
from tests.data.class_folders import COUNT


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
    assert sum(summarise(store).sizes.values()) == 2 * COUNT


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "latin-1"])
def test_tables_come_in_any_encoding_and_separator(root, ingest, encoding) -> None:
    write_table(root)
    text = (root / "list.csv").read_text().replace(",", ";").replace("vial1", "Größe µ")
    (root / "list.csv").write_bytes(text.encode(encoding))
    assert "Größe µ" in set(ingest(table="list.csv").particles["group"])


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("protein/99.png,protein,v,1\n", r"row 26: 'protein/99.png' does not exist"),
        ("../secret.png,protein,v,1\n", r"row 26: '../secret.png' is not inside"),
        ("/etc/passwd,protein,v,1\n", r"'/etc/passwd' is not inside"),
        ("protein/01.png,protein,v,1\n", r"row 26: path .*01.png is listed twice"),
        ("protein/01.png,protein\n", r"row 26: 2 cells where the header has 4"),
    ],
)
def test_bad_rows_are_named(root, refuses, extra, message) -> None:
    (root.parent / "secret.png").write_bytes((root / "protein" / "00.png").read_bytes())
    write_table(root, extra)
    refuses(message, table="list.csv")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("path,label", "file,label"), "lacks the column path"),
        (("group,size_um", "path,size_um"), "column 'path' twice"),
        (("group,size_um", "id,size_um"), "row 6: id vial0 is listed twice"),
        ((",1.5", ",1.5 um"), "ecd_um is '1.5 um', not a number"),
        (("Protein", ""), "label is empty"),
        (("Protein", "--"), "no class name"),
        (("group,size_um", "split,size_um"), "split is 'vial0'"),
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
