"""Any bytes give a result or a named error; what is written by the rules is read back exactly."""

import contextlib
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from svp_lightning.data.importers.flowcam_facts import read_context, read_summary
from svp_lightning.data.importers.flowcam_lists import read_classifications, read_particles
from svp_lightning.data.importers.images import read_header, read_picture
from svp_lightning.data.importers.labels import labels_from_table
from svp_lightning.data.importers.listing import list_table
from svp_lightning.data.importers.mfi_table import read_mfi_table
from svp_lightning.data.importers.pictures import BOX
from svp_lightning.data.importers.tables import Skips
from svp_lightning.errors import SvpError
from tests.data.importers.made_runs import HEADER
from tests.examples import examples

LST = (
    b"017\nnum-fields|8\nid|int32\nimage_x|int32\nimage_y|int32\nimage_w|int32\nimage_h|int32\n"
    b"cal_const|double\nabd_diameter|double\ncollage_file|string\n"
    b"1|0|0|9|9|0.5|3.2|a.tif\n2|11|0|9|9|0.5|2.1|a.tif\n"
)
CSV = (
    b"Particle ID,Calibration Factor,Image File,Image Height,Image Width,Image X,Image Y,"
    b"Diameter (ABD) (\xb5m)\n1,0.5,a.tif,9,9,0,0,5.1e+00\n"
)
CTX = b"[Camera]\nImageWidth=1292\nImageHeight=964\n[Fluid]\nFringeSize=4.5\n"
CLA = b"v3\n1\nmine\n2\nOil\nOR\n1\nC:\\a.flt\n1\n4\nprotein\nOR\n0\n2\n2\n3\n"
TXT = b"Run:\r\n\tFluid Volume Imaged: 0.0174 ml\r\n"
MFI = (HEADER + "\n1,3,30,0.1,4.5,9,12,0.9,400,1,400,840,5,1,4,6,4,6,0,protein\n").encode()
LABELS = b"run,particle_id,label\nr,1,oil\n"
LIST = b"path,label,ecd_um\na.png,oil,2.5\n"


def skipping(read: Callable[[Path, Skips], object]) -> Callable[[Path], object]:
    """Both policies: the same file must give no other exception under either."""

    def both(path: Path) -> None:
        read(path, Skips("skip"))
        read(path, Skips())

    return both


def labels(path: Path, skips: Skips) -> object:
    one = pd.DataFrame({"id": ["r/1"], "group": ["r"], "particle_id": [1]})
    return labels_from_table(one, path, skips)


PARSERS: dict[str, tuple[Callable[[Path], object], bytes]] = {
    "run.lst": (skipping(read_particles), LST),
    "run.csv": (skipping(read_particles), CSV),
    "run.ctx": (read_context, CTX),
    "run.cla": (read_classifications, CLA),
    "run_run_summary.txt": (read_summary, TXT),
    "mfi.csv": (skipping(read_mfi_table), MFI),
    "labels.csv": (skipping(labels), LABELS),
    "list.csv": (skipping(lambda p, skips: list_table(p, p.parent, True, skips)), LIST),
}


_PIECES = [
    *(b"\0", b"\xff", b"|", b",", b'"', b"\n", b"\r", b"=", b"[", b"-1", b"nan", b"inf"),
    *(b"1e999", b"9" * 40, b"9" * 5000, b"", b"\xff\xfe", b"\x85", b"1_0", "١".encode()),
]


@st.composite
def damaged(draw: st.DrawFn, valid: bytes) -> bytes:
    """The valid file with bytes replaced, put in or taken out, in another encoding perhaps."""
    content = bytearray(valid)
    pieces = st.sampled_from(_PIECES)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(content)))
        content[at : at + draw(st.integers(0, 12))] = draw(pieces | st.binary(max_size=6))
    encoding = draw(st.sampled_from([None, None, "utf-16", "utf-16-le"]))
    return bytes(content) if encoding is None else content.decode("latin-1").encode(encoding)


@pytest.mark.parametrize("name", PARSERS)
@examples(40)
@given(data=st.data())
def test_any_bytes_give_a_result_or_a_named_error(tmp_path, name, data) -> None:
    read, valid = PARSERS[name]
    (tmp_path / "a.png").touch()
    file = tmp_path / name
    file.write_bytes(valid)
    read(file)  # the undamaged file is read
    file.write_bytes(data.draw(damaged(valid) | st.binary(max_size=200)))
    with contextlib.suppress(SvpError):  # any other exception fails the test
        read(file)


