"""The gallery of suspects: one HTML file in which a person decides on the class of each image."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from svp_lightning.data.classes import display_name
from svp_lightning.data.store import Store
from svp_lightning.evaluation.particle_counts import UNFAMILIAR
from svp_lightning.evaluation.reference import Judged
from svp_lightning.report.counts import UNKNOWN_DEFINITION, size_definition
from svp_lightning.report.page import data_uri, write_page
from svp_lightning.report.style import class_colours
from svp_lightning.runtime.files import sha256_of_json

COLUMNS = 8
"""Images along one side of a sheet, which is decoded as a whole when one of them is shown."""
FIRST_SHEETS = 4
"""Before the script, which shows them while the others and the details are loaded."""
QUALITY = 90
"""Of the JPEG sheets: about a third of the bytes of the images, and no grey level off by more than
the noise of a camera."""


SUSPECTS = 500
"""Particles of a prediction to look at; at most half of them unfamiliar."""


def write_gallery(
    path: Path,
    store: Store,
    issues: pd.DataFrame,
    probability: NDArray[np.floating[Any]],
    neighbours: NDArray[np.int64],
) -> Path:
    """Write the gallery, whole or not at all.

    Args:
        path: the new file.
        store: of the images.
        issues: the S suspects to show, with ``row`` (in the store), ``suggested``, ``score`` and
            ``reason``, in their order.
        probability: (S, K) of the classes.
        neighbours: (S, M) rows of the store to show with each.
    """
    title = f"{len(issues):,} labels, the most suspect first"
    names, given = store.class_names, store.labels
    return _write(path, title, "Label", store, names, given, issues, probability, neighbours)


def write_suspects(path: Path, store: Store, judged: Judged) -> Path | None:
    """Write a gallery of the unfamiliar particles, the strangest first, then of the least certain.

    ``judged`` is what is said of each image of the store, labelled or not.

    Returns:
        The file; None where there is no particle.
    """
    if not len(store):
        return None
    found, strange = judged.found, np.flatnonzero(judged.unfamiliar)
    doubt = 1 - found.probabilities.max(axis=1)
    known = np.zeros(len(store)) if judged.familiarity is None else judged.familiarity
    strange = strange[np.argsort(known[strange], kind="stable")][: SUSPECTS // 2]
    others = np.argsort(-doubt, kind="stable")
    others = others[~np.isin(others, strange)][: SUSPECTS - len(strange)]
    rows = np.concatenate([strange, others])
    second = np.argsort(-found.probabilities[others], axis=1, kind="stable")[:, 1]
    names = np.array([*found.class_names, UNFAMILIAR], dtype=object)
    issues = pd.DataFrame(
        {
            "row": rows,
            "suggested": names[[*[len(names) - 1] * len(strange), *second]],
            "score": [*1 - known[strange], *doubt[others]],
            "reason": [
                *(f"Of validation images, {x:.2%} are as strange." for x in known[strange]),
                *(f"The likeliest class has a probability of {1 - x:.2f}." for x in doubt[others]),
            ],
        }
    )
    title = (
        f"{len(strange):,} unfamiliar, {len(others):,} least certain of {len(store):,} particles"
    )
    none = np.empty((len(rows), 0), np.int64)
    given, probability = judged.likeliest, found.probabilities[rows]
    return _write(path, title, "Class", store, list(names), given, issues, probability, none)


def _write(
    path: Path,
    title: str,
    given_is: str,
    store: Store,
    class_names: Sequence[str],
    given: NDArray[np.integer[Any]],
    issues: pd.DataFrame,
    probability: NDArray[np.floating[Any]],
    neighbours: NDArray[np.int64],
) -> Path:
    """As :func:`write_gallery`, with (N,) classes ``given`` to the store's images."""
    rows = issues["row"].to_numpy()
    # In the order of the suspects, so that those on one screen are of few sheets.
    place, images = pd.factorize(np.concatenate([rows, neighbours.ravel()]))
    names = list(class_names)
    particles = store.particles.iloc[images]
    runs, run = np.unique(particles["group"].to_numpy(dtype=str), return_inverse=True)
    colours = class_colours(names)
    ids, definition = particles["id"].astype(str).tolist(), size_definition(store)
    data = {
        "key": f"svp-audit-{sha256_of_json([store.sha256, ids])[:16]}",
        "classes": [
            {"name": name, "display": display_name(name), "colour": colours[name]} for name in names
        ],
        "given_is": given_is,
        "size_is": "Diameter" if definition == UNKNOWN_DEFINITION else definition,
        "runs": runs.tolist(),
        "sheet": {"columns": COLUMNS, "tile": store.image_size},
        "images": {
            "id": ids,
            "given": given[images].tolist(),
            "run": run.tolist(),
            "um": _numbers(particles, "ecd_um"),
            "pixel_um": _numbers(particles, "pixel_um", store.image_pixel_um),
        },
        "suspects": {
            "image": place[: len(rows)].tolist(),
            "suggested": [names.index(name) for name in issues["suggested"]],
            "score": issues["score"].round(4).tolist(),
        },
    }
    reason, reasons = pd.factorize(issues["reason"])
    details = {
        "probability": np.round(probability, 4).tolist(),
        "neighbours": place[len(rows) :].reshape(neighbours.shape).tolist(),
        "reasons": reasons.tolist(),
        "reason": reason.tolist(),
    }
    each = COLUMNS * COLUMNS
    sheets = [_sheet(store.images[images[at : at + each]]) for at in range(0, len(images), each)]
    first, others = ("\n".join(s) for s in (sheets[:FIRST_SHEETS], sheets[FIRST_SHEETS:]))
    values = {"title": title, "given_is": given_is, "data": data, "details": details}
    values |= {"first_sheets": Markup(first), "other_sheets": Markup(others)}
    return write_page(path, "gallery.html.j2", values)


def _sheet(images: NDArray[np.uint8]) -> Markup:
    """(n, H, W) images in rows of :data:`COLUMNS` as one JPEG."""
    count, height, width = images.shape
    rows = -(-count // COLUMNS)
    tiles = np.zeros((rows * COLUMNS, height, width), np.uint8)
    tiles[:count] = images
    joined = tiles.reshape(rows, COLUMNS, height, width).swapaxes(1, 2)
    buffer = BytesIO()
    sheet = Image.fromarray(joined.reshape(rows * height, COLUMNS * width))
    sheet.save(buffer, format="jpeg", quality=QUALITY)
    return data_uri(buffer.getvalue(), "image/jpeg")


def _numbers(
    particles: pd.DataFrame, column: str, otherwise: float | None = None
) -> list[float | None]:
    """A column with None where a number is not known; ``otherwise`` where there is no column."""
    if column not in particles:
        return [otherwise] * len(particles)
    return [None if np.isnan(x) else round(float(x), 4) for x in particles[column].astype(float)]
