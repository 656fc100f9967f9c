import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_info

from svp_lightning.data.classes import PAPER_CLASSES
from svp_lightning.simulation.imaging import Pupil, abbe_intensity
from svp_lightning.simulation.lattice import ImagingGrid
from svp_lightning.simulation.simulator import Simulator, one_thread
from tests.simulation.few import FEW

NAMES = [PAPER_CLASSES[i % 3] for i in range(18)]
INDICES = np.arange(18)
SESSIONS = np.arange(18) % 2


@pytest.mark.parametrize("crop", ["window", "box"])
def test_an_image_does_not_depend_on_its_batch(crop: str) -> None:
    cropped = FEW.model_copy(update={"crop": crop})
    simulator = Simulator(cropped, 64, seed=5)
    images, table = simulator.render(NAMES, INDICES, SESSIONS)
    again = Simulator(cropped, 64, seed=5)
    for rows in ([17], [3, 4, 5], [12, 0, 9, 1]):
        part, part_table = again.render([NAMES[r] for r in rows], INDICES[rows], SESSIONS[rows])
        np.testing.assert_array_equal(part, images[rows])
        assert part_table.equals(table.iloc[rows].reset_index(drop=True))


def test_an_image_does_not_depend_on_threads() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one, _ = Simulator(FEW, 64, 5).render(NAMES[:6], INDICES[:6], SESSIONS[:6])
        torch.set_num_threads(2)
        two, _ = Simulator(FEW, 64, 5).render(NAMES[:6], INDICES[:6], SESSIONS[:6])
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(one, two)


def test_batches_agree_with_single_images_to_a_grey_level() -> None:
    crowded = FEW.model_copy(update={"neighbour_share": 0.3, "source_points": 25})
    simulator = Simulator(crowded, 64, seed=5)
    one, table = simulator.render(NAMES, INDICES, SESSIONS)
    drawn = Simulator(crowded, 64, seed=5).draw(NAMES, INDICES, SESSIONS)
    # As on an accelerator, with what another process has drawn.
    many, same = simulator.render(NAMES, INDICES, SESSIONS, batch_size=16, drawn=drawn)
    assert np.abs(one.astype(int) - many.astype(int)).max() <= 1
    assert (one != many).mean() < 0.01
    assert same.equals(table)


def test_fewer_images_of_more_source_points_are_imaged_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    points: list[int] = []

    def counting(grid: ImagingGrid, lens: Pupil, *rest: torch.Tensor) -> torch.Tensor:
        points.append(len(rest[0]) * grid.lattice_side**2)
        return abbe_intensity(grid, lens, *rest)

    monkeypatch.setattr("svp_lightning.simulation.simulator.abbe_intensity", counting)
    finer, rows = FEW.model_copy(update={"source_points": 25}), np.arange(60)
    Simulator(finer, 32, 3).render(["silicone_oil"] * 60, rows, rows * 0, batch_size=60)
    assert 25 * 10 < max(points) <= 25 * 60


def test_a_neighbour_changes_the_edge_of_its_own_image_only() -> None:
    alone = FEW.model_copy(update={"neighbour_share": 0.0})
    some = FEW.model_copy(update={"neighbour_share": 0.4})
    names, rows = ["silicone_oil"] * 24, np.arange(24)
    without, _ = Simulator(alone, 64, 3).render(names, rows, rows * 0)
    joined, _ = Simulator(some, 64, 3).render(names, rows, rows * 0)
    change = np.abs(without.astype(int) - joined).max(axis=(1, 2))
    assert 4 <= (change > 20).sum() <= 16
    assert (change == 0).sum() >= 8


