"""What the measures of ``fidelity.json`` are called, and how to read them."""

from svp_lightning.report.fidelity_schema import Estimate, Excess
from svp_lightning.report.wording import UNKNOWN, percent

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
