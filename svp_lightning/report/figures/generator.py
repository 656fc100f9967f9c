"""What a generator does: real beside generated, from one seed to another, and with more guidance.

One row of images, or several, for each class; its name in its colour on the left.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from svp_lightning.data.classes import display_name
from svp_lightning.report.figures.sheets import (
    GAP_PX,
    MAX_TILE_PX,
    TARGET_WIDTH_PX,
    Canvas,
    mosaic,
    new_canvas,
    scale_bar,
)
from svp_lightning.report.style import INK, MUTED, class_colours, figure_style

LABEL_PX = 190
MARGIN_PX = 20
LINE_PX = 26


def class_sheet(images: Mapping[str, NDArray[np.uint8]], pixel_size_um: float | None) -> Figure:
    """Images of several classes, two rows of each.

    Args:
        images: class name -> (n, H, W) uint8, n even and the same for all.
        pixel_size_um: µm per px; draws a scale bar where it is known.
    """
    block = np.stack([_in_rows(shown, rows=2) for shown in images.values()])
    return class_rows({"": block}, list(images), pixel_size_um=pixel_size_um)


def real_and_generated(
    real: NDArray[np.uint8],
    generated: NDArray[np.uint8],
    class_names: Sequence[str],
    pixel_size_um: float | None = None,
) -> Figure:
    """The paper's layout: real images on the left, generated ones on the right, by class.

    Args:
        real: (K, n, H, W) uint8, n even.
        generated: the same shape.
        class_names: K names.
        pixel_size_um: µm per px.
    """
    panels = {
        heading: np.stack([_in_rows(shown, rows=2) for shown in images])
        for heading, images in (("Real (training)", real), ("Generated", generated))
    }
    return class_rows(panels, class_names, pixel_size_um=pixel_size_um)


def interpolation(frames: NDArray[np.uint8], class_names: Sequence[str]) -> Figure:
    """From the image of one seed to that of another, along the noise between them.

    Args:
        frames: (K, n, H, W) uint8, the two seeds' own images first and last.
        class_names: K names.
    """
    labels = ["seed A", *[""] * (frames.shape[1] - 2), "seed B"]
    words = "noise of seed A   →   along the arc between the two   →   noise of seed B"
    return class_rows({"": frames[:, None]}, class_names, column_labels=labels, footer=words)


def guidance_sweep(
    images: NDArray[np.uint8], weights: Sequence[float], class_names: Sequence[str]
) -> Figure:
    """The same seeds with the class weighted more and more.

    Args:
        images: (K, seeds, weights, H, W) uint8.
        weights: of guidance, one per column; 0 ignores the class, 1 is the class as learnt.
        class_names: K names.
    """
    labels = [f"w = {weight:g}" for weight in weights]
    words = "each row one seed; to the right the class counts more: 1 is as learnt, 0 not at all"
    return class_rows({"": images}, class_names, column_labels=labels, footer=words)


def class_rows(
    panels: Mapping[str, NDArray[np.uint8]],
    class_names: Sequence[str],
    *,
    column_labels: Sequence[str] = (),
    footer: str = "",
    pixel_size_um: float | None = None,
) -> Figure:
    """Blocks of images side by side, one above the other for each class.

    Args:
        panels: heading -> (K, rows, columns, H, W) uint8.
        class_names: K names.
        column_labels: what to write above each column of every panel.
        footer: a line below.
        pixel_size_um: µm per px; draws a scale bar where it is known.
    """
    num_classes, rows, _, size, _ = next(iter(panels.values())).shape
    across = sum(block.shape[2] for block in panels.values())
    tile = size * max(1, min(TARGET_WIDTH_PX // across, MAX_TILE_PX) // size)
    widths = [block.shape[2] * (tile + GAP_PX) for block in panels.values()]
    class_height = rows * (tile + GAP_PX) + 4 * GAP_PX
    width = LABEL_PX + sum(widths) + MARGIN_PX * len(panels)
    unit = round(LINE_PX * max(1.0, width / 1280))
    headings = any(panels) + bool(column_labels)
    top = MARGIN_PX + headings * unit
    below = (bool(footer) + bool(pixel_size_um)) * unit + MARGIN_PX
    height = top + num_classes * class_height + below
    with figure_style():
        canvas = new_canvas(width, height)
        _class_labels(canvas, class_names, top, class_height)
        left = LABEL_PX
        for (heading, block), panel_width in zip(panels.items(), widths, strict=True):
            canvas.text(left, MARGIN_PX + unit / 3, heading, weight="bold")
            for column, label in enumerate(column_labels):
                x = left + column * (tile + GAP_PX) + tile / 2
                canvas.text(x, top - unit / 2, label, scale=0.85, color=MUTED, ha="center")
            for k, images in enumerate(block):
                flat = images.reshape(-1, size, size)
                sheet = mosaic(flat, block.shape[2], tile // size)
                canvas.image(left, top + k * class_height, sheet)
            left += panel_width + MARGIN_PX
        y = top + num_classes * class_height + unit / 2
        canvas.text(LABEL_PX, y, footer, scale=0.85, color=MUTED)
        if pixel_size_um:
            scale_bar(
                canvas, LABEL_PX, round(y + bool(footer) * unit), tile, tile / size / pixel_size_um
            )
    return canvas.figure


def _class_labels(canvas: Canvas, names: Sequence[str], top: int, class_height: int) -> None:
    colours = class_colours(names)
    for k, name in enumerate(names):
        y = top + (k + 0.5) * class_height
        words = display_name(name).replace(" ", "\n")
        canvas.text(
            LABEL_PX - 14, y, words, color=colours.get(name, INK), weight="bold", ha="right"
        )


def _in_rows(images: NDArray[np.uint8], rows: int) -> NDArray[np.uint8]:
    """(n, H, W) -> (rows, n / rows, H, W); what does not fill a row is left out."""
    columns = max(1, len(images) // rows)
    kept = images[: rows * columns]
    return kept.reshape(-1, columns, *images.shape[1:])
