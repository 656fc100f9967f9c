import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from svp_lightning.data.store import Store
from svp_lightning.data.store_writer import StoreWriter
from svp_lightning.errors import StoreError
from tests.examples import examples

CLASSES = ("protein", "silicone_oil")


def rows(start: int, stop: int, **changes: object) -> pd.DataFrame:
    index = np.arange(start, stop)
    frame = pd.DataFrame(
        {
            "id": [f"p{i}" for i in index],
            "label": [CLASSES[i % 2] for i in index],
            "split": ["train" if i < 6 else "test" for i in index],
            "group": "run-1",
            "origin": "simulated",
        }
    )
    return frame.assign(**changes)


def images(start: int, stop: int, size: int = 16) -> np.ndarray:
    return np.stack([np.full((size, size), i, dtype=np.uint8) for i in range(start, stop)])


def write(path: Path, chunk: int = 4, total: int = 10) -> Store:
    writer = StoreWriter(path, total, 16)
    for part in writer.pending(chunk):
        writer.write(part.start, images(part.start, part.stop), rows(part.start, part.stop))
    writer.finish(CLASSES, 0.26, {"by": "test"})
    return Store.open(path)


def test_reads_back_what_was_written(tmp_path: Path) -> None:
    store = write(tmp_path / "store")
    assert len(store) == 10
    assert store.class_names == CLASSES
    np.testing.assert_array_equal(store.images, images(0, 10))
    np.testing.assert_array_equal(store.labels, np.arange(10) % 2)
    assert store.counts("train") == {"protein": 3, "silicone_oil": 3}
    np.testing.assert_array_equal(store.indices("test", 1), [7, 9])
    assert not isinstance(store.images.base, np.ndarray)  # still a memory map, not a copy


@examples(15)
@given(chunks=st.tuples(*[st.integers(1, 11)] * 2), data=st.data())
def test_resumed_writer_equals_uninterrupted(tmp_path: Path, chunks, data) -> None:
    """Whatever is written first, in pieces of whatever size, by two writers or one."""
    shutil.rmtree(tmp_path)
    whole = write(tmp_path / "whole")
    first = StoreWriter(tmp_path / "cut", 10, 16)
    written = data.draw(st.lists(st.sampled_from(first.pending(chunks[0])), unique=True))
    for part in written:
        first.write(part.start, images(part.start, part.stop), rows(part.start, part.stop))
    del first
    resumed = StoreWriter(tmp_path / "cut", 10, 16)
    missing = set(range(10)).difference(*written)
    assert [i for part in resumed.pending(chunks[1]) for i in part] == sorted(missing)
    for part in resumed.pending(chunks[1]):
        resumed.write(part.start, images(part.start, part.stop), rows(part.start, part.stop))
    resumed.finish(CLASSES, 0.26, {"by": "test"})
    assert Store.open(tmp_path / "cut").sha256 == whole.sha256


@pytest.mark.parametrize("size", [0, 64, 1000])
def test_a_file_of_images_that_was_cut_while_it_was_made_is_made_again(
    tmp_path: Path, size: int
) -> None:
    StoreWriter(tmp_path, 10, 16)
    whole = (tmp_path / "images.npy").read_bytes()
    (tmp_path / "images.npy").write_bytes(whole[:size])
    assert len(write(tmp_path)) == 10
    assert (tmp_path / "images.npy").stat().st_size == len(whole)


def test_unfinished_store_is_refused(tmp_path: Path) -> None:
    writer = StoreWriter(tmp_path, 10, 16)
    writer.write(0, images(0, 4), rows(0, 4))
    with pytest.raises(StoreError, match="4 rows for 10 images"):
        writer.finish(CLASSES, None, {})
    with pytest.raises(StoreError, match=r"not a store"):
        Store.open(tmp_path)


@pytest.mark.parametrize("name", ["images.npy", "particles.parquet"])
@examples(15)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), cut=st.booleans())
def test_a_flipped_bit_and_a_cut_file_are_found(tmp_path: Path, name, place, bit, cut) -> None:
    shutil.rmtree(tmp_path)
    write(tmp_path)
    content = bytearray((tmp_path / name).read_bytes())
    at = int(place * len(content))
    content[at] ^= 1 << bit
    (tmp_path / name).write_bytes(content[:at] if cut else content)
    with pytest.raises(StoreError, match=f"{name} has changed"):
        Store.open(tmp_path)


def test_missing_file_is_named(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "images.npy").unlink()
    with pytest.raises(StoreError, match=r"lacks images\.npy"):
        Store.open(tmp_path)


@pytest.mark.parametrize("text", ["", "{}", "[1]", None])
def test_a_manifest_that_is_broken_or_of_another_schema_is_refused(
    tmp_path: Path, text: str | None
) -> None:
    write(tmp_path)
    manifest = tmp_path / "manifest.json"
    later = json.dumps(json.loads(manifest.read_text()) | {"schema_version": 99})
    manifest.write_text(later if text is None else text)
    with pytest.raises(StoreError, match="version 99" if text is None else r"manifest\.json"):
        Store.open(tmp_path)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"class_names": ["protein", "../oil"]}, r"class_names\.1.*'../oil'"),
        ({"sha256": {"../../secret": "0" * 64}}, "sha256"),
    ],
)
def test_a_manifest_that_names_places_elsewhere_is_refused(
    tmp_path: Path, changes: dict[str, object], named: str
) -> None:
    write(tmp_path)
    manifest = tmp_path / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | changes))
    with pytest.raises(StoreError, match=rf"manifest\.json: {named}"):
        Store.open(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": "bubble"}, "'label'.*bubble"),
        ({"split": "dev"}, "'split'.*dev"),
        ({"origin": "dreamt"}, "'origin'.*dreamt"),
        ({"id": "same"}, "'same' occurs twice"),
    ],
)
def test_rows_that_break_the_schema_are_refused(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    writer = StoreWriter(tmp_path, 4, 16)
    writer.write(0, images(0, 4), rows(0, 4, **changes))
    with pytest.raises(StoreError, match=message):
        writer.finish(CLASSES, None, {})


def test_unlabelled_images_are_minus_one(tmp_path: Path) -> None:
    writer = StoreWriter(tmp_path, 4, 16)
    writer.write(0, images(0, 4), rows(0, 4, label=None, split=""))
    writer.finish(CLASSES, None, {})
    store = Store.open(tmp_path)
    np.testing.assert_array_equal(store.labels, [-1] * 4)
    assert store.manifest.counts == {"": {"": 4}}


@pytest.mark.parametrize(("start", "size"), [(0, 15), (3, 16), (-1, 16)])
def test_images_that_do_not_fit_are_refused(tmp_path: Path, start: int, size: int) -> None:
    writer = StoreWriter(tmp_path / "store", 4, 16)
    with pytest.raises(StoreError, match="do not fit at row"):
        writer.write(start, np.zeros((2, size, size), np.uint8), pd.DataFrame({"id": ["a", "b"]}))
    assert writer.pending(4) == [range(4)]


@pytest.mark.parametrize(("smallest", "found"), [(1.0, 0.5), (0.5, None)])
def test_images_that_were_scaled_down_have_no_common_pixel_size(
    tmp_path: Path, smallest: float, found: float | None
) -> None:
    writer = StoreWriter(tmp_path, 2, 16)
    table = rows(0, 2).assign(scale=[1.0, smallest])
    writer.write(0, np.zeros((2, 16, 16), np.uint8), table)
    writer.finish(CLASSES, 0.5, {})
    store = Store.open(tmp_path)
    assert (store.pixel_size_um, store.image_pixel_um) == (0.5, found)
