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


def test_names_of_runs_decide_for_the_other_level(root, ingest) -> None:
    write(root, nested(RUNS, CLASSES))
    store = ingest()
    assert (store.class_names, groups(store)) == (("fibre", "öl"), set(RUNS))


def test_runs_below_classes_of_any_name(root, ingest) -> None:
    write(root, nested(CLASSES, RUNS))
    store = ingest()
    assert (store.class_names, groups(store)) == (("fibre", "öl"), set(RUNS))


@pytest.mark.parametrize(
    ("outer", "inner"),
    [
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
        if len(classes) == 2:
            store = ingest(layout=layout)
            assert len(store.class_names) == 2
            assert len(groups(store)) == len(set(outer) | set(inner)) - 2


def test_usual_classes_on_both_levels_are_in_doubt(root, refuses) -> None:
    write(root, nested(("protein", "air"), ("protein", "oil")))
    refuses("two ways")


def test_one_run_of_several_classes_is_no_class(root, refuses) -> None:
    write(root, nested(["Anna"], CLASSES))
    refuses("two ways")


def test_folders_below_classes_that_repeat_nowhere_are_runs(root, ingest) -> None:
    write(root, ["Öl/a", "Öl/b", "Öl/c", "fibre/d", "fibre/e", "fibre/f"])
    assert ingest().class_names == ("fibre", "öl")


def test_images_next_to_the_inner_folders_make_the_outer_ones_classes(root, ingest) -> None:
    write(root, [*CLASSES, *nested(CLASSES, ["large", "small"])])
    assert ingest().class_names == ("fibre", "öl")


def test_the_level_is_the_same_in_every_split(root, ingest) -> None:
    write(
        root,
        [f"{s}/{r}/{c}" for s, r in zip(("train", "test"), RUNS, strict=False) for c in CLASSES],
    )
    store = ingest(fractions={"val": 0, "test": 0.2})
    assert store.class_names == ("fibre", "öl")
    assert store.counts("test") == {"fibre": 3, "öl": 3}
