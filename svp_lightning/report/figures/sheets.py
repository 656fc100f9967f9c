"""Sheets of particle images: real beside generated, and the reverse process step by step."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from svp_lightning.data.classes import display_name
from svp_lightning.report.style import DPI, INK, MUTED, class_colours, figure_style, new_figure

TARGET_WIDTH_PX = 1120
BASE_WIDTH_PX = 1280
"""A figure of this width is shown about page-wide; wider ones get larger letters."""
MAX_TILE_PX = 192
GAP_PX = 2
WHITE = 255
SCALE_BARS_UM = (1, 2, 5, 10, 20, 50, 100, 200)


@dataclass(frozen=True)
class Canvas:
    """A figure addressed in device pixels, so that image pixels stay square and whole."""

    figure: Figure
    width: int
    height: int

    @property
    def font_size(self) -> float:
        """Points that read well when the figure is shown page-wide."""
        return 9.0 * max(1.0, self.width / BASE_WIDTH_PX)

    def image(self, left: int, top: int, pixels: NDArray[np.uint8]) -> Axes:
        """Show ``pixels`` (h, w), one image pixel per device pixel, at (left, top)."""
        h, w = pixels.shape
        bottom = self.height - top - h
        axes = self.figure.add_axes(
            (left / self.width, bottom / self.height, w / self.width, h / self.height)
        )
        # As RGB: a grey colour map would change some levels by one.
        axes.imshow(np.repeat(pixels[..., None], 3, axis=2), interpolation="nearest")
        axes.set_axis_off()
        return axes

    def text(
        self,
        x: float,
        y: float,
        words: str,
        *,
        scale: float = 1.0,
        color: str = INK,
        weight: str = "normal",
        ha: str = "left",
        va: str = "center",
    ) -> None:
        """Write ``words`` at device pixel (x, y), y counted from the top.

        ``scale`` is relative to :attr:`font_size`; the rest as in matplotlib.
        """
        self.figure.text(
            x / self.width,
            1 - y / self.height,
            words,
            fontsize=scale * self.font_size,
            color=color,
            fontweight=weight,
            ha=ha,
            va=va,
        )


def new_canvas(width: int, height: int) -> Canvas:
    """A canvas of ``width`` × ``height`` device pixels."""
    figure = new_figure(width / DPI, height / DPI)
    figure.set_layout_engine("none")
    return Canvas(figure, width, height)


def mosaic(images: NDArray[np.uint8], columns: int, zoom: int) -> NDArray[np.uint8]:
    """Lay (n, H, W) images out row by row, enlarged ``zoom`` times, white between and after."""
    n, h, w = images.shape
    rows = math.ceil(n / columns)
    padded = np.full((rows * columns, h * zoom + GAP_PX, w * zoom + GAP_PX), WHITE, np.uint8)
    padded[:n, : h * zoom, : w * zoom] = images.repeat(zoom, axis=1).repeat(zoom, axis=2)
    grid = padded.reshape(rows, columns, *padded.shape[1:]).swapaxes(1, 2)
    return grid.reshape(rows * padded.shape[1], -1)[:-GAP_PX, :-GAP_PX]


def _zoom(size: int, images_across: int) -> int:
    """By how much to enlarge images of ``size`` pixels, so that they fill a page's width."""
    return max(1, min(TARGET_WIDTH_PX // images_across, MAX_TILE_PX) // size)


def contact_sheet(
    panels: Mapping[str, NDArray[np.uint8]],
    *,
    columns: int = 8,
    title: str = "",
    pixel_size_um: float | None = None,
) -> Figure:
    """Panels of images side by side, such as ``{"Real": …, "Generated": …}`` of one class.

    Args:
        panels: heading -> (n, H, W) uint8 images, grey levels 0 to 255; n may differ.
        columns: images per row in each panel.
        title: what the images show, such as the class name (``silicone_oil``).
        pixel_size_um: µm per pixel; draws a scale bar where it is known.
    """
    size = next(iter(panels.values())).shape[-1]
    zoom = _zoom(size, columns * len(panels))
    sheets = {name: mosaic(images, columns, zoom) for name, images in panels.items()}
    margin = 24
    width = margin * (len(sheets) + 1) + sum(sheet.shape[1] for sheet in sheets.values())
    unit = round(26 * max(1.0, width / BASE_WIDTH_PX))
    top = (2 * unit if title else unit) + unit
    height = top + max(sheet.shape[0] for sheet in sheets.values()) + 2 * unit
    with figure_style():
        canvas = new_canvas(width, height)
        canvas.text(margin, 1.2 * unit, display_name(title), scale=1.25, weight="bold")
        left = margin
        for name, sheet in sheets.items():
            canvas.text(left, top - 0.6 * unit, f"{name}  (n = {len(panels[name])})", color=MUTED)
            canvas.image(left, top, sheet)
            left += sheet.shape[1] + margin
        if pixel_size_um:
            scale_bar(canvas, margin, height - unit, size * zoom, zoom / pixel_size_um)
    return canvas.figure


def scale_bar(canvas: Canvas, left: int, y: int, tile_px: int, px_per_um: float) -> None:
    """Draw a bar of a round length, at most as wide as one image."""
    fitting = [length for length in SCALE_BARS_UM if length * px_per_um <= tile_px]
    length = fitting[-1] if fitting else SCALE_BARS_UM[0]
    right = left + length * px_per_um
    axes = canvas.figure.add_axes((0, 0, 1, 1), xlim=(0, canvas.width), ylim=(canvas.height, 0))
    axes.set_axis_off()
    axes.plot([left, right], [y, y], color=INK, linewidth=3, solid_capstyle="butt")
    canvas.text(right + 12, y, f"{length} µm", color=INK)


def noise_to_image_strip(
    frames: NDArray[np.uint8], step_labels: Sequence[str], class_names: Sequence[str]
) -> Figure:
    """The reverse process: one row per class, from pure noise to the finished image.

    The figure by which diffusion papers show their model at work (Ho et al. 2020, figure 6).

    Args:
        frames: (classes, steps, H, W) uint8, noise first.
        step_labels: what to write above each column (``"t = 500"``).
        class_names: K names, one for each row.
    """
    num_classes, steps, size, _ = frames.shape
    zoom = _zoom(size, steps)
    row_height = size * zoom + GAP_PX
    strips = [mosaic(row, steps, zoom) for row in frames]
    margin, label_width = 20, 190
    width = label_width + strips[0].shape[1] + margin
    unit = round(26 * max(1.0, width / BASE_WIDTH_PX))
    top = 2 * unit
    height = top + num_classes * row_height + 2 * unit
    colours = class_colours(class_names)
    with figure_style():
        canvas = new_canvas(width, height)
        letters = max(1, int(size * zoom / (0.4 * unit)))  # that fit above one image
        for column, label in enumerate(step_labels):
            centre = label_width + (column + 0.5) * (size * zoom + GAP_PX)
            words = textwrap.fill(label, letters, break_long_words=False)
            canvas.text(centre, unit, words, scale=0.85, color=MUTED, ha="center")
        for row, (name, strip) in enumerate(zip(class_names, strips, strict=True)):
            y = top + row * row_height
            canvas.image(label_width, y, strip)
            canvas.text(
                label_width - 14,
                y + row_height / 2,
                display_name(name).replace(" ", "\n"),
                color=colours[name],
                weight="bold",
                ha="right",
            )
        words = "noise   →   each step removes a little of it   →   image"
        canvas.text(label_width + strips[0].shape[1] / 2, height - unit, words, color=MUTED,
                    ha="center")  # fmt: skip
    return canvas.figure
