"""Bare collages are split at their gaps, exactly; what was drawn on them is no particle."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from svp_lightning.data.importers.collage import find_tiles, without_drawn
from svp_lightning.data.importers.flowcam_lists import read_particles
from svp_lightning.data.importers.images import Picture, read_picture
from svp_lightning.data.importers.pictures import BOX
from svp_lightning.data.store import Store
from svp_lightning.errors import DataError
from tests.data.importers.made_runs import REFERENCE, WIDTH, draw_collage, imported, plan, save


def page_of(path: Path) -> Picture:
    return without_drawn(path, read_picture(path))


def boxes_of(path: Path) -> list[list[int]]:
    return find_tiles(page_of(path), path)[0].tolist()


@pytest.mark.parametrize("ground", [0, 255])
@pytest.mark.parametrize("gap", [1, 2, 5])
@pytest.mark.parametrize("seed", [0, 1])
def test_tiles_are_found_exactly_and_in_reading_order(tmp_path, seed, gap, ground) -> None:
    page, boxes = draw_collage(seed, ground, gap)
    assert boxes_of(save(page, tmp_path / "a.png")) == boxes


def test_frames_text_and_scale_bars_are_no_particles(tmp_path) -> None:
    page, boxes = draw_collage(3)
    image = Image.fromarray(page).convert("RGB")
    pen = ImageDraw.Draw(image)
    bottom = max(y + h for _, y, _, h in boxes)
    pen.rectangle((2, bottom + 10, 82, bottom + 18), fill="white")  # a scale bar
    pen.text((2, bottom + 24), "20 µm FlowCam", fill="white", font_size=24)
    x, y, w, h = boxes[7]
    pen.rectangle((x - 2, y - 2, x + w + 1, y + h + 1), outline=(255, 242, 0), width=2)
    pen.line((boxes[9][0] + 4, boxes[9][1] + 8, boxes[9][0] + 8, boxes[9][1] + 8), fill="red")
    image.save(tmp_path / "a.png")
    found, left_out = find_tiles(page_of(tmp_path / "a.png"), tmp_path / "a.png")
    assert found.tolist() == boxes
    assert len(left_out) > 5
    assert {reason.split(":")[0] for _, reason in left_out} == {"annotation"}


def test_a_line_of_strong_colour_over_a_particle_is_replaced_by_background(tmp_path) -> None:
    page, boxes = draw_collage(3)
    colour = np.repeat(page[..., None], 3, 2)
    x, y, w, _ = boxes[4]
    colour[y + 2 : y + 6, x + 2 : x + w - 2] = (255, 242, 0)
    assert (w - 4) * 4 >= 64
    Image.fromarray(colour).save(tmp_path / "a.png")
    found = plan("collage", tmp_path)
    cut = found.read(found.units[0])
    opaque = cut.opaque[4]
    assert opaque is not None
    assert not opaque[2:6, 2 : w - 2].any()
    assert (~opaque).sum() == 4 * (w - 4)


def test_a_scaled_collage_shows_no_edges(tmp_path) -> None:
    page, boxes = draw_collage(5, gap=3)
    small = Image.fromarray(page).resize((int(WIDTH * 0.77), int(400 * 0.77)), Image.BILINEAR)
    small.save(tmp_path / "a.png")
    found = boxes_of(tmp_path / "a.png")
    assert len(found) == len(boxes)
    for x, y, w, h in found:
        tile = np.asarray(small)[y : y + h, x : x + w]
        for line in (tile[0], tile[-1], tile[:, 0], tile[:, -1]):
            assert np.median(line) > 135


def ingest(root: Path, **options: object) -> Store:
    return imported("collage", root, **options)


def test_collages_become_a_store_unlabelled_or_with_a_table(tmp_path) -> None:
    pages = {}
    for name in ("run_000001", "run_000002", "other_000001", "third_000001", "fourth_000001"):
        pages[name] = draw_collage(len(pages), tiles=6)
        save(pages[name][0], tmp_path / "in" / f"{name}.png")
    save(pages["run_000001"][0], tmp_path / "in" / "run_000001_bin.png")
    save(pages["run_000001"][0], tmp_path / "in" / "cal_image_000001.png")
    store = ingest(tmp_path / "in", pixel_size_um=0.25)
    assert len(store) == 30
    assert (store.labels == -1).all()
    assert store.pixel_size_um == 0.25
    assert store.particles.groupby("group").size().to_dict()["run"] == 12
    row = store.particles.set_index("id").loc["run_000002/000003"]
    box = [row[f"box_{name}_px"] for name in "xywh"]
    assert box == pages["run_000002"][1][2]

    ids = store.particles["id"]
    lines = [f"{name},{'oil' if int(name[-1]) % 2 else 'air'}" for name in ids if name[-1] != "6"]
    (tmp_path / "in" / "labels.csv").write_text("\n".join(["id,label", *lines]))
    labelled = ingest(tmp_path / "in", labels="labels.csv")
    assert labelled.class_names == ("air", "oil")
    assert labelled.particles["label"].isna().sum() == 5
    assert set(labelled.particles.dropna(subset="label")["split"]) == {"train", "val", "test"}
    assert (labelled.images == store.images).all()


@pytest.mark.parametrize(
    ("page", "message"),
    [
        (np.full((60, 60), 7, np.uint8), "no particle tiles"),
        (np.random.default_rng(0).integers(90, 160, (60, 60)).astype(np.uint8), "shows no black"),
    ],
)
def test_pictures_that_are_no_collages_are_refused_or_left_out(tmp_path, page, message) -> None:
    save(page, tmp_path / "in" / "a.png")
    with pytest.raises(DataError, match=message):
        ingest(tmp_path / "in")
    save(draw_collage(0)[0], tmp_path / "in" / "b.png")
    assert set(ingest(tmp_path / "in", unreadable="skip").particles["source"]) == {"b.png"}


def test_only_the_instruments_numbers_join_pictures_to_a_run(tmp_path) -> None:
    """Two vials are two runs, each with a volume of its own."""
    for seed, name in enumerate(("vial_1", "vial_2", "lot 4711_12", "run_000001", "run_000002")):
        save(draw_collage(seed, tiles=6)[0], tmp_path / "in" / f"{name}.png")
    sizes = ingest(tmp_path / "in").particles.groupby("group").size().to_dict()
    assert sizes == {"vial_1": 6, "vial_2": 6, "lot 4711_12": 6, "run": 12}


def test_labels_of_unknown_particles_are_refused(tmp_path) -> None:
    save(draw_collage(0)[0], tmp_path / "in" / "a.png")
    (tmp_path / "in" / "labels.csv").write_text("id,label\na/000099,oil\n")
    with pytest.raises(DataError, match=r"1 particles .*not found \(first: a/000099\).*a/000001"):
        ingest(tmp_path / "in", labels="labels.csv")


@pytest.mark.skipif(not REFERENCE.is_dir(), reason="reference data not present")
def test_a_real_run_is_split_as_its_own_table_says() -> None:
    run = REFERENCE / "flowcam_run"
    table = read_particles(next(run.glob("*.lst")))
    for name, rows in table.groupby("collage_file"):
        listed = rows.sort_values("particle_id")[BOX].to_numpy().tolist()
        assert boxes_of(run / str(name)) == listed


@pytest.mark.skipif(not REFERENCE.is_dir(), reason="reference data not present")
def test_an_annotated_collage_is_split_without_its_annotations() -> None:
    path = REFERENCE / "flowcam_nano" / "collage.png"
    found = boxes_of(path)
    assert len(found) == 211  # counted on the picture
    colour = np.asarray(Image.open(path).convert("RGB")).astype(int)
    assert all(np.ptp(colour[y : y + h, x : x + w], 2).max() < 16 for x, y, w, h in found)


def test_deep_pages_share_one_depth(tmp_path) -> None:
    """A grey level means the same on a dim page as on a bright one."""
    for number, gain in {1: 3, 2: 12}.items():
        page = draw_collage(seed=number)[0].astype(np.uint16) * gain
        Image.fromarray(page).save(tmp_path / f"a_00000{number}.png")
    found = plan("collage", tmp_path, labelled=False)
    dim, bright = (
        np.concatenate([image.ravel() for image in found.read(unit).images]) for unit in found.units
    )
    # 150 of 255 on the page; times 3 or 12, of the 4,095 levels of 12 bit.
    assert np.median(dim) == pytest.approx(150 * 3 * 255 / 4095, rel=0.05)
    assert np.median(bright) == pytest.approx(150 * 12 * 255 / 4095, rel=0.05)
