"""FlowCam runs: parsed by field name, cut exactly, both kinds of sizes kept."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from svp_lightning.data.importers.flowcam_lists import read_classifications, read_particles
from svp_lightning.data.importers.summary import IngestSummary
from svp_lightning.data.mix import train_rows
from svp_lightning.data.settings import SplitFractions
from svp_lightning.data.store import Store
from svp_lightning.errors import DataError, StoreError
from tests.data.importers.made_runs import (
    CAL,
    CSV_NAMES,
    FIELDS,
    REFERENCE,
    assert_right_images,
    export_csv,
    imported,
    plan,
    write_flowcam,
)


def ingest(root: Path, **options: object) -> Store:
    return imported("flowcam", root, **options)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for k in range(4):
        write_flowcam(tmp_path / "runs" / f"day{k}", f"run{k}")
    return tmp_path / "runs"


def assert_recomputed(store: Store) -> None:
    table = store.particles
    assert table["abd_diameter_recomputed_um"].to_numpy() == pytest.approx(
        table["abd_diameter_vendor_um"].to_numpy(), abs=1e-4
    )


def test_runs_become_a_store_with_labels_groups_and_sizes(runs) -> None:
    store = ingest(runs)
    table = store.particles.set_index("id")
    assert len(store) == 4 * 6
    assert store.class_names == ("protein", "oil_drop")
    assert store.pixel_size_um == pytest.approx(CAL)
    assert table.loc["run2/000004", "label"] == "oil_drop"
    assert table["label"].isna().sum() == 4 * 2
    assert (table.groupby("group")["split"].agg(lambda s: s[s != ""].nunique()) == 1).all()
    assert_recomputed(store)
    assert_right_images(plan("flowcam", runs))
    assert (table["esd_diameter_vendor_um"] == 5).all()
    assert table["edge_of_frame"].sum() == 4 * 2  # src_x = 0
    assert store.manifest.made_by["runs"]["run0"]["volume_imaged_ml"] == 0.0174


@pytest.mark.parametrize(
    ("encoding", "first"),
    [("latin-1", ""), ("utf-8", ""), ("utf-16", ""), ("utf-8", "sep=,\r\n"), ("utf-16", "\n")],
)
def test_a_csv_export_with_units_serves_without_the_list(tmp_path, encoding, first) -> None:
    write_flowcam(tmp_path / "runs", "run1")
    table = tmp_path / "runs" / "run1.csv"
    names = CSV_NAMES | {"abd_diameter_vendor_um": "Diameter (ABD) (µm)"}
    export_csv(table.with_suffix(".lst"), table, names=names)
    table.write_bytes((first + table.read_text()).encode(encoding))
    (tmp_path / "runs" / "run1_summary.csv").write_text("List File,run1.lst\n")
    (tmp_path / "runs" / "run1.lst").unlink()
    store = ingest(tmp_path / "runs", labelled=False)
    assert len(store) == 6
    assert_recomputed(store)


def without_masks(folder: Path) -> None:
    for mask in folder.glob("*_bin.tif"):
        mask.unlink()


def other_mask(folder: Path) -> None:
    Image.new("L", (20, 20)).save(folder / "run1_000002_bin.tif")


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        (without_masks, FIELDS),
        (other_mask, FIELDS),
        (lambda _: None, [f for f in FIELDS[::-1] if "raw_area" not in f]),
    ],
)
def test_sizes_are_recomputed_from_masks_or_areas_and_fields_come_in_any_order(
    tmp_path, change, fields
) -> None:
    write_flowcam(tmp_path / "runs", "run1", fields=fields)
    change(tmp_path / "runs")
    assert_recomputed(ingest(tmp_path / "runs", labelled=False, unreadable="skip"))


def test_labels_of_a_table_replace_the_saved_ones_and_join_the_runs_of_a_vial(runs) -> None:
    vials = {0: ("a", "train"), 1: ("a", "train"), 2: ("b", "val"), 3: ("c", "test")}
    lines = [
        f"run{k},{n},{('oil', 'air')[n % 2]},{vial},{split}"
        for k, (vial, split) in vials.items()
        for n in range(1, 7)
    ]
    (runs / "labels.csv").write_text("\n".join(["run,particle_id,label,vial,split", *lines]))
    store = ingest(runs, labels="labels.csv")
    assert store.class_names == ("air", "oil")
    table = store.particles.groupby("run")[["group", "split"]].first()
    assert list(table.itertuples(index=False, name=None)) == list(vials.values())
    groups = IngestSummary(store).groups
    assert groups["mL imaged"].tolist() == pytest.approx([2 * 0.0174, 0.0174, 0.0174])
    assert groups["per mL"].tolist() == pytest.approx([6 / 0.0174] * 3)


def test_the_table_of_labels_in_the_folder_is_no_run(runs) -> None:
    """An export of the instrument with a column of labels looks like a run's list."""
    rows = [f"{n},run{k},oil,2.5" for k in range(4) for n in range(1, 7)]
    (runs / "labels.csv").write_text("\n".join(["Particle ID,run,label,Width", *rows]))
    store = ingest(runs, labels="labels.csv")
    assert set(store.particles["group"]) == {f"run{k}" for k in range(4)}
    assert set(store.particles["label"]) == {"oil"}


