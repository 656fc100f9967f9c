"""How large were the real crops before they were enlarged? Each tells by its own spectrum.

    python experiments/simulator_realism/boxes.py --crops FOLDER [--out FOLDER]

An image enlarged from n camera pixels holds noise up to n / 2 cycles per window and next to
nothing beyond. Crops of one scale would all end at one frequency, the same along both axes.
Prints a line per crop of the development half, and writes ``boxes.png``: mean spectra, and the
size of the box against that of the particle in it.
"""

import argparse
from pathlib import Path

import numpy as np
from crops import read_real
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.fft import dctn

from svp_lightning.data.classes import AIR_BUBBLE, SILICONE_OIL
from svp_lightning.report.style import figure_style, new_figure, save_figure
from svp_lightning.simulation.camera import BOX_CONTRAST

BACKGROUND = 175.0
PRINTED_LIMIT = 20.0
"""Cycles per window beyond which the printed figure itself (43 px) ends the spectrum."""
LOW = 7
"""Cycles per window along the other axis, at most, of what is averaged."""
END = 0.6
"""log10 of the power at which a spectrum ends: between the noise (above 1) and rounding (-0.5)."""
SOFT = 1.08
"""Pixels per two cycles: interpolation wears the last frequencies off."""
WHOLE = 0.95
"""Share of an axis from which a particle is taken to be cut off by the box."""
CYCLES = np.arange(5, 24, 0.5)


def spectrum(image: NDArray[np.uint8], axis: int) -> NDArray[np.float64]:
    """log10 of the power along an axis at :data:`CYCLES`."""
    power = dctn(image.astype(float) - BACKGROUND, norm="ortho") ** 2
    along = (power if axis == 0 else power.T)[:, : 2 * LOW].mean(axis=1)
    at = np.arange(len(along)) / 2
    near = [(at >= cycle - 0.5) & (at < cycle + 0.5) for cycle in CYCLES]
    return np.log10([along[chosen].mean() + 1e-3 for chosen in near])


def pixels(image: NDArray[np.uint8], axis: int) -> float:
    """Camera pixels along an axis; infinite where the figure's own pixels end it first."""
    power = spectrum(image, axis)
    ended = np.flatnonzero(power < END)
    if not len(ended) or CYCLES[ended[0]] > PRINTED_LIMIT:
        return float("inf")
    at = max(int(ended[0]), 1)
    part = (power[at - 1] - END) / (power[at - 1] - power[at])
    return float(2 * SOFT * (CYCLES[at - 1] + part * (CYCLES[at] - CYCLES[at - 1])))


def extent(image: NDArray[np.uint8], axis: int) -> float:
    """Share of an axis that the particle takes."""
    found = np.abs(image / BACKGROUND - 1) > BOX_CONTRAST
    touched = np.flatnonzero(found.any(axis=1 - axis))
    return float((np.ptp(touched) + 1) / image.shape[axis]) if len(touched) else 0.0


def figure(crops: dict[str, NDArray[np.uint8]]) -> Figure:
    """Spectra of single crops, and box against particle, in camera pixels."""
    with figure_style():
        drawn = new_figure(9.0, 3.4)
        left, right = drawn.subplots(1, 2)
        for name, colour in ((SILICONE_OIL, "#CC6677"), (AIR_BUBBLE, "#332288")):
            label = name.replace("_", " ")
            for number, image in enumerate(crops[name]):
                power = (spectrum(image, 0) + spectrum(image, 1)) / 2
                shown = label if number == 0 else None
                left.plot(CYCLES, power, color=colour, linewidth=0.8, alpha=0.7, label=shown)
            boxes = [
                (extent(i, a) * pixels(i, a), pixels(i, a)) for i in crops[name] for a in (0, 1)
            ]
            known = np.array([box for box in boxes if box[0] < WHOLE * box[1]])
            right.plot(*known.T, "o", color=colour, markersize=4, label=label)
        left.axhline(END, color="0.5", linewidth=0.8, linestyle="--")
        left.set(xlabel="cycles per window", ylabel="log10 of power", title="Where a crop ends")
        right.set(
            xlabel="particle, camera px", ylabel="box, camera px", title="Box against particle"
        )
        right.axline((10, 15), slope=1, color="0.5", linewidth=0.8, linestyle="--")
        left.legend()
    return drawn


def main() -> None:
    """Print and draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--crops", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    arguments = parser.parse_args()
    crops = read_real(arguments.crops, "development")
    for name, images in crops.items():
        margins = []
        for number, image in enumerate(images):
            high, wide = (pixels(image, axis) for axis in (0, 1))
            margins += [
                (1 - extent(image, axis)) * pixels(image, axis)
                for axis in (0, 1)
                if extent(image, axis) < WHOLE
            ]
            print(f"{name} {number}: {wide:.1f} x {high:.1f} camera pixels")
        quartiles = np.percentile(margins, [25, 50, 75]).round(1)
        print(f"{name}: box less particle, camera pixels, quartiles {quartiles}")
    save_figure(figure(crops), arguments.out / "boxes.png")


if __name__ == "__main__":
    main()
