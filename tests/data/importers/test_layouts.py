"""Which of two levels of folders holds the classes, and what is done where that is not clear."""

from collections.abc import Iterable
from pathlib import Path

import pytest
from PIL import Image

from tests.data.importers.class_folders import particle


def write(root: Path, folders: Iterable[str]) -> None:
    seed = 0
    for folder in folders:
        (root / folder).mkdir(parents=True)
        for n in range(3):
            Image.fromarray(particle(seed)).save(root / folder / f"{n}.png")
            seed += 1


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    return tmp_path / "images"


def nested(outer: Iterable[str], inner: Iterable[str]) -> list[str]:
    return [f"{one}/{two}" for one in outer for two in inner]


CLASSES = ("Öl", "fibre")
RUNS = ("run1", "2024-03-08", "Vial 03b", "day4")
PLAIN = ("Anna", "Bert", "Carl", "Dora")


def groups(store) -> set[str]:
    return set(store.particles["group"])


@pytest.mark.parametrize(
    ("folders", "runs"),
    [
        (nested(RUNS, CLASSES), set(RUNS)),
        (nested(CLASSES, RUNS), set(RUNS)),
        (
            [f"Öl/{k}" for k in "abc"] + [f"fibre/{k}" for k in "def"],
            set("abcdef"),
        ),  # names that repeat nowhere
        # Images next to the inner folders make the outer ones classes.
        ([*CLASSES, *nested(CLASSES, ["large", "small"])], {"large", "small"}),
    ],
)
def test_names_and_repeats_show_which_level_holds_the_runs(root, ingest, folders, runs) -> None:
    write(root, folders)
    store = ingest()
    assert store.class_names == ("fibre", "öl")
    assert {group for group in groups(store) if not group.startswith("image ")} == runs


@pytest.mark.parametrize(
    ("outer", "inner"),
    [
        (("protein", "air"), ("protein", "oil")),
        (["Anna"], CLASSES),
        (PLAIN, CLASSES),
        (CLASSES, PLAIN),
        (RUNS, ("day1", "day2")),
        (("0", "1"), PLAIN),
        (PLAIN, ("0", "1")),
    ],
)
def test_in_doubt_both_readings_are_shown_and_either_can_be_set(
    root, ingest, refuses, outer, inner
) -> None:
    write(root, nested(outer, inner))
    both = "two ways.*classes.*runs.*layout=class_first.*layout=run_first"
    refuses(both)
    for layout, classes in (("class_first", outer), ("run_first", inner)):
        if len(classes) == 2 < max(len(outer), len(inner)):  # enough runs to split
            store = ingest(layout=layout)
            assert len(store.class_names) == 2
            assert groups(store) == set(inner if classes is outer else outer)


def test_the_level_is_the_same_in_every_split(root, ingest) -> None:
    write(
        root,
        [f"{s}/{r}/{c}" for s, r in zip(("train", "test"), RUNS, strict=False) for c in CLASSES],
    )
    store = ingest(fractions={"val": 0, "test": 0.2})
    assert store.class_names == ("fibre", "öl")
    assert store.counts("test") == {"fibre": 3, "öl": 3}