@pytest.mark.parametrize(("kind", "mode"), [("TIFF", "RGB"), ("PNG", "L"), ("JPEG", "RGB")])
@examples(30)
@given(data=st.data())
@pytest.mark.filterwarnings("ignore")
def test_any_picture_gives_pixels_or_a_named_error(tmp_path, kind, mode, data) -> None:
    buffer = io.BytesIO()
    image = Image.fromarray(np.arange(12 * 9, dtype=np.uint8).reshape(9, 12)).convert(mode)
    image.save(buffer, kind, **({"compression": "tiff_lzw"} if kind == "TIFF" else {}))
    file = tmp_path / "picture.tif"
    file.write_bytes(data.draw(damaged(buffer.getvalue())))
    for read in (read_header, read_picture):
        with contextlib.suppress(SvpError):
            assert len(read(file).grey if read is read_picture else read(file)) > 0


SIZES = st.floats(0, 1e6, allow_subnormal=True)
WHOLE = st.integers(-(2**31) + 1, 2**31 - 1)
TIDY = examples(25)


@TIDY
@given(
    rows=st.lists(st.tuples(*[WHOLE] * 4, SIZES, SIZES), min_size=1, max_size=5),
    order=st.permutations(range(9)),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "latin-1"]),
    comma=st.booleans(),
)
def test_lists_are_read_back_exactly(tmp_path, rows, order, encoding, comma) -> None:
    names = ["id", *(f"image_{k}" for k in "xywh"), "cal_const", "abd_diameter", "esd_diameter"]
    names.append("collage_file")
    cells = [[k, *box, 0.25 + k, abd, esd, f"größe {k}"] for k, (*box, abd, esd) in enumerate(rows)]
    text = [[repr(c).strip("'") for c in row] for row in cells]
    if comma:
        text = [[c.replace(".", ",") for c in row] for row in text]
    lines = ["017", "num-fields|9", *(f"{names[k]}|any" for k in order)]
    lines += ["|".join(row[k] for k in order) for row in text]
    (tmp_path / "a.lst").write_bytes("\n".join(lines).encode(encoding))
    found = read_particles(tmp_path / "a.lst")
    sizes = ["pixel_size_um", "abd_diameter_vendor_um", "esd_diameter_vendor_um"]
    columns = ["particle_id", *BOX, *sizes, "collage_file"]
    assert found[columns].to_numpy(object).tolist() == cells


@TIDY
@given(
    rows=st.lists(
        st.tuples(*[st.integers(0, 1279)] * 4, SIZES, st.integers(0, 4092), st.booleans()),
        min_size=1,
        max_size=5,
    ),
    words=st.booleans(),
    separator=st.sampled_from(",;\t"),
)
def test_mfi_tables_are_read_back_exactly(tmp_path, rows, words, separator) -> None:
    header = " Frame #,Particle #,X Left,X Right,Y Top,Y Bottom,ECD(um),Intensity Min,Edge Particle"
    flag = ("FALSE", "TRUE") if words else ("0", "1")
    lines = ["MVSS export", "", header.replace(",", separator)]
    for k, (*box, ecd, dark, edge) in enumerate(rows):
        size = repr(ecd).replace(".", ",") if separator != "," else repr(ecd)
        lines.append(separator.join(map(str, [7, k, *box, size, dark, flag[edge]])))
    (tmp_path / "a.txt").write_text("\r\n".join(lines) + "\r\n", newline="")
    found = read_mfi_table(tmp_path / "a.txt", Skips())
    columns = ["x_left", "x_right", "y_top", "y_bottom", "ecd_um"]
    assert found[columns].to_numpy(object).tolist() == [[*r[:4], r[4]] for r in rows]
    assert (found["intensity_min_vendor_grey"] * 4).tolist() == [r[5] for r in rows]
    assert found["edge_of_frame"].tolist() == [r[6] for r in rows]


@TIDY
@given(st.dictionaries(st.integers(0, 10**9 - 1), st.sampled_from(["oil", "protein", "air"])))
def test_classifications_are_read_back_exactly(tmp_path, given_labels) -> None:
    names = sorted(set(given_labels.values()))
    lines = ["v3", "1", "mine", str(len(names))]
    for name in names:
        members = [str(k) for k, v in given_labels.items() if v == name]
        lines += [name.title(), "OR", "1", "C:\\a.flt", str(len(members)), *members]
    (tmp_path / "a.cla").write_text("\n".join(lines))
    ((_, classes),) = read_classifications(tmp_path / "a.cla")
    pairs = {k: name for name, members in classes.items() for k in members}
    assert pairs == {k: v.title() for k, v in given_labels.items()}
