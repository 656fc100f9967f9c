"""Every change of the audit trail is found and named."""

import errno
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from svp_lightning.errors import ArtifactError
from svp_lightning.runtime.files import locked
from svp_lightning.runtime.trail import LAST, TRAIL, changed_files, record, recorded, verify

COUNT = 5
Lines = list[str]


@pytest.fixture
def trail(tmp_path: Path) -> Path:
    """Of five results."""
    for number in range(COUNT):
        run = tmp_path / "study" / f"run {number}"
        run.mkdir(parents=True)
        (run / "counts.csv").write_text(str(number))
        (run / "report.html").write_text("drawn from the counts")
        record(tmp_path, "predict", run, {"configuration": "abc"})
    return tmp_path


def test_a_trail_says_what_was_written_when_and_by_whom(trail: Path) -> None:
    lines = verify(trail)
    assert [line["number"] for line in lines] == [1, 2, 3, 4, 5]
    first = lines[0]
    assert (first["task"], first["folder"], list(first["files"])) == (
        "predict", "study/run 0", ["counts.csv"],
    )  # fmt: skip
    assert {"when", "who", "version", "configuration"} <= first.keys()
    assert changed_files(trail, lines) == ([], [])


def test_a_lock_that_another_process_holds_is_named(
    trail: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, said = trail / "study" / "run 0", ""
    with ThreadPoolExecutor(1) as other:
        with locked(trail / f".{TRAIL}.lock"):
            waits = other.submit(record, trail, "predict", run, {})
            while not said and not waits.done():
                said = capsys.readouterr().out
        waits.result(60)
    assert f"another process that holds {trail / f'.{TRAIL}.lock'}" in said
    assert len(verify(trail)) == COUNT + 1


def test_a_full_disk_leaves_no_part_of_a_line(trail: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    run = trail / "study" / "run 0"
    assert recorded(trail, run, "counts.csv")
    (run / "counts.csv").write_text("other")
    assert not recorded(trail, run, "counts.csv")
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(ArtifactError, match="No space left"):
            record(trail, "predict", run, {})
    assert len(verify(trail)) == COUNT
    record(trail, "predict", run, {})
    assert recorded(trail, run, "counts.csv")


def swapped(lines: Lines) -> Lines:
    return [lines[0], lines[2], lines[1], *lines[3:]]


CHANGES: dict[str, tuple[Callable[[Lines], Lines], int]] = {
    "changed": (lambda lines: [*lines[:2], lines[2].replace("run 2", "run 3"), *lines[3:]], 3),
    "removed": (lambda lines: [*lines[:1], *lines[2:]], 2),
    "removed first": (lambda lines: lines[1:], 1),
    "removed last": (lambda lines: lines[:-1], 4),
    "moved": (swapped, 2),
    "repeated": (lambda lines: [*lines[:2], *lines[1:]], 3),
    "cut": (lambda lines: [*lines[:-1], lines[-1][:40]], 5),
    "emptied": (lambda lines: [], 0),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_found_at_its_line(trail: Path, name: str) -> None:
    change, number = CHANGES[name]
    lines = (trail / TRAIL).read_text().splitlines()
    (trail / TRAIL).write_text("".join(line + "\n" for line in change(lines)))
    with pytest.raises(ArtifactError, match=rf"Line {number} of .*{TRAIL}"):
        verify(trail)


def test_a_kill_before_the_second_file_is_no_change(trail: Path) -> None:
    before = (trail / LAST).read_text()
    record(trail, "predict", trail / "study" / "run 1", {})
    (trail / LAST).write_text(before)
    assert len(verify(trail)) == COUNT + 1


def test_nothing_is_added_to_a_broken_line(trail: Path) -> None:
    with (trail / TRAIL).open("a") as file:
        file.write('{"number": 6')
    with pytest.raises(ArtifactError, match="last line"):
        record(trail, "predict", trail / "study" / "run 1", {})


def test_changed_and_missing_results_are_named_and_a_new_record_counts(trail: Path) -> None:
    (trail / "study" / "run 1" / "counts.csv").write_text("more")
    (trail / "study" / "run 2" / "counts.csv").unlink()
    changed = ["study/run 1/counts.csv"]
    assert changed_files(trail, verify(trail)) == (changed, ["study/run 2/counts.csv"])
    record(trail, "predict", trail / "study" / "run 1", {})
    assert changed_files(trail, verify(trail))[0] == []


def test_cells_of_a_sweep_write_one_chain(trail: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: record(trail, "evaluate", trail / "none", {}), range(40)))
    assert len(verify(trail)) == COUNT + 40
