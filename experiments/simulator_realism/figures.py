"""Distributions of real and simulated crops side by side, and the protein sheet."""

from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from numpy.typing import NDArray
from PIL import Image
from simple_features import FEATURES, polar

mpl.use("Agg")
REAL, SIMULATED = "#d1495b", "#2e6f95"
PANELS = (
    ("spread", "intensity: spread of contrast"),
    ("extent", "size: columns the particle touches, px"),
    ("azimuthal deviation", "azimuthal deviation"),
    ("edge gradient", "focus: edge gradient per px"),
)


def distributions(
    real: dict[str, NDArray[np.uint8]],
    simulated: dict[str, NDArray[np.uint8]],
    real_table: dict[str, NDArray[np.float64]],
    simulated_table: dict[str, NDArray[np.float64]],
    path: Path,
) -> None:
    """Grey levels, radial profile and four features; one row per class.

    Args:
        real: class name -> uint8 (n, 64, 64).
        simulated: the same.
        real_table: class name -> (n, 18) features.
        simulated_table: the same.
        path: of the PNG file.
    """
    figure, axes = plt.subplots(len(real), 2 + len(PANELS), figsize=(19, 3.1 * len(real)))
    for row, name in zip(axes, real, strict=True):
        bins = np.linspace(0, 255, 52)
        for images, colour in ((simulated[name], SIMULATED), (real[name], REAL)):
            row[0].hist(images.ravel(), bins, density=True, histtype="step", color=colour)
        row[0].set(yscale="log", xlabel="grey level", ylabel=name.replace("_", " "))
        _profiles(row[1], real[name], simulated[name])
        for axis, (feature, label) in zip(row[2:], PANELS, strict=True):
            column = FEATURES.index(feature)
            both = real_table[name][:, column], simulated_table[name][:, column]
            low, high = np.percentile(np.concatenate(both), [0.5, 99.5])
            edges = np.linspace(low, high, 22)
            axis.hist(both[1], edges, density=True, color=SIMULATED, alpha=0.45, label="simulated")
            axis.hist(both[0], edges, density=True, histtype="step", color=REAL, label="real")
            axis.set(xlabel=label)
    axes[0, -1].legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=80)
    plt.close(figure)


def _profiles(axis: Axes, real: NDArray[np.uint8], simulated: NDArray[np.uint8]) -> None:
    """Median and quartiles of the radial profile, of particles that the window shows whole."""
    for images, colour in ((simulated, SIMULATED), (real, REAL)):
        whole = [polar(image).mean(axis=1) for image in images if is_whole(image)]
        low, middle, high = np.percentile(whole, [25, 50, 75], axis=0)
        axis.fill_between(range(len(middle)), low, high, color=colour, alpha=0.25, linewidth=0)
        axis.plot(middle, color=colour)
    axis.set(xlabel="distance from the centre, px (median, quartiles)")


def is_whole(image: NDArray[np.uint8]) -> bool:
    """Whether the window's border is background: large bubbles are cut by it."""
    border = np.concatenate([image[[0, -1]].ravel(), image[:, [0, -1]].ravel()])
    return bool(np.ptp(np.percentile(border, [3, 97])) < 40)


def sheet(images: NDArray[np.uint8], columns: int, path: Path) -> None:
    """Images side by side, white lines between them."""
    framed = np.pad(images, ((0, 0), (0, 2), (0, 2)), constant_values=255)
    rows = framed.reshape(-1, columns, *framed.shape[1:])
    Image.fromarray(np.concatenate([np.concatenate(list(row), axis=1) for row in rows])).save(path)
