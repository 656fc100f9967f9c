"""The images a classifier got wrong with the most confidence: often mislabelled ones."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from svp_lightning.data.classes import display_name
from svp_lightning.report.figures.sheets import BASE_WIDTH_PX, new_canvas
from svp_lightning.report.style import INK, class_colours, figure_style

MARGIN_PX, CAPTION_PX = 26, 84


def worst_mistakes(
    images: NDArray[np.uint8],
    given: Sequence[str],
    predicted: Sequence[str],
    probability: NDArray[np.floating],
    class_names: Sequence[str],
    *,
    columns: int = 6,
) -> Figure:
    """A gallery of images with the label given, the class predicted and its probability.

    Args:
        images: (n, H, W) uint8, most confident mistake first.
        given: n class names, the labels.
        predicted: n class names, the most probable classes.
        probability: (n,) probability of the predicted class, in [0, 1].
        class_names: all classes, for their colours.
        columns: images per row.
    """
    n, size, _ = images.shape
    cell = (BASE_WIDTH_PX - MARGIN_PX) // columns
    zoom = max(1, (cell - MARGIN_PX) // size)
    cell = max(cell, size * zoom + MARGIN_PX)
    row_height = size * zoom + CAPTION_PX
    colours = class_colours(class_names)
    with figure_style():
        canvas = new_canvas(
            MARGIN_PX + columns * cell, MARGIN_PX + max(1, math.ceil(n / columns)) * row_height
        )
        for position in range(n):
            left = MARGIN_PX + (position % columns) * cell
            top = MARGIN_PX + (position // columns) * row_height
            axes = canvas.image(left, top, images[position].repeat(zoom, 0).repeat(zoom, 1))
            frame = Rectangle(
                (0, 0), 1, 1, transform=axes.transAxes, fill=False, clip_on=False,
                linewidth=2.5, edgecolor=colours[predicted[position]],
            )  # fmt: skip
            axes.add_patch(frame)
            called = f"{display_name(predicted[position])} {_percent(probability[position])}"
            base = top + size * zoom + 22
            canvas.text(left, base, f"labelled {display_name(given[position]).lower()}",
                        scale=0.72, color=INK)  # fmt: skip
            canvas.text(left, base + 22, called, scale=0.78, weight="bold")
        if n == 0:
            canvas.text(MARGIN_PX, MARGIN_PX + row_height / 2, "No mistakes on the test images.")
    return canvas.figure


def _percent(probability: float) -> str:
    """``0.9996`` -> ``"> 99.9 %"``: a rounded 100 % would claim a certainty nobody has."""
    return "> 99.9 %" if probability > 0.9995 else f"{100 * probability:.1f} %"
