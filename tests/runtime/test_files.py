"""Walking folders and hashing contents: links, circles, and what is read only once."""

import errno
import os
import socket
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Barrier

import pytest

from svp_lightning.errors import ArtifactError, DataError
from svp_lightning.runtime import user_files
from svp_lightning.runtime.files import (
    SWEEP_MEMORY,
    _sha256,
    cached_hash,
    checked_hash,
    locked,
    replacing,
    sha256_of_file,
    sha256_of_given,
    write_json,
)
from svp_lightning.runtime.user_files import files_below, in_threads, subfolders, visible_files
from svp_lightning.stages.input_files import fingerprint


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with a hidden one, and a folder next to it."""
    for name in ("root/b/2", "root/a/1", "root/.hidden/3", "away/deep/4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    return tmp_path / "root"


def names(root: Path, *left_out: Path, hidden: bool = False) -> list[str]:
    return [p.relative_to(root).as_posix() for p in files_below(root, left_out, hidden)]


def test_two_writers_of_one_file_do_not_disturb_each_other(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    with replacing(file) as first:
        first.write_text("1")
        write_json(file, 2)
    assert file.read_text() == "1"
    assert list(tmp_path.iterdir()) == [file]


def test_a_link_that_leads_nowhere_is_named(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "not mounted" / "folder")
    with pytest.raises(ArtifactError, match=r"the link .*/link leads nowhere"):
        write_json(tmp_path / "link" / "run" / "x.json", 1)
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "x.json"):  # another mistake
        (tmp_path / "missing").read_text()


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
    real = user_files.os.scandir

    def closed(path: str):
        if path.endswith("b"):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(user_files.os, "scandir", closed)
    with pytest.raises(DataError, match=r"root/b cannot be listed \(Permission denied\)"):
        names(root)


def test_a_name_that_is_not_utf_8_is_an_error(root) -> None:
    Path(os.fsdecode(os.fsencode(root / "b") + b"/Pr\xfcf.png")).write_bytes(b"")
    with pytest.raises(DataError, match=r"root/b/Pr\ufffdf\.png is not UTF-8") as caught:
        names(root)
    str(caught.value).encode()


def test_what_systems_leave_is_not_visible(root) -> None:
    (root / "a" / "._1").write_bytes(b"")
    assert "._1" not in {path.name for path in visible_files(root)}
    assert "._1" in {path.name for path in files_below(root)}


def test_files_are_read_again_where_one_was_replaced_or_added(tmp_path: Path) -> None:
    root, file = tmp_path / "images", tmp_path / "images" / "oil" / "0.png"
    file.parent.mkdir(parents=True)
    file.write_text("first")
    calls: list[str] = []

    def read(_: Path) -> str:
        calls.append(file.read_text())
        return calls[-1]

    def found() -> str:
        return cached_hash(root, read, tmp_path / "memory")

    assert [found(), found(), len(calls)] == ["first", "first", 1]
    before = file.stat()
    file.write_text("other")  # of the same size and time
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert found() == "other"
    file.with_name("1.png").write_text("second")
    found()
    assert len(calls) == 3


def test_file_of_a_setting_counts_by_its_contents(tmp_path: Path) -> None:
    a, b = tmp_path / "a.pt", tmp_path / "b.pt"
    for file in (a, b):
        file.write_text("weights")
    assert sha256_of_given(a) == sha256_of_given(b)
    b.write_text("others")
    assert sha256_of_given(a) != sha256_of_given(b)
    assert sha256_of_given(None) is None
    assert sha256_of_given(tmp_path / "none.pt") == str(tmp_path / "none.pt")


def test_cells_of_a_sweep_read_a_file_once_while_it_stays_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, memory = tmp_path / "images.npy", tmp_path / "memory"
    file.write_text("first")
    monkeypatch.setenv(SWEEP_MEMORY, str(memory))
    first = checked_hash(file)
    assert first == sha256_of_file(file)
    (note,) = memory.glob("*.json")
    note.write_text('"known"')
    _sha256.cache_clear()  # as another process has it
    assert checked_hash(file) == "known"
    file.write_text("other")
    assert checked_hash(file) == sha256_of_file(file)
    assert len(list(memory.glob("*.json"))) == 2


def test_cells_that_start_together_wait_for_the_one_that_reads(tmp_path: Path) -> None:
    file, together = tmp_path / "images.npy", Barrier(4)
    file.write_text("first")
    reads: list[Path] = []

    def read(found: Path) -> str:
        reads.append(found)
        time.sleep(0.1)
        return "hash"

    def cell(_: int) -> str:
        together.wait()
        return cached_hash(file, read, tmp_path / "memory")

    with ThreadPoolExecutor(4) as cells:
        assert set(cells.map(cell, range(4))) == {"hash"}
    assert len(reads) == 1


def test_kept_hash_is_of_the_files_that_count(tmp_path: Path) -> None:
    root = tmp_path / "images"
    root.mkdir()
    for name in ("a.png", "b.dat"):
        (root / name).write_text(name)

    def read(used: Callable[[Path], bool]) -> str:
        whole = partial(fingerprint, used=used)
        return cached_hash(root, whole, tmp_path / "memory", used=used)

    def pictures(file: Path) -> bool:
        return file.suffix == ".png"

    everything = read(lambda _: True)
    assert read(pictures) == fingerprint(root, used=pictures) != everything


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_without_locks_a_file_is_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """As on some network mounts; the lock file that others left there does not count."""

    def refused(*_: object) -> None:
        raise OSError(number, "no locks")

    file, waits = tmp_path / "x.lock", []
    file.touch()
    monkeypatch.setattr("fcntl.flock", refused)
    with locked(file):
        (held,) = tmp_path.glob("*.held")
        assert str(os.getpid()) in held.read_text()
    assert not held.exists()
    held.write_text(f"{_ended_process()}\n{socket.gethostname()}\n")
    with locked(file, lambda: waits.append(1)):
        assert str(os.getpid()) in held.read_text()


def _ended_process() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_work_in_threads_is_in_order_and_few_items_ahead() -> None:
    begun: list[int] = []
    ahead = []
    for done, result in enumerate(in_threads(lambda n: begun.append(n) or -n, range(100), 2)):
        assert result == -done
        ahead.append(len(begun) - done)
    assert len(begun) == 100
    assert max(ahead) <= 5


def test_work_in_threads_ends_with_its_first_error() -> None:
    begun: list[int] = []

    def work(number: int) -> None:
        begun.append(number)
        if number == 3:
            raise DataError("Number 3 is broken.", "Leave it out.")

    with pytest.raises(DataError, match="Number 3"):
        list(in_threads(work, range(1000), 2))
    assert len(begun) < 10