def test_no_ghost_of_a_neighbour_comes_in_at_the_other_edge(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    crowded = FEW.model_copy(update={"neighbour_share": 1.0, "source_points": 25})
    rows = np.array([33, 36])  # far from the middle and from the focus

    def images() -> NDArray[np.int64]:
        return Simulator(crowded, 32, 3).render(["silicone_oil"] * 2, rows, rows % 6)[0].astype(int)

    seen = images()
    for place in ("lattice", "simulator"):
        monkeypatch.setattr(f"svp_lightning.simulation.{place}.GHOST_MARGIN", 2.0)
    assert np.abs(seen - images()).max() <= 3


@pytest.mark.parametrize("change", ["seed", "index", "session", "class"])
def test_every_part_of_its_name_changes_the_image(change: str) -> None:
    def image(seed: int = 1, index: int = 2, session: int = 0, name: str = "silicone_oil"):
        simulator = Simulator(FEW, 32, seed)
        return simulator.render([name], np.array([index]), np.array([session]))[0]

    other = {
        "seed": lambda: image(seed=2),
        "index": lambda: image(index=3),
        "session": lambda: image(session=1),
        "class": lambda: image(name="air_bubble"),
    }[change]()
    assert np.abs(other.astype(int) - image().astype(int)).mean() > 1


@pytest.mark.parametrize("image_size", [16, 32, 48, 64, 128])
def test_particles_stand_out_of_an_even_background(image_size: int) -> None:
    simulator = Simulator(FEW, image_size, seed=3)
    names = ["protein"] * 4 + ["silicone_oil"] * 4
    images, _ = simulator.render(names, np.arange(8), np.zeros(8, np.int64))
    assert images.shape == (8, image_size, image_size)
    corner = image_size // 8
    edges = np.stack([images[:, :corner, :corner], images[:, -corner:, -corner:]])
    assert abs(np.median(edges) - 175) < 12
    inside = images[:, image_size // 4 : -image_size // 4, image_size // 4 : -image_size // 4]
    assert (np.abs(inside.astype(int) - 175).max(axis=(1, 2)) > 15).all()
    assert simulator.pixel_size_um * image_size == pytest.approx(16.64)


def test_sizes_show_the_same_particles() -> None:
    names, rows = ["silicone_oil"] * 4, np.arange(4)
    coarse, coarse_table = Simulator(FEW, 32, 3).render(names, rows, rows * 0)
    fine, fine_table = Simulator(FEW, 64, 3).render(names, rows, rows * 0)
    assert coarse_table.drop(columns="pixel_um").equals(fine_table.drop(columns="pixel_um"))
    binned = fine.reshape(4, 32, 2, 32, 2).mean((2, 4))
    # What remains is the noise of the coarse camera, which is that of single pixels.
    assert np.abs(coarse - binned).mean() < 2.5
    assert np.corrcoef(coarse.ravel(), binned.ravel())[0, 1] > 0.95


def test_physical_columns_are_what_the_class_says() -> None:
    simulator = Simulator(FEW, 32, seed=1)
    n = 60
    rows, zero = np.arange(n), np.zeros(n, np.int64)
    _, oil = simulator.render(["silicone_oil"] * n, rows, zero)
    _, air = simulator.render(["air_bubble"] * n, rows, zero)
    _, protein = simulator.render(["protein"] * n, rows, zero)
    assert (oil["refractive_index"] == 1.403).all()
    assert set(air["refractive_index"]) <= {1.0, 1.1, 1.27}
    assert set(air["morphology"]) == {"sphere", "large_bubble"}
    assert set(protein["morphology"]) == {"fractal", "film", "fibre", "compact"}
    assert protein["refractive_index"].between(1.335, 1.45).all()
    in_front = oil["defocus_um"] > 0
    assert 0.45 < in_front.mean() < 0.9
    for table in (oil, air, protein):
        assert table["pixel_um"].between(0.95 * 16.64 / 32, 1.05 * 16.64 / 32).all()
        assert (table["ecd_um"] >= 2 * table["radius_um"] - 1e-6).all()
        assert table["ecd_um"].between(0.5, 100).all()


BOXES = FEW.model_copy(update={"crop": "box"})
"""The same instrument, exporting boxes."""


def test_larger_particles_have_larger_boxes_and_one_width() -> None:
    names, rows = ["silicone_oil"] * 40, np.arange(40)
    fixed, table = Simulator(FEW, 64, 3).render(names, rows, rows * 0)
    cut, cut_table = Simulator(BOXES, 64, 3).render(names, rows, rows * 0)
    assert table["pixel_um"].nunique() == 1
    assert cut_table["pixel_um"].max() > 1.3 * cut_table["pixel_um"].min()
    assert np.std([width_of(i) for i in cut]) < 0.7 * np.std([width_of(i) for i in fixed])
    spheres = cut_table[cut_table["morphology"] == "sphere"]
    assert spheres["pixel_um"].corr(spheres["radius_um"], method="spearman") > 0.4


def test_large_bubbles_are_seen_through_the_window_in_either_case() -> None:
    large = {"large_bubble_share": 1.0}
    rows = np.arange(6)
    images = [
        Simulator(each.model_copy(update=large), 64, 3).render(["air_bubble"] * 6, rows, rows * 0)
        for each in (FEW, BOXES)
    ]
    np.testing.assert_array_equal(images[0][0], images[1][0])


def width_of(image: NDArray[np.uint8]) -> int:
    """Columns in which the particle darkens or brightens the field clearly."""
    contrast = np.abs(image / np.median(image[:, [0, -1]]) - 1)
    return int((contrast > 0.06).sum(axis=0).astype(bool).sum())


def test_rendering_uses_one_thread_and_gives_them_back() -> None:
    def threads() -> list[int]:
        pools = threadpool_info()
        return [pool["num_threads"] for pool in pools if pool["user_api"] == "blas"]

    before = threads()
    with one_thread():
        assert set(threads()) == {1}
    assert threads() == before
