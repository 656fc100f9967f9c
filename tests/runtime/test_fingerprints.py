"""Hashes of contents that are read once."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from svp_lightning.runtime.files import (
    SWEEP_MEMORY,
    _sha256,
    cached_hash,
    checked_hash,
    sha256_of_file,
    sha256_of_given,
)
from svp_lightning.stages.input_files import fingerprint


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
    (note,) = memory.iterdir()
    note.write_text('"known"')
    _sha256.cache_clear()  # as another process has it
    assert checked_hash(file) == "known"
    file.write_text("other")
    assert checked_hash(file) == sha256_of_file(file)
    assert len(list(memory.iterdir())) == 2


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
