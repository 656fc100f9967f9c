"""FlowCam runs: parsed by field name, cut exactly, both kinds of sizes kept."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from svp_lightning.data.importers.flowcam import plan_flowcam
from svp_lightning.data.importers.flowcam_labels import read_classifications
from svp_lightning.data.importers.flowcam_lists import read_particles
from svp_lightning.data.importers.summary import summarise
from svp_lightning.data.importers.writer import write_plan
from svp_lightning.data.mix import train_rows
from svp_lightning.data.settings import SplitFractions
from svp_lightning.data.store import Store
from svp_lightning.errors import DataError, StoreError
from tests import configured

REFERENCE = Path(__file__).parents[4] / "shared" / "reference"
CAL, FRINGE, MARGIN = 0.55, 4.5, 5
_WHOLE = "id image_x image_y image_w image_h src_x src_y src_image"
_REAL = "cal_const fringe_size raw_area abd_diameter esd_diameter"
FIELDS = [f"{n}|int32" for n in _WHOLE.split()] + [f"{n}|double" for n in _REAL.split()]
FIELDS.append("collage_file|string")


def write_run(folder: Path, run: str = "run1", particles: int = 6, fields: list[str] = FIELDS):
    """Two collages of square particles, with masks, context and classification."""
    folder.mkdir(parents=True, exist_ok=True)
    rows, seed = [], sum(map(ord, run))
    for page in range(2):
        collage = np.zeros((60, 200, 3), np.uint8)
        mask = np.zeros((60, 200), np.uint8)
        x = 0
        for n in range(particles // 2):
            number, side = page * (particles // 2) + n + 1, 6 + 2 * n
            box = side + 2 * MARGIN
            rng = np.random.default_rng(1000 * seed + number)
            tile = rng.integers(165, 175, (box, box))
            tile[MARGIN:-MARGIN, MARGIN:-MARGIN] = 50 + number
            collage[3 : 3 + box, x : x + box] = tile[..., None]
            mask[3 + MARGIN : 3 + box - MARGIN, x + MARGIN : x + box - MARGIN] = 255
            name = f"{run}_{page + 1:06d}.tif"
            d = CAL * np.sqrt(4 * side**2 / np.pi)
            values = {
                "id": number,
                "image_x": x,
                "image_y": 3,
                "image_w": box,
                "image_h": box,
                "src_x": 100 * n,
                "src_y": 50,
                "src_image": number,
                "cal_const": CAL,
                "fringe_size": FRINGE,
                "raw_area": side**2,
                "esd_diameter": 5.0,
                "abd_diameter": round(max(d - FRINGE * CAL, d / 2), 4),
                "collage_file": name,
            }
            rows.append("|".join(str(values.get(f.split("|")[0], "0.0")) for f in fields))
            x += box + 2
        Image.fromarray(collage).save(folder / f"{run}_{page + 1:06d}.tif", compression="tiff_lzw")
        Image.fromarray(mask).save(folder / f"{run}_{page + 1:06d}_bin.tif")
    Image.fromarray(mask).save(folder / "cal_image_000001.tif")
    head = ["017", f"num-fields|{len(fields)}", *fields]
    (folder / f"{run}.lst").write_text("\n".join(head + rows) + "\n")
    (folder / f"{run}.ctx").write_text(
        "[Camera]\nImageWidth=1292\nImageHeight=964\n[Fluid]\nFringeSize=4.5\n"
    )
    (folder / f"{run}_run_summary.txt").write_text("Run:\n\tFluid Volume Imaged: 0.0174 ml\n")
    (folder / f"{run}.cla").write_text(
        "v3\n1\nmine\n2\nOil drop\nOR\n1\nC:\\a.flt\n2\n1\n4\nprotein\nOR\n0\n2\n2\n3\n"
    )


def import_runs(path: Path, **options: object) -> Store:
    write_plan(path, plan_flowcam(configured.flowcam(**options)), 1, lambda n: None)
    return Store.open(path)


@pytest.fixture
def ingest(tmp_path: Path) -> Callable[..., Store]:
    def run(**options) -> Store:
        return import_runs(tmp_path / "store", root=tmp_path / "runs", **options)

    return run


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for k in range(4):
        write_run(tmp_path / "runs" / f"day{k}", f"run{k}")
    return tmp_path / "runs"


def test_runs_become_a_store_with_labels_groups_and_sizes(runs, ingest) -> None:
    store = ingest()
    table = store.particles.set_index("id")
    assert len(store) == 4 * 6
    assert store.class_names == ("protein", "oil_drop")
    assert store.pixel_size_um == pytest.approx(CAL)
    assert table.loc["run2/000004", "label"] == "oil_drop"
    assert table["label"].isna().sum() == 4 * 2
    assert (table.groupby("group")["split"].agg(lambda s: s[s != ""].nunique()) == 1).all()
    assert table["abd_diameter_recomputed_um"].to_numpy() == pytest.approx(
        table["abd_diameter_vendor_um"].to_numpy(), abs=1e-4
    )
    assert (table["esd_diameter_vendor_um"] == 5).all()
    assert table["edge_of_frame"].sum() == 4 * 2  # src_x = 0
    assert store.manifest.made_by["runs"]["run0"]["volume_imaged_ml"] == 0.0174


def test_particles_are_cut_at_their_boxes(runs) -> None:
    plan = plan_flowcam(configured.flowcam(root=runs))
    for unit in plan.units:
        cut = plan.read(unit)
        for image, row in zip(
            cut.images, plan.particles.iloc[unit.start : unit.stop].itertuples(), strict=True
        ):
            side = 6 + 2 * ((row.particle_id - 1) % 3)
            assert image.shape == (side + 10, side + 10)
            assert (image[MARGIN:-MARGIN, MARGIN:-MARGIN] == 50 + row.particle_id).all()
            assert image[:MARGIN].min() >= 165
    assert sum(len(unit) for unit in plan.units) == 24
    assert len(plan.units) == 8


def test_field_order_does_not_matter_and_fields_may_lack(tmp_path, ingest) -> None:
    write_run(tmp_path / "runs", "run1", fields=[f for f in FIELDS[::-1] if "raw_area" not in f])
    table = ingest(labelled=False).particles
    assert table["abd_diameter_recomputed_um"].to_numpy() == pytest.approx(
        table["abd_diameter_vendor_um"].to_numpy(), abs=1e-4
    )


CSV_NAMES = {
    "id": "Particle ID",
    "collage_file": "Image File",
    "image_x": "Image X",
    "image_y": "Image Y",
    "image_w": "Image Width",
    "image_h": "Image Height",
    "cal_const": "Calibration Factor",
}
"""Columns of a list -> of an export as CSV."""


@pytest.mark.parametrize(
    ("encoding", "first"),
    [("latin-1", ""), ("utf-8", ""), ("utf-16", ""), ("utf-8", "sep=,\r\n"), ("utf-16", "\n")],
)
def test_a_csv_export_with_units_serves_without_the_list(tmp_path, ingest, encoding, first) -> None:
    write_run(tmp_path / "runs", "run1")
    rows = read_particles(tmp_path / "runs" / "run1.lst")
    names = CSV_NAMES | {"abd_diameter": "Diameter (ABD) (µm)"}
    text = rows[list(names)].rename(columns=names).to_csv(index=False, float_format="%.6e")
    (tmp_path / "runs" / "run1.csv").write_bytes((first + text).encode(encoding))
    (tmp_path / "runs" / "run1_summary.csv").write_text("List File,run1.lst\n")
    (tmp_path / "runs" / "run1.lst").unlink()
    table = ingest(labelled=False).particles
    assert len(table) == 6
    assert table["abd_diameter_recomputed_um"].to_numpy() == pytest.approx(
        table["abd_diameter_vendor_um"].to_numpy(), abs=1e-4
    )


def test_masks_are_optional(runs, ingest) -> None:
    for mask in runs.rglob("*_bin.tif"):
        mask.unlink()
    table = ingest().particles
    assert table["abd_diameter_recomputed_um"].notna().all()


def test_labels_from_a_table_replace_the_saved_ones(runs, ingest) -> None:
    lines = [f"run{k},{n},{'a' if n % 2 else 'b'}" for k in range(4) for n in range(1, 7)]
    (runs / "labels.csv").write_text("run,particle_id,label\n" + "\n".join(lines))
    assert ingest(labels="labels.csv").class_names == ("a", "b")


def test_runs_of_one_vial_stay_together_and_their_volumes_add_up(runs, ingest) -> None:
    vials = {0: "a", 1: "a", 2: "b", 3: "c"}
    classes = ("oil", "air")
    lines = [f"run{k},{n},{classes[n % 2]},{vials[k]}" for k in vials for n in range(1, 7)]
    (runs / "labels.csv").write_text("\n".join(["run,particle_id,label,vial", *lines]))
    store = ingest(labels="labels.csv")
    table = store.particles
    assert (table.groupby("group")["split"].nunique() == 1).all()
    assert table.groupby("run")["group"].first().to_dict() == {
        f"run{k}": v for k, v in vials.items()
    }
    groups = summarise(store).groups
    assert groups["mL imaged"].tolist() == pytest.approx([2 * 0.0174, 0.0174, 0.0174])
    assert groups["per mL"].tolist() == pytest.approx([6 / 0.0174] * 3)


def test_splits_beside_the_labels_are_kept(runs, ingest) -> None:
    splits = {0: "test", 1: "train", 2: "train", 3: "val"}
    lines = [f"run{k},{n},{n % 2},{splits[k]}" for k in splits for n in range(1, 7)]
    (runs / "labels.csv").write_text("\n".join(["run,particle_id,label,split", *lines]))
    table = ingest(labels="labels.csv").particles
    assert table.groupby("group")["split"].first().to_dict() == {
        f"run{k}": split for k, split in splits.items()
    }


def test_litter_of_other_systems_is_no_part_of_a_run(runs, ingest) -> None:
    for name in ("._run1.lst", "._run1_000001.tif", "._table.csv"):
        (runs / "day1" / name).write_bytes(b"\0\5\26\7" * 20)
    assert len(ingest().particles) == 24


def drop_last_characters(runs: Path) -> None:
    file = runs / "day1" / "run1.lst"
    file.write_text(file.read_text()[:-40])


def shrink_collage(runs: Path) -> None:
    file = runs / "day2" / "run2_000002.tif"
    Image.open(file).crop((0, 0, 30, 60)).save(file)


def edit(name: str, old: str, new: str) -> Callable[[Path], None]:
    def change(runs: Path) -> None:
        text = (runs / name).read_text()
        assert old in text
        (runs / name).write_text(text.replace(old, new))

    return change


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (drop_last_characters, r"run1.lst, line 22: \d+ values for 14 fields"),
        (shrink_collage, r"Particle run2/\d+ lies at .*outside .*run2_000002.tif"),
        (lambda r: (r / "day2" / "run2_000002.tif").unlink(), "run2_000002.tif does not exist"),
        (edit("day0/run0.lst", "num-fields|14", "columns"), "run0.lst is not a particle list"),
        (edit("day0/run0.lst", "image_w|", "width_of_it|"), "lacks the column image_w"),
        (edit("day0/run0.cla", "v3", "v9"), "version 'v9' where v3 is known"),
        (
            edit("day0/run0.cla", "2\n1\n4\n", "2\n1\n99\n"),
            "classifies particle 99.* up to 6",
        ),
        (edit("day0/run0.cla", "2\n2\n3\n", "2\n2\n1\n"), "particle 1 is in Oil drop and protein"),
        (edit("day0/run0.cla", "\n2\n2\n3\n", "\n2\n2\n"), "it ends too early"),
    ],
)
def test_damage_names_file_and_particle(runs, ingest, damage, message) -> None:
    damage(runs)
    with pytest.raises(DataError, match=message):
        ingest()
    assert not (runs.parent / "store").exists()


def test_a_single_run_is_imported_without_splits_and_says_why(tmp_path, ingest) -> None:
    write_run(tmp_path / "runs", "run1")
    store = ingest()
    assert (store.particles["split"] == "").all()
    assert store.particles["label"].notna().sum() == 4
    assert "protein (1 group)" in store.manifest.made_by["not_split"]
    with pytest.raises(StoreError, match=r"no training images.*protein \(1 group\)"):
        train_rows(store)


def test_no_run_is_an_error(tmp_path, ingest) -> None:
    (tmp_path / "runs").mkdir()
    with pytest.raises(DataError, match="holds no FlowCam run"):
        ingest()


@pytest.mark.skipif(not REFERENCE.is_dir(), reason="reference data not present")
def test_a_real_run_imports_whole(tmp_path) -> None:
    root = REFERENCE / "flowcam_run"
    no_split = SplitFractions(val=0, test=0)
    store = import_runs(tmp_path / "store", root=root, fractions=no_split)
    assert len(store) == 1000
    assert store.counts("train") == {"junk": 326, "protist": 17}
    for size in ("abd_diameter", "esd_diameter", "perimeter"):
        gap = store.particles[f"{size}_vendor_um"] - store.particles[f"{size}_recomputed_um"]
        assert gap.abs().max() < 1e-4
    assert store.images.min(axis=(1, 2)).min() > 0  # no black of the collage got in
    (saved,) = read_classifications(next(root.glob("*.cla")))
    assert str(saved) == "'karla_protist_class_2' (labels: 343)"
    facts = store.manifest.made_by["runs"][next(root.glob("*.lst")).stem]
    assert (facts["particles"], facts["volume_ml"], facts["withheld"]) == (1000, 0.01737, None)
    assert summarise(store).groups["per mL"].item() == pytest.approx(57_555, rel=3e-4)  # printed


@pytest.mark.skipif(not REFERENCE.is_dir(), reason="reference data not present")
def test_a_real_run_is_cut_pixel_for_pixel() -> None:
    """Read with another library, cut by hand from the list's own lines."""
    root = REFERENCE / "flowcam_run"
    lines = next(root.glob("*.lst")).read_text().splitlines()
    names = [line.split("|")[0] for line in lines[2:67]]
    rows = [dict(zip(names, line.split("|"), strict=True)) for line in lines[67:]]
    pages = {p.name: tifffile.imread(p) for p in root.glob("7*_0*[0-9].tif")}
    plan = plan_flowcam(configured.flowcam(root=root, labelled=False))
    images = [image for unit in plan.units for image in plan.read(unit).images]
    numbers = plan.particles["particle_id"].tolist()
    assert sorted(numbers) == [int(row["id"]) for row in rows] == list(range(1, 1001))
    for number, image in zip(numbers, images, strict=True):
        row = rows[number - 1]
        x, y, w, h = (int(row[f"image_{k}"]) for k in "xywh")
        colour = pages[row["collage_file"]][y : y + h, x : x + w].astype(float)
        assert image.shape == (h, w)
        assert np.abs(image - colour @ [0.299, 0.587, 0.114]).max() <= 1


@pytest.mark.skipif(not REFERENCE.is_dir(), reason="reference data not present")
def test_a_real_table_gives_the_same_particles_as_the_list() -> None:
    """The .csv names fields otherwise and has fewer; what both hold agrees."""
    root = REFERENCE / "flowcam_run"
    lst, csv = (read_particles(next(root.glob(f"*2024.{kind}"))) for kind in ("lst", "csv"))
    shared = [name for name in csv if name in lst]
    assert {"id", "image_x", "abd_diameter", "esd_diameter", "cal_const", "image_id"} < set(shared)
    for name in shared:
        assert (lst[name].to_numpy() == csv[name].to_numpy()).all(), name


@pytest.mark.skipif(not REFERENCE.is_dir(), reason="reference data not present")
def test_the_57_field_list_reads_by_name() -> None:
    table = read_particles(REFERENCE / "flowcam_lst_57_fields.lst")
    assert table["aspect_ratio"].between(0, 1).all()
    assert (table["cal_const"] == 0.5545).all()
