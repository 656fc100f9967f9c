"""Rendering a template into one file, of HTML that needs nothing else, or of Markdown."""

import base64
from collections.abc import Mapping
from functools import cache, partial
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure
from PIL import Image

from svp_lightning import __version__
from svp_lightning.data.classes import display_name
from svp_lightning.data.importers.summary import as_range
from svp_lightning.report import text
from svp_lightning.report.style import DPI, class_colours, figure_style
from svp_lightning.runtime.files import write_text

REPORT, FIGURES = "report.html", "figures"
CSS_PX_PER_INCH = 118
"""A figure 8 inches wide fills the page, and its letters are as large as the page's."""


class Picture(NamedTuple):
    """An image inside the page; ``width`` and ``height`` in CSS pixels."""

    name: str
    title: str
    caption: str
    uri: Markup
    width: int
    height: int


_MARKS = {"<": "&lt;", "](": "]\\(", "|": "\\|", "`": "'", "\n": " "}
"""What a name could be read as in Markdown -> what shows it."""


@cache
def _environment(html: bool) -> Environment:
    environment = Environment(
        loader=PackageLoader("svp_lightning.report"),
        autoescape=html,
        finalize=None if html else in_markdown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=not html,
    )
    environment.filters |= {
        "display": display_name,
        "score": text.score,
        "interval": text.interval,
        "ends": text.ends,
        "percent": text.percent,
        "whole_percent": partial(text.known, form="{:.0%}"),
        "share": text.share,
        "seeds": text.seed_ranges,
        "decimal": partial(text.known, form="{:.1f}"),
        "p": text.p_cell,
        "points": partial(text.points, most=1),  # a column has the same decimals throughout
        "duration": text.duration,
        "expected": text.expected_count,
        "backbone": text.backbone_name,
        "metric": text.metric_name,
        "lower_first": text.lower_first,
        "counted_as": "counted as {}".format,
        "number": "{:.4g}".format,
        "signed": lambda value: f"{'+' if value >= 0 else '−'} {abs(value):.4g}",
        "pixels": lambda ends: f"{as_range(ends)} µm",
    }
    environment.globals |= {"version": __version__, "class_colours": class_colours}
    return environment


def in_markdown(value: Any) -> Any:
    """A value that is shown as it is: no HTML, link or image, and no end of a cell or a line."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    for mark, shown in _MARKS.items():
        value = value.replace(mark, shown)
    return value


def write_page(path: Path, template: str, values: Mapping[str, Any]) -> Path:
    """Render a ``template``, HTML or Markdown, with ``values``, whole or not at all."""
    page = _environment(".html" in template).get_template(template).render(values)
    write_text(path, page)
    return path


def pictures(folder: Path, words: Mapping[str, tuple[str, str]]) -> list[Picture]:
    """The figures that a folder holds, each shown at the size its letters were drawn for.

    ``words``: file name without suffix -> title and caption, in the order of the page.
    """
    shown = []
    for name, (title, caption) in words.items():
        if (path := folder / f"{name}.png").is_file():
            with Image.open(path) as image:
                width, height = (round(n * CSS_PX_PER_INCH / DPI) for n in image.size)
            uri = data_uri(path.read_bytes(), "image/png")
            shown.append(Picture(name, title, caption, uri, width, height))
    return shown


def embedded_figure(
    figure: Figure, name: str, title: str, caption: str, *, images: bool = False
) -> Picture:
    """A figure as SVG, sharp at any size and on paper; as PNG where it shows ``images``."""
    buffer, form = BytesIO(), "png" if images else "svg"
    with figure_style():
        figure.savefig(buffer, format=form, metadata={"Software" if images else "Date": None})
    width, height = (round(inches * CSS_PX_PER_INCH) for inches in figure.get_size_inches())
    uri = data_uri(buffer.getvalue(), "image/png" if images else "image/svg+xml")
    return Picture(name, title, caption, uri, width, height)


def data_uri(content: bytes, mime: str) -> Markup:
    """A file inside the page."""
    return Markup(f"data:{mime};base64,{base64.b64encode(content).decode()}")


PROVENANCE_NAMES = {
    "data": "Real data (SHA-256)",
    "generator": "Generator (SHA-256)",
    "synthetic": "Synthetic data (SHA-256)",
    "config": "Configuration (SHA-256)",
    "git": "Source revision",
    "wall_seconds": "Wall time",
}


def provenance_rows(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(name, value) of everything recorded about the making of a result."""
    rows = []
    for key, value in facts.items():
        if value in (None, "", {}, []):
            continue
        if isinstance(value, Mapping):
            words = ", ".join(f"{name} {version}" for name, version in value.items())
        else:
            words = text.duration(value) if key == "wall_seconds" else str(value)
        rows.append((PROVENANCE_NAMES.get(key, key.replace("_", " ").capitalize()), words))
    return rows
