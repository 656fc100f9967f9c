"""16-bit colour, which Pillow cannot read: the file's own pixels, in little memory."""

import struct
import tracemalloc
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile

from svp_lightning.data.importers.images import read_picture
from svp_lightning.errors import DataError

OME = """<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"
 UUID="urn:uuid:00000000-0000-0000-0000-000000000001"><Image ID="Image:0">
 <Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint16" Interleaved="true" SizeX="{width}"
 SizeY="{height}" SizeZ="1" SizeC="3" SizeT="1"><Channel ID="Channel:0:0" SamplesPerPixel="3"/>
 <TiffData IFD="0" PlaneCount="1"><UUID FileName="{name}">{uuid}</UUID></TiffData>
 </Pixels></Image></OME>"""


def colour(height: int, width: int, channels: int = 3) -> np.ndarray:
    levels = np.random.default_rng(1).integers(0, 1 << 16, (height, width, channels))
    return levels.astype(np.uint16)


def save_ome(path: Path, levels: np.ndarray, name: str) -> None:
    """An OME-TIFF whose metadata say that its pixels are in the file ``name``."""
    height, width, _ = levels.shape
    uuid = "urn:uuid:00000000-0000-0000-0000-000000000002"
    ome = OME.format(height=height, width=width, name=name, uuid=uuid)
    tifffile.imwrite(path, levels, photometric="rgb", description=ome, metadata=None)


@pytest.mark.filterwarnings("ignore:.*reading array from closed file")  # of the control
def test_a_tiff_that_names_another_file_shows_its_own_pixels(tmp_path: Path) -> None:
    own, other = colour(20, 30), np.full((20, 30, 3), 7777, np.uint16)
    for folder in ("uploads", "secret"):
        (tmp_path / folder).mkdir()
    tifffile.imwrite(tmp_path / "secret" / "grey.tif", other, photometric="rgb", compression="zlib")
    save_ome(tmp_path / "uploads" / "ome.tif", own, "../secret/grey.tif")
    tifffile.imwrite(tmp_path / "uploads" / "plain.tif", own, photometric="rgb")
    assert (tifffile.imread(tmp_path / "uploads" / "ome.tif") == other).all()
    read = read_picture(tmp_path / "uploads" / "ome.tif").grey
    assert (read == read_picture(tmp_path / "uploads" / "plain.tif").grey).all()


def test_a_tiff_deeper_than_its_header_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    path, depth, private = tmp_path / "deep.tif", 32997, 65000
    colours, options = colour(20, 30), {"photometric": "rgb", "compression": "zlib"}
    tifffile.imwrite(path, colours, **options, extratags=[(private, "I", 1, 5000, True)])
    entry, wanted = (struct.pack("<HHI", tag, 4, 1) for tag in (private, depth))
    assert entry in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(entry, wanted))
    tracemalloc.start()
    with pytest.raises(DataError, match=r"samples uint16 \(5000, 20, 30, 3\)"):
        read_picture(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5000 * colours.nbytes / 4


@pytest.mark.parametrize("width", [4, 30])
def test_planes_of_colours_are_read_as_pixels_of_colours_are(tmp_path: Path, width: int) -> None:
    levels, planes = colour(20, width), {"photometric": "rgb", "planarconfig": "separate"}
    tifffile.imwrite(tmp_path / "pixels.tif", levels, photometric="rgb")
    tifffile.imwrite(tmp_path / "planes.tif", np.moveaxis(levels, -1, 0), **planes)
    read = [read_picture(tmp_path / f"{name}.tif").grey for name in ("pixels", "planes")]
    assert (read[0] == read[1]).all()


@pytest.mark.parametrize("channels", [3, 4])
def test_colours_that_are_weighted_part_by_part_are_those_weighted_at_once(
    tmp_path: Path, channels: int
) -> None:
    levels = colour(1000, 700, channels)  # more than two parts
    (tmp_path / "large.png").write_bytes(imagecodecs.png_encode(levels))
    at_once = levels[..., :3] @ np.array([0.299, 0.587, 0.114]) + 0.5
    assert (read_picture(tmp_path / "large.png").grey == at_once.astype(np.uint16)).all()


@pytest.mark.parametrize("shape", [(2000, 1000), (1, 2_000_000)])
def test_large_colour_pictures_take_little_more_memory_than_their_samples(
    tmp_path: Path, shape: tuple[int, int]
) -> None:
    path, levels = tmp_path / "large.tif", np.zeros((*shape, 4), np.uint16)
    tifffile.imwrite(path, levels, photometric="rgb", compression="zlib", rowsperstrip=100)
    tracemalloc.start()
    read_picture(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * levels.nbytes
