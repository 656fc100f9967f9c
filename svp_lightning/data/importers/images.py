"""Reading image files of unknown make: any bit depth and colour mode to plain grey.

Only the four formats microscopes write are opened (PNG, TIFF, JPEG, BMP), and everything that
can be wrong with a file ends in one :class:`DataError` that names it.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from svp_lightning.errors import DataError

Mask = NDArray[np.bool_]
Grey = NDArray[Any]
"""(h, w) uint8 or uint16."""

FORMATS = ("PNG", "TIFF", "JPEG", "BMP")
MAX_PIXELS = 64_000_000
"""Refuse larger images before decoding; a particle crop or frame has a few million."""

_PIXELS_AT_ONCE = 1 << 18
_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, as Pillow's mode L
_DEPTHS = (8, 10, 12, 14, 16)
_BITS_PER_SAMPLE, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0  # tags of TIFF; a value: MinIsWhite
_ONE_AFTER_ANOTHER = 2  # planes of colours, in TIFF's PlanarConfiguration
_COPY_AGAIN = "Copy the file again or remove it; data.unreadable=skip leaves such files out."
_SAVE_AS = "Save it as 8- or 16-bit grey."


class Picture(NamedTuple):
    """A decoded image.

    Attributes:
        grey: levels.
        opaque: (h, w), False where a pixel shows nothing of the image; None if nowhere.
    """

    grey: Grey
    opaque: Mask | None = None


class Header(NamedTuple):
    """What the header of a picture says: its size in px, and whether samples have over 8 bit."""

    height: int
    width: int
    deep: bool


def read_picture(path: Path) -> Picture:
    """Decode ``path`` to grey levels as stored; colour is weighted as in ITU-R BT.601.

    Raises:
        DataError: the file is missing, empty, truncated, not an image, too large, of more
            than one page, or of a sample type other than 8 or 16 bit.
    """
    with _opened(path) as image:
        if _is_deep_colour(image):
            return _from_channels(_decode_deep_colour(path, image))
        image.load()
        return _from_pillow(path, image)


def read_header(path: Path) -> Header:
    """Size and depth, without decoding the pixels.

    Raises:
        DataError: as in :func:`read_picture`, as far as it is read.
    """
    with _opened(path) as image:
        deep = _is_deep_colour(image) or image.mode.startswith("I")
        return Header(image.height, image.width, deep)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """The image behind a checked header; whatever goes wrong with it names the file."""
    try:
        if path.stat().st_size == 0:
            raise DataError(f"{path} is empty (0 bytes).", _COPY_AGAIN)
        with Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            if (pages := getattr(image, "n_frames", 1)) > 1:
                raise DataError(f"{path} holds {pages} pages.", "Save one image per file.")
            yield image
    except (DataError, MemoryError):
        raise
    # Broken files make Pillow and codecs raise nearly anything (OSError, SyntaxError, KeyError,
    # struct.error, zlib.error, …).
    except Exception as error:
        raise _explained(path, error) from error


def _explained(path: Path, error: Exception) -> DataError:
    match error:
        case FileNotFoundError():
            return DataError(f"{path} does not exist.", "Check the path.")
        case Image.DecompressionBombError():
            limit = f"more than {MAX_PIXELS // 1_000_000} megapixels"
            return DataError(
                f"{path} is too large to be a particle image or a frame ({limit}).",
                "Remove it, or cut the particles out of it first.",
            )
        case PermissionError():
            return DataError(
                f"{path} cannot be opened ({error.strerror}).",
                "Check its permissions, or remove it; data.unreadable=skip leaves such files out.",
            )
        case UnidentifiedImageError():
            return DataError(f"{path} is not a PNG, TIFF, JPEG or BMP image.", _COPY_AGAIN)
    return DataError(f"{path} cannot be decoded ({error}).", _COPY_AGAIN)


def to_8_bit(grey: Grey, bit_depth: int) -> NDArray[np.uint8]:
    """Scale 16-bit samples that use ``bit_depth`` bits to 0..255; 8-bit samples are kept."""
    if grey.dtype == np.uint8:
        return grey.astype(np.uint8, copy=False)
    full = (1 << bit_depth) - 1
    return np.asarray(np.minimum(grey, full) * (255 / full) + 0.5).astype(np.uint8)


def depth_needed(grey: Grey) -> int:
    """The smallest usual camera depth (8, 10, 12, 14 or 16 bit) that holds nearly all pixels.

    A thousandth of them, or three, may be brighter: hot pixels must not darken all others.
    """
    few = max(3, grey.size // 1000)
    return next(d for d in _DEPTHS if int((grey >> (d - 1) >> 1).astype(bool).sum()) <= few)


def digest_of(grey: Grey) -> str:
    """Equal for equal pixels in an equal shape, (h, w)."""
    salt = f"{grey.shape[1]}".encode()
    return hashlib.blake2b(grey.tobytes(), digest_size=16, salt=salt).hexdigest()


def _from_pillow(path: Path, image: Image.Image) -> Picture:
    if image.mode in ("I;16", "I;16B", "I;16L", "I;16N"):
        deep = np.asarray(image).astype(np.uint16)
        # Pillow turns 8-bit samples round, but not these.
        white_is_zero = getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == _WHITE_IS_ZERO
        return Picture(~deep if white_is_zero else deep)
    if image.mode == "I":
        levels = np.asarray(image)
        if levels.min() < 0 or levels.max() > 65535:
            raise DataError(f"{path} has 32-bit samples.", _SAVE_AS)
        return Picture(levels.astype(np.uint16))
    if image.mode == "F":
        raise DataError(f"{path} has floating-point samples.", _SAVE_AS)
    opaque = None
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        opaque = _unless_all(np.asarray(image.getchannel("A")) >= 128)
        image = image.convert("RGB")
    return Picture(np.asarray(image.convert("L")), opaque)


def _is_deep_colour(image: Image.Image) -> bool:
    """Whether Pillow would drop the low byte of colour samples (it has no such mode)."""
    many = image.mode in ("RGB", "RGBA", "RGBX", "LA")
    tiles = getattr(image, "tile", [])
    bits = getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE) or ()
    # A tile is (codec, box, offset, arguments); the arguments hold the mode in the file, unless it
    # is a TIFF of uncompressed planes.
    return many and (16 in bits or (bool(tiles) and ";16" in str(tiles[0][3])))


def _decode_deep_colour(path: Path, image: Image.Image) -> NDArray[np.uint16]:
    """(h, w, channels) of the file whose header is ``image``."""
    import imagecodecs  # here: machines without it can do all but read 16-bit pictures
    import tifffile  # here: reports need the importers' summaries, not their pictures

    if image.format == "PNG":
        levels = imagecodecs.png_decode(path.read_bytes())
        _refuse_unlike(image, path, levels.shape, levels.dtype)
        return levels
    # tifffile.imread would follow OME metadata to the pixels of any other file.
    with tifffile.TiffFile(path, is_ome=False) as file:
        page = file.pages.first
        planes = page.planarconfig == _ONE_AFTER_ANOTHER
        shape = (*page.shape[1:], page.shape[0]) if planes else page.shape
        _refuse_unlike(image, path, shape, page.dtype)
        levels = page.asarray()
        return np.moveaxis(levels, 0, -1) if planes else levels


def _refuse_unlike(image: Image.Image, path: Path, shape: tuple[int, ...], dtype: Any) -> None:
    """Refuse samples of another size than the header's, which is the one that is limited."""
    *size, channels = shape
    # Pillow turns the size of a picture that was taken upright, tifffile does not.
    same = sorted(size) == sorted(image.size) and channels in (2, 3, 4)
    if dtype != np.uint16 or not same:
        raise DataError(f"{path} has samples {dtype} {shape}.", _SAVE_AS)


def _from_channels(levels: NDArray[np.uint16]) -> Picture:
    channels = levels.shape[-1]
    opaque = _unless_all(levels[..., -1] >= 1 << 15) if channels in (2, 4) else None
    if channels == 2:
        return Picture(levels[..., 0], opaque)
    return Picture(_luma(levels), opaque)


def _luma(levels: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Grey levels of colours, part by part: their products take 32 bytes a pixel."""
    height, width, _ = levels.shape
    grey = np.empty((height, width), np.uint16)
    # Whole rows where they fit: the last bit of a product depends on how many are made at once.
    rows = max(1, _PIXELS_AT_ONCE // width)
    for top in range(0, height, rows):
        for left in range(0, width, _PIXELS_AT_ONCE):
            part = np.s_[top : top + rows, left : left + _PIXELS_AT_ONCE]
            grey[part] = levels[part][..., :3] @ _LUMA + 0.5
    return grey


def _unless_all(opaque: Mask) -> Mask | None:
    # A wholly transparent image is a habit of some exporters, not a statement.
    return None if opaque.all() or not opaque.any() else opaque
