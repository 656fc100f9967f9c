"""One walk: links followed, never in circles, in the same order everywhere."""

import os
from pathlib import Path

import pytest

from svp_lightning.errors import DataError
from svp_lightning.runtime import files
from svp_lightning.runtime.files import files_below, subfolders


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with a hidden one, and a folder next to it."""
    for name in ("root/b/2", "root/a/1", "root/.hidden/3", "away/deep/4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    return tmp_path / "root"


def names(root: Path, *left_out: Path, hidden: bool = False) -> list[str]:
    return [p.relative_to(root).as_posix() for p in files_below(root, left_out, hidden)]


def test_links_are_followed_and_hidden_folders_only_if_asked_for(root) -> None:
    (root / "c").symlink_to(root.parent / "away")
    (root / "nowhere").symlink_to(root / "gone")
    assert names(root) == ["nowhere", "a/1", "b/2", "c/deep/4"]
    assert names(root, hidden=True) == ["nowhere", ".hidden/3", "a/1", "b/2", "c/deep/4"]
    assert [p.name for p in subfolders(root)] == ["a", "b", "c"]


def test_circles_are_walked_once_and_a_second_link_is_no_circle(root) -> None:
    (root / "a" / "up").symlink_to(root)
    (root / "b" / "self").symlink_to(root / "b")
    (root / "c").symlink_to(root / "a")
    assert names(root) == ["a/1", "b/2", "c/1"]


def test_folders_left_out_are_known_by_any_path(root, monkeypatch) -> None:
    (root / "c").symlink_to(root.parent / "away")
    monkeypatch.chdir(root)
    assert names(root, root.parent / "away", Path("a"), Path("gone")) == ["b/2"]
    assert [p.name for p in subfolders(root, [Path("a")])] == ["b", "c"]


def test_a_folder_that_cannot_be_listed_is_an_error(root, monkeypatch) -> None:
    real = files.os.scandir

    def closed(path: str):
        if path.endswith("b"):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(files.os, "scandir", closed)
    with pytest.raises(DataError, match=r"root/b cannot be listed \(Permission denied\)"):
        names(root)


def test_a_name_that_is_not_utf_8_is_an_error(root) -> None:
    Path(os.fsdecode(os.fsencode(root / "b") + b"/Pr\xfcf.png")).write_bytes(b"")
    with pytest.raises(DataError, match=r"root/b/Pr\ufffdf\.png is not UTF-8") as caught:
        names(root)
    str(caught.value).encode()


def test_what_systems_leave_is_not_visible(root) -> None:
    (root / "a" / "._1").write_bytes(b"")
    assert "._1" not in {path.name for path in files.visible_files(root)}
    assert "._1" in {path.name for path in files.files_below(root)}
