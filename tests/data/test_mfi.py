"""MFI runs: tables and frames matched, boxes cut, both styles of flags."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from svp_lightning.data.ingest.mfi import ingest_mfi, plan_mfi
from svp_lightning.data.settings import MfiSettings
from svp_lightning.data.store import Store
from svp_lightning.errors import DataError

HEADER = (
    "#, Frame #,Particle #, Time Stamp(s),ECD(um),Area(pixels),Perimeter,Circularity,"
    "Intensity Mean,Intensity STD,Intensity Min,Intensity Max,Max Feret Diameter(um),"
    "Aspect Ratio,X Left,X Right,Y Top,Y Bottom,Edge Particle,label"
)
PIXEL_UM = 1.5


def write_run(folder: Path, run: str, flags: tuple[str, str] = ("0", "1")) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(sum(map(ord, run)))
    lines = [HEADER]
    for frame in (3, 7):
        picture = rng.integers(205, 215, (128, 160)).astype(np.uint8)
        for n in range(3):
            number, side, x, y = 10 * frame + n, 4 + n, 40 * n, 20 + 10 * n
            picture[y : y + side, x : x + side] = number
            ecd = PIXEL_UM * 2 * np.sqrt(side**2 / np.pi)
            label = ("protein", "Silicone oil", "")[n]
            lines.append(
                f"{len(lines)},{frame},{number},0.1,{ecd:.4f},{side**2},16,0.9,{4 * number},1,"
                f"{4 * number},840,9,1,{x},{x + side - 1},{y},{y + side - 1},"
                f"{flags[n == 0]},{label}"
            )
        Image.fromarray(picture).save(folder / f"{run}_frame_{frame:05d}.png")
    (folder / f"{run}.csv").write_text("\n".join(lines) + "\n")


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for k in range(3):
        write_run(
            tmp_path / "runs" / f"vial{k}", f"vial{k}", [("0", "1"), ("FALSE", "TRUE")][k % 2]
        )
    return tmp_path / "runs"


@pytest.fixture
def ingest(tmp_path: Path) -> Callable[..., Store]:
    def run(**options) -> Store:
        settings = MfiSettings(root=tmp_path / "runs", **options)
        ingest_mfi(tmp_path / "store", settings, lambda n: None)
        return Store.open(tmp_path / "store")

    return run


def test_runs_become_a_store(runs, ingest) -> None:
    store = ingest()
    table = store.particles.set_index("id")
    assert len(store) == 3 * 6
    assert (store.image_size, store.class_names) == (16, ("protein", "silicone_oil"))
    assert store.pixel_size_um == pytest.approx(PIXEL_UM, abs=1e-3)
    assert table["edge_of_frame"].sum() == 3 * 2
    row = table.loc["vial1/000071"]
    assert (row["label"], row["intensity_mean_vendor_grey"]) == ("silicone_oil", 71)
    assert row["source"] == "vial1_frame_00007.png"
    assert set(table.loc[table["label"].notna()].groupby("group")["split"].first()) == {
        "train",
        "val",
        "test",
    }


def test_crops_hold_the_box_and_its_margin_within_the_frame(runs) -> None:
    plan = plan_mfi(MfiSettings(root=runs, margin_px=3))
    for unit in plan.units:
        for image, row in zip(
            plan.read(unit).images,
            plan.particles.iloc[unit.start : unit.stop].itertuples(),
            strict=True,
        ):
            n = row.particle_id % 10
            left = 0 if n == 0 else 3  # the first particle touches the frame's edge
            assert image.shape == (4 + n + 6, 4 + n + left + 3)
            inner = image[3:-3, left:-3]
            assert (inner == row.particle_id).all()
            assert (image == row.particle_id).sum() == inner.size


def test_unlabelled_runs_need_no_split(runs, ingest) -> None:
    store = ingest(labelled=False, pixel_size_um=2.0)
    assert (store.labels == -1).all()
    assert store.pixel_size_um == 2.0


def edit(old: str, new: str) -> Callable[[Path], None]:
    def change(runs: Path) -> None:
        file = runs / "vial0" / "vial0.csv"
        assert old in file.read_text()
        file.write_text(file.read_text().replace(old, new))

    return change


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda r: (r / "vial0" / "vial0_frame_00007.png").unlink(), "refers to frame 7"),
        (lambda r: (r / "vial0" / "frame7.png").write_bytes(b""), "are both frame 7"),
        (edit(",80,85,", ",180,185,"), r"Particle vial0/0000\d2 lies at x 180..185.*outside"),
        (edit("X Left", "Left X"), "lacks the column x_left"),
        (edit(",1,protein", ",maybe,protein"), "Edge Particle is neither"),
        (edit(",7,71,", ",7,70,"), "particle 70 of frame 7: particle listed twice"),
        (lambda r: [p.unlink() for p in r.rglob("*.csv")], "holds no MFI run"),
    ],
)
def test_damage_names_file_and_particle(runs, ingest, damage, message) -> None:
    damage(runs)
    with pytest.raises(DataError, match=message):
        ingest()
    assert not (runs.parent / "store").exists()
