"""Sheets of images: real and generated ones, a generator at work, a classifier's mistakes."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
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
LABEL_PX = 190
MARGIN_PX = 20
LINE_PX = 26
MISTAKE_MARGIN_PX, CAPTION_PX = 26, 84


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

    def text(self, x: float, y: float, words: str, *, scale: float = 1.0, **style: Any) -> None:
        """Write ``words`` at device pixel (x, y), y counted from the top.

        ``scale`` is relative to :attr:`font_size`; ``style`` as in matplotlib.
        """
        style.setdefault("va", "center")
        size = scale * self.font_size
        self.figure.text(x / self.width, 1 - y / self.height, words, fontsize=size, **style)


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
    canvas.text(right + 12, y, f"{length} µm")


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
    words = "noise   →   each step removes a little of it   →   image"
    return class_rows({"": frames[:, None]}, class_names, column_labels=step_labels, footer=words)


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
    tile = size * _zoom(size, across)
    widths = [block.shape[2] * (tile + GAP_PX) for block in panels.values()]
    class_height = rows * (tile + GAP_PX) + 4 * GAP_PX
    width = LABEL_PX + sum(widths) + MARGIN_PX * len(panels)
    unit = round(LINE_PX * max(1.0, width / BASE_WIDTH_PX))
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
            y = round(y + bool(footer) * unit)
            scale_bar(canvas, LABEL_PX, y, tile, tile / size / pixel_size_um)
    return canvas.figure


def _class_labels(canvas: Canvas, names: Sequence[str], top: int, class_height: int) -> None:
    colours = class_colours(names)
    for k, name in enumerate(names):
        y = top + (k + 0.5) * class_height
        words = display_name(name).replace(" ", "\n")
        canvas.text(LABEL_PX - 14, y, words, color=colours[name], weight="bold", ha="right")


def _in_rows(images: NDArray[np.uint8], rows: int) -> NDArray[np.uint8]:
    """(n, H, W) -> (rows, n / rows, H, W); what does not fill a row is left out."""
    columns = max(1, len(images) // rows)
    kept = images[: rows * columns]
    return kept.reshape(-1, columns, *images.shape[1:])


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
    cell = (BASE_WIDTH_PX - MISTAKE_MARGIN_PX) // columns
    zoom = max(1, (cell - MISTAKE_MARGIN_PX) // size)
    cell = max(cell, size * zoom + MISTAKE_MARGIN_PX)
    row_height = size * zoom + CAPTION_PX
    colours = class_colours(class_names)
    with figure_style():
        canvas = new_canvas(
            MISTAKE_MARGIN_PX + columns * cell,
            MISTAKE_MARGIN_PX + max(1, math.ceil(n / columns)) * row_height,
        )
        for position in range(n):
            left = MISTAKE_MARGIN_PX + (position % columns) * cell
            top = MISTAKE_MARGIN_PX + (position // columns) * row_height
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
            canvas.text(left, base + 22, called, scale=0.78, weight="bold",
                        color=colours[predicted[position]])  # fmt: skip
        if n == 0:
            middle = MISTAKE_MARGIN_PX + row_height / 2
            canvas.text(MISTAKE_MARGIN_PX, middle, "No mistakes on the test images.")
    return canvas.figure


def _percent(probability: float) -> str:
    """``0.9996`` -> ``"> 99.9 %"``: a rounded 100 % would claim a certainty nobody has."""
    return "> 99.9 %" if probability > 0.9995 else f"{100 * probability:.1f} %"
