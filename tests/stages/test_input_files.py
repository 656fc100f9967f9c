"""Which files below the root count as an import's input."""

from pathlib import Path

import pytest

from svp_lightning.stages.input_files import files_used
from tests import configured


def used(root: Path, table: str) -> set[str]:
    """Names of the files of ``root`` that an import by ``table`` may open."""
    (root / "list.csv").write_text(table, encoding="utf-8")
    is_used = files_used(configured.folder(root=root, table=Path("list.csv")))
    return {path.name for path in root.iterdir() if is_used(path)}


@pytest.mark.parametrize(
    "cell",
    [
        "day 1.img",
        '"oil, day 1.img"',
        '"the ""best"" one.img"',
        "oil/day 1.img",
        "oil\\day 1.img",
        "oil/../day 1.img/.",
        "  day 1.img ",
        "DAY 1.IMG",
        "day1",
        "größe.img",
    ],
)
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_files_that_a_table_names_are_used(tmp_path: Path, cell: str, separator: str) -> None:
    names = {"day 1.img", "oil, day 1.img", 'the "best" one.img', "day1", "größe.img"}
    for name in (*names, "2.png", "notes.txt", "y1"):
        (tmp_path / name).touch()
    plain = cell.strip().strip('"').replace('""', '"').replace("\\", "/").removesuffix("/.")
    expected = {Path(plain).name.lower(), "2.png"}
    lines = [separator.join(row) for row in (("path", "label"), (cell, "oil"), ("2.png", "oil"))]
    assert used(tmp_path, "\n".join(lines)) == expected


def test_the_separator_is_the_stated_one(tmp_path: Path) -> None:
    (tmp_path / "1, 2.img").touch()
    assert used(tmp_path, "sep=!\npath!label\n1, 2.img!oil\n") == {"1, 2.img"}


def test_a_file_is_not_used_for_a_name_that_only_holds_its_own(tmp_path: Path) -> None:
    for name in ("1.img", "11.img"):
        (tmp_path / name).touch()
    assert used(tmp_path, "path,label\n11.img,oil\n") == {"11.img"}


@pytest.mark.parametrize("table", ["", 'path,label\n"1.img,oil\n'])
def test_a_table_that_cannot_be_read_is_left_to_the_importer(tmp_path: Path, table: str) -> None:
    (tmp_path / "1.png").touch()
    assert used(tmp_path, table) == {"1.png"}