def test_a_header_of_many_blanks_is_read_at_once(tmp_path) -> None:
    (tmp_path / "run.csv").write_text("a" + " " * 100_000 + "b,Length (\u00b5m)\n1,2\n")
    with pytest.raises(DataError, match="lacks the column Particle ID"):
        read_particles(tmp_path / "run.csv")


def test_litter_of_other_systems_is_no_part_of_a_run(runs) -> None:
    for name in ("._run1.lst", "._run1_000001.tif", "._table.csv"):
        (runs / "day1" / name).write_bytes(b"\0\5\26\7" * 20)
    assert len(ingest(runs).particles) == 24


def test_a_single_run_is_imported_without_splits_and_says_why(tmp_path) -> None:
    write_flowcam(tmp_path / "runs", "run1")
    store = ingest(tmp_path / "runs")
    assert (store.particles["split"] == "").all()
    assert store.particles["label"].notna().sum() == 4
    assert "protein (1 group)" in store.manifest.made_by["not_split"]
    with pytest.raises(StoreError, match=r"no training images.*protein \(1 group\)"):
        train_rows(store)


@pytest.mark.skipif(not REFERENCE.is_dir(), reason="reference data not present")
def test_a_real_run_imports_whole(tmp_path) -> None:
    root = REFERENCE / "flowcam_run"
    no_split = SplitFractions(val=0, test=0)
    shutil.copytree(root, tmp_path / "run")
    store = imported("flowcam", tmp_path / "run", fractions=no_split)
    assert len(store) == 1000
    assert store.counts("train") == {"junk": 326, "protist": 17}
    for size in ("abd_diameter", "esd_diameter", "perimeter"):
        gap = store.particles[f"{size}_vendor_um"] - store.particles[f"{size}_recomputed_um"]
        assert gap.abs().max() < 1e-4
    assert store.images.min(axis=(1, 2)).min() > 0  # no black of the collage got in
    ((name, classes),) = read_classifications(next(root.glob("*.cla")))
    assert (name, sum(map(len, classes.values()))) == ("karla_protist_class_2", 343)
    facts = store.manifest.made_by["runs"][next(root.glob("*.lst")).stem]
    assert (facts["particles"], facts["volume_ml"], facts["withheld"]) == (1000, 0.01737, None)
    assert IngestSummary(store).groups["per mL"].item() == pytest.approx(
        57_555, rel=3e-4
    )  # printed


@pytest.mark.skipif(not REFERENCE.is_dir(), reason="reference data not present")
def test_a_real_run_is_cut_pixel_for_pixel() -> None:
    """Read with another library, cut by hand from the list's own lines."""
    root = REFERENCE / "flowcam_run"
    lines = next(root.glob("*.lst")).read_text().splitlines()
    names = [line.split("|")[0] for line in lines[2:67]]
    rows = [dict(zip(names, line.split("|"), strict=True)) for line in lines[67:]]
    pages = {p.name: tifffile.imread(p) for p in root.glob("7*_0*[0-9].tif")}
    found = plan("flowcam", root, labelled=False)
    images = [image for unit in found.units for image in found.read(unit).images]
    numbers = found.particles["particle_id"].tolist()
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
    sizes = {f"{kind}_diameter_vendor_um" for kind in ("abd", "esd")}
    assert {"particle_id", "x", "pixel_size_um", "image_id"} | sizes < set(shared)
    for name in shared:
        assert (lst[name].to_numpy() == csv[name].to_numpy()).all(), name


@pytest.mark.skipif(not REFERENCE.is_dir(), reason="reference data not present")
def test_the_57_field_list_reads_by_name() -> None:
    table = read_particles(REFERENCE / "flowcam_lst_57_fields.lst")
    assert table["aspect_ratio_vendor"].between(0, 1).all()
    assert (table["pixel_size_um"] == 0.5545).all()
