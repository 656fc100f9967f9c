"""What the measures of ``fidelity.json`` are called, and how to read them."""

from collections.abc import Mapping

from svp_lightning.data.classes import display_name
from svp_lightning.report.fidelity_schema import Estimate, Excess, Memorised
from svp_lightning.report.wording import UNKNOWN, p_value, percent

FEATURE_NAMES = {
    "fid": ("FID, own features", "lower"),
    "kid": ("KID, own features", "about 0"),
    "precision": ("Precision (fidelity)", "higher"),
    "recall": ("Recall (variety)", "higher"),
    "density": ("Density (fidelity)", "about 1"),
    "coverage": ("Coverage (variety)", "higher"),
    "auc": ("Two-sample AUC", "0.5"),
}
"""Measure -> name, best value."""
RECOGNISED = ("Taken for its class", "as real")

MEASURE_NAMES = {
    "ecd": "Diameter (ECD)",
    "circularity": "Circularity",
    "aspect_ratio": "Aspect ratio",
    "mean_intensity": "Mean intensity",
    "min_intensity": "Minimum intensity",
    "edge_gradient": "Edge gradient",
    "radial_profile": "Radial profile",
}
SPACE_NAMES = {
    "pixel": "Distance to the nearest training image, grey levels (RMS)",
    "feature": "… in feature space",
}


def number(value: float | None) -> str:
    """Three significant places at least, small values not rounded to nothing."""
    if value is None:
        return UNKNOWN
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.2f}" if abs(value) >= 10 else f"{value:.3f}"


def span(estimate: Estimate) -> str:
    """``"0.881 to 0.934"``."""
    return f"{number(estimate.low)} to {number(estimate.high)}"


def with_span(estimate: Estimate) -> str:
    """``"0.912 [0.881, 0.934]"``."""
    return f"{number(estimate.value)} [{number(estimate.low)}, {number(estimate.high)}]"


def excess_words(excess: Excess) -> str:
    """``"12 of 300 (4.0 %, 2.3 % to 6.9 %)"``."""
    share = excess.share
    low, high = percent(share.low or 0), percent(share.high or 0)
    return f"{excess.count:,} of {excess.total:,} ({percent(share.value or 0)}, {low} to {high})"


def verdict_sentence(class_name: str, memorised: Memorised) -> str:
    """One sentence with numbers: are the generated images of a class copies?"""
    name = display_name(class_name)
    spaces: Mapping[str, str] = {"pixel": "grey levels", "feature": "feature space"}
    graver = max(("pixel", "feature"), key=lambda s: GRAVITY[getattr(memorised, s).verdict])
    found = getattr(memorised, graver)
    where = spaces[graver]
    facts = (
        f"{excess_words(found.closer)} generated images lie closer to a training image in {where} "
        f"than the closest {percent(found.closer.expected)} of held-out real images do "
        f"({p_value(found.closer.p_value)})"
    )
    both = found.copies
    alone = (
        f"{percent(both.value or 0)} ({percent(both.low or 0)} to {percent(both.high or 0)}) have "
        "one training image far closer than any other"
    )
    if memorised.verdict == "copies":
        return f"{name}: signs of copying. {facts}, and {alone}."
    if memorised.verdict == "close":
        return (
            f"{name}: no copies found, but {facts}. No single training image stands out as their "
            "original, so they are smoother or less varied than real ones rather than copied."
        )
    return f"{name}: no sign of copying. {facts}; {alone}."


GRAVITY = {"novel": 0, "close": 1, "copies": 2}
