"""The real crops in their three fixed parts, and simulated images put through the same printing."""

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from svp_lightning.data.classes import AIR_BUBBLE, SILICONE_OIL

Part = Literal["development", "held_out", "even"]
"""Crops of an odd number were at hand from the start, in two halves; the even ones came later."""

REAL_FOLDERS = {SILICONE_OIL: "real_silicone_oil", AIR_BUBBLE: "real_air_bubble"}
PRINTED_PX = 43
"""Width at which the figure that the crops were cut from shows them."""


def read_real(folder: Path, part: Part) -> dict[str, NDArray[np.uint8]]:
    """The crops of one part, chosen by the number in their file's name (``cut.py``).

    Args:
        folder: holds one folder of files ``NN.png`` per class (:data:`REAL_FOLDERS`).
        part: ``development`` is 1, 5, 9, ...; ``held_out`` 3, 7, 11, ...; ``even`` the rest.

    Returns:
        Class name -> uint8 (n, 64, 64).
    """
    found = {}
    for name, subfolder in REAL_FOLDERS.items():
        files = [f for f in sorted((folder / subfolder).glob("*.png")) if part_of(f) == part]
        if not files:
            raise SystemExit(f"No {part} crops in {folder / subfolder}: see --crops and cut.py.")
        found[name] = np.stack([np.asarray(Image.open(file).convert("L")) for file in files])
    return found


def part_of(file: Path) -> Part:
    """The part that a crop's number puts it in."""
    number = int(file.stem)
    if number % 2 == 0:
        return "even"
    return "development" if number % 4 == 1 else "held_out"


def as_printed(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Scale uint8 (n, S, S) down to the figure's 43 px and up again, as the real crops were."""
    size = (images.shape[2], images.shape[1])
    printed = [
        Image.fromarray(image)
        .resize((PRINTED_PX, PRINTED_PX), Image.Resampling.BICUBIC)
        .resize(size, Image.Resampling.BICUBIC)
        for image in images
    ]
    return np.stack([np.asarray(image) for image in printed])
