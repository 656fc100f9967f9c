"""Wrong labels of known place, to study what they do and whether an audit finds them.

What is flipped depends on the seed and the image's own name alone; the truth stays in
``true_label``. Test images are never flipped.
"""

import math

import numpy as np
import pandas as pd

from svp_lightning.data.classes import AIR_BUBBLE, PROTEIN, SILICONE_OIL
from svp_lightning.simulation.session import stream
from svp_lightning.simulation.settings import LabelNoiseSettings

NOISY_SPLITS = ("train", "val")
_ALIKE_RADIUS_UM = 2.1
_ALIKE_SPREAD_UM = 0.8
_PROTEIN_FOCUS_UM = 9.0


def with_label_noise(
    table: pd.DataFrame,
    noise: LabelNoiseSettings,
    class_names: tuple[str, ...],
    size_scale: float,
    seed: int,
) -> pd.DataFrame:
    """Add ``true_label`` and ``label_flipped``, and change ``label`` where it is flipped.

    ``table`` has ``id, label, split`` and the physical columns; a label is only flipped to one of
    ``class_names``. ``size_scale`` is the instrument's, ``seed`` the data set's.
    """
    labels = table["label"].tolist()
    chances = noise.rate * (ambiguity(table, size_scale) if noise.kind == "ambiguity" else 1.0)
    chances = table["split"].isin(NOISY_SPLITS) * chances
    given = list(labels)
    rows = zip(labels, table["morphology"], table["id"], chances, strict=True)
    for row, (name, morphology, identity, chance) in enumerate(rows):
        mistakes = [
            m for m in _mistakes(noise.kind, name, morphology, class_names) if m in class_names
        ]
        if chance and mistakes:
            rng = stream(seed, f"label noise {identity}")
            if rng.random() < chance:
                given[row] = mistakes[int(rng.integers(len(mistakes)))]
    flipped = [a != b for a, b in zip(given, labels, strict=True)]
    return table.assign(label=given, true_label=labels, label_flipped=flipped)


def ambiguity(table: pd.DataFrame, size_scale: float = 1.0) -> pd.Series:
    """How easily an image is taken for one of another class, 0 to 1, from its physics alone.

    Spheres that appear as a dark disc (bubbles in front of the focus, droplets behind it) are
    ambiguous as far as their radius is one that both have; compact protein as far as it is
    out of focus. Large bubbles, and protein of other shapes, are not.
    """
    radius, focus = table["radius_um"] / size_scale, table["defocus_um"]
    alike = np.exp(-0.5 * ((radius - _ALIKE_RADIUS_UM) / _ALIKE_SPREAD_UM) ** 2)
    label, morphology = table["label"], table["morphology"]
    dark_oil = (label == SILICONE_OIL) & (focus < 0)
    dark_air = (label == AIR_BUBBLE) & (focus > 0) & (morphology != "large_bubble")
    blurred = 1 - np.exp(-np.abs(focus) / (_PROTEIN_FOCUS_UM * math.sqrt(size_scale)))
    lump = (label == PROTEIN) & (morphology == "compact")
    return pd.Series(alike.where(dark_oil | dark_air, 0.0) + blurred.where(lump, 0.0))


def _mistakes(kind: str, name: str, morphology: str, names: tuple[str, ...]) -> tuple[str, ...]:
    """Classes an image of this class is taken for."""
    if kind == "uniform":
        return tuple(other for other in names if other != name)
    if name == PROTEIN:
        return (SILICONE_OIL,) if morphology == "compact" else ()
    return (AIR_BUBBLE,) if name == SILICONE_OIL else (SILICONE_OIL,)
