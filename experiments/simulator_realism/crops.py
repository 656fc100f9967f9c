"""The real crops, their two fixed halves, and simulated images put through the same printing."""

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from svp_lightning.data.classes import AIR_BUBBLE, SILICONE_OIL

Half = Literal["development", "held_out"]

REAL_FOLDERS = {SILICONE_OIL: "real_silicone_oil", AIR_BUBBLE: "real_air_bubble"}
PRINTED_PX = 43
"""Width at which the figure that the crops were cut from shows them."""


def read_real(folder: Path, half: Half) -> dict[str, NDArray[np.uint8]]:
    """Every other file by name: the first, third, ... are the development half.

    Args:
        folder: holds one folder of PNG files per class (:data:`REAL_FOLDERS`).
        half: which files.

    Returns:
        Class name -> uint8 (n, 64, 64).
    """
    start = 0 if half == "development" else 1
    found = {}
    for name, subfolder in REAL_FOLDERS.items():
        files = sorted((folder / subfolder).glob("*.png"))[start::2]
        if not files:
            raise SystemExit(f"No PNG files in {folder / subfolder}: give the folder as --crops.")
        found[name] = np.stack([np.asarray(Image.open(file).convert("L")) for file in files])
    return found


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
