"""Sheets of images: real and generated ones, a generator at work, a classifier's mistakes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
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
LABEL_PX = 190
MARGIN_PX = 20
LINE_PX = 26
GALLERY_COLUMNS = 6

Images = NDArray[np.uint8]


class Row(NamedTuple):
    """A row of blocks of (n, H, W) images, side by side and each laid out line by line."""

    blocks: Sequence[Images]
    label: str = ""
    """On the left, in ``colour``."""
    colour: str = INK
    notes: Sequence[str] = ()
    """Below the images of the last line."""
    note_colours: Sequence[str] | None = None
    """None: muted."""


@dataclass(frozen=True)
class Canvas:
    """A figure addressed in device pixels, so that image pixels stay square and whole."""

    figure: Figure
    width: int
    height: int

    def image(self, left: float, top: float, pixels: Images) -> None:
        """Show ``pixels`` (h, w), one image pixel per device pixel, at (left, top)."""
        h, w = pixels.shape
        place = left / self.width, 1 - (top + h) / self.height, w / self.width, h / self.height
        axes = self.figure.add_axes(place)
        # As RGB: a grey colour map would change some levels by one.
        axes.imshow(np.repeat(pixels[..., None], 3, axis=2), interpolation="nearest")
        axes.set_axis_off()

    def text(self, x: float, y: float, words: str, *, scale: float = 1.0, **style: Any) -> None:
        """Write ``words`` at device pixel (x, y), y counted from the top.

        ``scale`` is relative to what reads well where the figure is shown page-wide.
        """
        size = scale * 9.0 * max(1.0, self.width / BASE_WIDTH_PX)
        x, y = x / self.width, 1 - y / self.height
        style.setdefault("va", "center")
        self.figure.text(x, y, words, fontsize=size, **style)

    def scale_bar(self, left: float, y: float, tile_px: int, px_per_um: float) -> None:
        """Draw a bar of a round length, at most as wide as one image."""
        fitting = [length for length in SCALE_BARS_UM if length * px_per_um <= tile_px]
        length = fitting[-1] if fitting else SCALE_BARS_UM[0]
        right = left + length * px_per_um
        axes = self.figure.add_axes((0, 0, 1, 1), xlim=(0, self.width), ylim=(self.height, 0))
        axes.set_axis_off()
        axes.plot([left, right], [y, y], color=INK, linewidth=3, solid_capstyle="butt")
        self.text(right + 12, y, f"{length} µm")


def mosaic(images: Images, columns: int, zoom: int) -> Images:
    """Lay (n, H, W) images out row by row, enlarged ``zoom`` times, white between and after."""
    n, h, w = images.shape
    rows = -(-n // columns)
    padded = np.full((rows * columns, h * zoom + GAP_PX, w * zoom + GAP_PX), WHITE, np.uint8)
    padded[:n, : h * zoom, : w * zoom] = images.repeat(zoom, axis=1).repeat(zoom, axis=2)
    grid = padded.reshape(rows, columns, *padded.shape[1:]).swapaxes(1, 2)
    return grid.reshape(rows * padded.shape[1], -1)[:-GAP_PX, :-GAP_PX]


def sheet(
    rows: Sequence[Row],
    columns: int,
    *,
    title: str = "",
    headings: Sequence[str] = (),
    column_labels: Sequence[str] = (),
    footer: str = "",
    pixel_size_um: float | None = None,
) -> Figure:
    """Rows of images, one above the other, all with as many blocks and every image of one size.

    A line of a block has ``columns`` images. ``title`` is a line above, ``footer`` one below;
    ``headings`` are above the blocks, ``column_labels`` above the columns of every block. A scale
    bar is drawn where ``pixel_size_um`` (µm per px) is known.
    """
    size, across = rows[0].blocks[0].shape[-1], columns * len(rows[0].blocks)
    zoom = max(1, min(TARGET_WIDTH_PX // across, MAX_TILE_PX) // size)
    tile, start = size * zoom, MARGIN_PX
    block = columns * (tile + GAP_PX) + MARGIN_PX
    if any(row.label for row in rows):  # letters grow with the width
        start = round(LABEL_PX * max(1.0, (LABEL_PX + block * len(rows[0].blocks)) / BASE_WIDTH_PX))
    width = max(start + block * len(rows[0].blocks), BASE_WIDTH_PX // 2)
    unit = round(LINE_PX * max(1.0, width / BASE_WIDTH_PX))
    lines = [max(-(-len(images) // columns) for images in row.blocks) for row in rows]
    below = [unit // 2 + unit * max((note.count("\n") + 1 for note in row.notes), default=0)
             for row in rows]  # fmt: skip
    tops = MARGIN_PX + unit * sum(map(bool, (title, any(headings), column_labels)))
    heights = [n * (tile + GAP_PX) + more for n, more in zip(lines, below, strict=True)]
    last = (bool(footer) + bool(pixel_size_um)) * unit + MARGIN_PX
    height = tops + sum(heights) + last
    with figure_style():
        figure = new_figure(width / DPI, height / DPI)
        figure.set_layout_engine("none")
        canvas, y = Canvas(figure, width, height), tops
        if title:
            canvas.text(MARGIN_PX, MARGIN_PX + unit / 3, title, scale=1.25, weight="bold")
        lefts = [start + block * at for at in range(len(rows[0].blocks))]
        for left, heading in zip(lefts, headings, strict=False):
            canvas.text(left, tops - unit / 2 - unit * bool(column_labels), heading, color=MUTED)
        centres = [left + (tile + GAP_PX) * (k + 0.5) for left in lefts for k in range(columns)]
        for centre, label in zip(centres, [*column_labels] * len(lefts), strict=False):
            canvas.text(centre, tops - unit / 2, label, scale=0.85, color=MUTED, ha="center")
        for row, n, tall in zip(rows, lines, heights, strict=True):
            foot = y + n * (tile + GAP_PX)
            middle = (y + foot) / 2
            canvas.text(start - 14, middle, row.label, color=row.colour, weight="bold", ha="right")
            for left, images in zip(lefts, row.blocks, strict=True):
                if len(images):
                    canvas.image(left, y, mosaic(images, columns, zoom))
            colours = row.note_colours or [MUTED] * len(row.notes)
            for centre, note, colour in zip(centres, row.notes, colours, strict=False):
                canvas.text(centre, foot + 4, note, scale=0.75, color=colour, ha="center", va="top")
            y += tall
        canvas.text(start, y + unit / 2, footer, scale=0.85, color=MUTED)
        if pixel_size_um:
            y += unit * bool(footer) + unit // 2
            canvas.scale_bar(start, y, tile, zoom / pixel_size_um)
    return figure


def class_rows(
    blocks: Sequence[Sequence[Images]], class_names: Sequence[str], columns: int, **options: Any
) -> Figure:
    """A row for each class, named in its colour: for each class (n, H, W) images, side by side.

    ``columns`` is the images in a line of each block; ``options`` are those of :func:`sheet`.
    """
    colours = class_colours(class_names)
    rows = [
        Row(own, display_name(name).replace(" ", "\n"), colours[name])
        for own, name in zip(blocks, class_names, strict=True)
    ]
    return sheet(rows, columns, **options)


def contact_sheet(
    panels: Mapping[str, Images],
    *,
    columns: int = 8,
    title: str = "",
    pixel_size_um: float | None = None,
) -> Figure:
    """Panels of images side by side, such as ``{"Real": …, "Generated": …}`` of one class.

    ``panels``: heading -> (n, H, W) uint8 images, ``columns`` in a row; n may differ. ``title`` is
    the name of a class. A scale bar is drawn where ``pixel_size_um`` (µm per px) is known.
    """
    headings = [f"{name}  (n = {len(images)})" for name, images in panels.items()]
    rows, title = [Row(list(panels.values()))], display_name(title)
    return sheet(rows, columns, title=title, headings=headings, pixel_size_um=pixel_size_um)


def worst_mistakes(
    images: Images,
    given: Sequence[str],
    predicted: Sequence[str],
    probability: NDArray[np.floating],
    class_names: Sequence[str],
) -> Figure:
    """A gallery of (n, H, W) images, most confident mistake first.

    Each has the label ``given``, the class ``predicted``, in its colour, and its probability.
    """
    if not len(images):
        return sheet([Row([images])], GALLERY_COLUMNS, title="No mistakes on the test images.")
    colours = class_colours(class_names)
    notes = [  # a rounded 100 % would claim a certainty nobody has
        f"labelled {display_name(label).lower()}\n{display_name(called)} "
        + ("> 99.9 %" if p > 0.9995 else f"{100 * p:.1f} %")
        for label, called, p in zip(given, predicted, probability, strict=True)
    ]
    shown = [colours[name] for name in predicted]
    starts = range(0, len(images), GALLERY_COLUMNS)
    lines = [slice(at, at + GALLERY_COLUMNS) for at in starts]
    rows = [Row([images[at]], "", INK, notes[at], shown[at]) for at in lines]
    return sheet(rows, GALLERY_COLUMNS)
