"""A first look into every image file, so that writing starts only when all can be read."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from svp_lightning.data.importers.pictures import digest_of, read_picture
from svp_lightning.errors import DataError


def survey(
    paths: Sequence[Path], unreadable: Literal["refuse", "skip"], num_threads: int
) -> pd.DataFrame:
    """Decode every file once.

    Args:
        paths: image files.
        unreadable: whether a file that cannot be decoded ends the import.
        num_threads: decoding threads.

    Returns:
        One row per file: ``height_px``, ``width_px``, ``brightest`` (largest 16-bit sample,
        0 for 8-bit files), ``digest`` of the pixels, ``error`` (null where readable).

    Raises:
        DataError: for the first unreadable file, saying how many there are.
    """
    with ThreadPoolExecutor(num_threads) as pool:
        found = list(pool.map(_look, paths))
    facts = pd.DataFrame(
        found, columns=["height_px", "width_px", "brightest", "digest", "error"]
    ).astype({"height_px": np.int64, "width_px": np.int64, "brightest": np.int64})
    broken = [error for *_, error in found if error is not None]
    if broken and unreadable == "refuse":
        more = f" So are {len(broken) - 1} more files." if len(broken) > 1 else ""
        raise DataError(broken[0].what, broken[0].remedy + more)
    return facts


def _look(path: Path) -> tuple[int, int, int, str, DataError | None]:
    try:
        grey = read_picture(path).grey
    except DataError as error:
        return 0, 0, 0, "", error
    height, width = grey.shape
    brightest = int(grey.max()) if grey.dtype == np.uint16 else 0
    return height, width, brightest, digest_of(grey), None
