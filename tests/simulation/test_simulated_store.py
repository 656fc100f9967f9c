import signal
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from svp_lightning.data.store import Store
from svp_lightning.simulation.simulated_store import (
    fresh_processes,
    leave_with_parent,
    plan_images,
    simulate_instruments,
    simulate_store,
)
from tests.simulation.few import FEW

SIZE, SEED = 16, 11


class Killed(BaseException):
    """In place of SIGKILL between two chunks."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Store:
    path = tmp_path_factory.mktemp("simulated") / "store"
    simulate_store(path, FEW, SIZE, SEED, lambda done: None)
    return Store.open(path)


def assert_equal(a: Store, b: Store) -> None:
    np.testing.assert_array_equal(a.images, b.images)
    assert a.particles.equals(b.particles)
    assert a.sha256 == b.sha256


def test_the_store_holds_what_was_asked_for(whole: Store) -> None:
    assert whole.class_names == ("protein", "silicone_oil", "air_bubble")
    for split in ("train", "val", "test"):
        assert whole.counts(split) == {"protein": 6, "silicone_oil": 4, "air_bubble": 4}
    assert whole.pixel_size_um == pytest.approx(16.64 / SIZE)
    assert (whole.particles["origin"] == "simulated").all()
    physical = {"radius_um", "ecd_um", "defocus_um", "refractive_index", "morphology", "pixel_um"}
    assert physical <= {*whole.particles}
    assert (whole.particles["true_label"] == whole.particles["label"]).all()
    assert not whole.particles["label_flipped"].any()
    assert (whole.particles["ecd_um"] > 0).all()


def test_a_store_of_boxes_has_no_one_pixel_size(whole: Store, tmp_path: Path) -> None:
    boxes = FEW.model_copy(update={"crop": "box"})
    simulate_store(tmp_path / "store", boxes, SIZE, SEED, lambda done: None)
    store = Store.open(tmp_path / "store")
    assert store.pixel_size_um is None  # scale bars and sizes in um would be wrong
    assert store.particles["pixel_um"].nunique() > whole.particles["pixel_um"].nunique()


def test_sessions_never_cross_splits(whole: Store) -> None:
    plan = plan_images(FEW)
    assert len(plan) == FEW.num_images
    assert not plan.duplicated(["label", "index"]).any()
    splits_of_group = whole.particles.groupby("group")["split"].nunique()
    assert (splits_of_group == 1).all()
    assert whole.particles.groupby("split")["group"].nunique().to_dict() == {
        "train": 2,
        "val": 1,
        "test": 2,
    }


def test_a_larger_training_set_leaves_the_test_images_alone(whole: Store, tmp_path: Path) -> None:
    fewer = FEW.model_copy(update={"counts": {"train": {"protein": 1}, "test": FEW.counts["test"]}})
    simulate_store(tmp_path / "store", fewer, SIZE, SEED, lambda done: None)
    other = Store.open(tmp_path / "store")
    np.testing.assert_array_equal(
        other.images[other.indices("test")], whole.images[whole.indices("test")]
    )


def test_a_killed_run_resumes_and_ends_equal(whole: Store, tmp_path: Path) -> None:
    written: list[int] = []

    def kill_at_half(count: int) -> None:
        written.append(count)
        if sum(written) >= 20:
            raise Killed

    with pytest.raises(Killed):
        simulate_store(tmp_path / "store", FEW, SIZE, SEED, kill_at_half)
    seen: list[int] = []
    simulate_store(tmp_path / "store", FEW, SIZE, SEED, seen.append)
    assert seen[0] == 20
    assert sum(seen) == FEW.num_images
    assert_equal(Store.open(tmp_path / "store"), whole)


def test_processes_and_chunks_do_not_change_a_bit(whole: Store, tmp_path: Path) -> None:
    apart = FEW.model_copy(update={"workers": 2, "chunk_size": 7})
    simulate_store(tmp_path / "store", apart, SIZE, SEED, lambda done: None)
    assert_equal(Store.open(tmp_path / "store"), whole)


def test_ctrl_c_leaves_the_processes_to_their_parent() -> None:
    with ProcessPoolExecutor(1, fresh_processes(), initializer=leave_with_parent) as pool:
        assert pool.submit(signal.getsignal, signal.SIGINT).result() is signal.SIG_IGN


def test_instruments_share_a_store_and_a_killed_run_resumes(tmp_path: Path) -> None:
    other = FEW.model_copy(update={"difficulty": 1.0})
    both, done = {"a": FEW, "b": other}, list[int]()

    def kill_in_second(count: int) -> None:
        done.append(count)
        if sum(done) > FEW.num_images:
            raise Killed

    with pytest.raises(Killed):
        simulate_instruments(tmp_path / "both", both, SIZE, SEED, kill_in_second)
    seen: list[int] = []
    store = simulate_instruments(tmp_path / "both", both, SIZE, SEED, seen.append)
    assert seen[0] == FEW.num_images
    assert sum(seen) == len(store) == 2 * FEW.num_images
    assert not (tmp_path / "both" / "parts").exists()
    assert store.particles["group"].str[:2].unique().tolist() == ["a-", "b-"]
    for k, (name, settings) in enumerate(both.items()):
        simulate_store(tmp_path / name, settings, SIZE, SEED + k, lambda done: None)
        alone = Store.open(tmp_path / name)
        rows = slice(k * len(alone), (k + 1) * len(alone))
        np.testing.assert_array_equal(store.images[rows], alone.images)
        assert (store.particles["id"][rows] == f"{name}-" + alone.particles["id"].values).all()
