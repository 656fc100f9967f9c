"""Names and numbers as people read them, the same in every table, figure and sentence."""

import re
from collections.abc import Sequence
from typing import Any

from svp_lightning.data.classes import display_name
from svp_lightning.report.inputs import Cell, Estimate

METRIC_NAMES = {
    "macro_precision": "Macro precision",
    "macro_recall": "Macro recall",
    "macro_f1": "Macro F1",
    "macro_auprc": "Macro AUPRC",
    "accuracy": "Accuracy",
    "precision": "Precision",
    "recall": "Recall",
    "f1": "F1",
    "auprc": "AUPRC",
    "recall_at_precision_95": "Recall at 95 % precision",
}
METHOD_NAMES = {
    "none": "Control (nothing added)",
    "duplicate": "Duplicates",
    "class_weights": "Class weights",
    "balanced_sampling": "Balanced sampling",
    "logit_adjustment": "Logit adjustment",
    "mixup": "Mixup",
    "classical": "Classical augmentation",
    "classical_mild": "Classical augmentation, mild",
    "classical_strong": "Classical augmentation, strong",
    "diffusion_balanced_sampling": "Diffusion and balanced sampling",
    "diffusion": "Diffusion",
    "diffusion_filtered": "Diffusion, filtered",
    "diffusion_all_classes": "Diffusion, all classes",
}
UNKNOWN = "–"


def metric_name(metric: str) -> str:
    """``"silicone_oil/auprc"`` -> ``"Silicone oil AUPRC"``."""
    class_name, _, name = metric.rpartition("/")
    words = METRIC_NAMES.get(name, display_name(name))
    if not class_name:
        return words
    return f"{display_name(class_name)} {words if words.isupper() else words.lower()}"


def method_name(method: str) -> str:
    return METHOD_NAMES.get(method, display_name(method))


def backbone_name(backbone: str) -> str:
    """``"resnet50"`` -> ``"ResNet-50"``; other names stay as they are."""
    match = re.fullmatch(r"resnet(\d+)", backbone)
    return f"ResNet-{match[1]}" if match else backbone


def treatment(cell: Cell) -> str:
    """What was done about the rare classes: ``"Diffusion 1×"``."""
    name = method_name("none" if cell.is_control else cell.method)
    name = f"{name} {cell.ratio:g}×" if cell.ratio else name
    return f"{name} ({cell.variant})" if cell.variant else name


def cell_name(cell: Cell) -> str:
    """``"ResNet-50, diffusion 1×"``."""
    words = treatment(cell)
    name = f"{backbone_name(cell.backbone)}, {words[0].lower()}{words[1:]}"
    return name if cell.real_images is None else f"{name}, {cell.real_images:,} real rare images"


def images(number: int | None) -> str:
    """A number of images, or ``"all"`` where a file does not say how many all are."""
    return "all" if number is None else f"{number:,}"


def score(value: float | None) -> str:
    """A metric with three decimals; up to five where rounding would claim a perfect 1.000."""
    if value is None:
        return UNKNOWN
    if value > 1 - 1e-9:  # what summation leaves of exactly 1
        return "1.000"
    for decimals in (3, 4, 5):
        if round(value, decimals) < 1:
            return f"{value:.{decimals}f}"
    return "0.99999"


def interval(estimate: Estimate) -> str:
    """``"0.881 to 0.934"``, or an empty string where there is no interval."""
    if estimate.low is None or estimate.high is None:
        return ""
    if estimate.low == estimate.high:
        return "too few images for an interval"
    return f"{score(estimate.low)} to {score(estimate.high)}"


def with_interval(estimate: Estimate) -> str:
    """``"0.912 [0.881, 0.934]"``."""
    if estimate.low is None or estimate.high is None or estimate.low == estimate.high:
        return score(estimate.value)
    return f"{score(estimate.value)} [{score(estimate.low)}, {score(estimate.high)}]"


def points(difference: float) -> str:
    """A difference of two metrics in percentage points, signed: ``"+1.3"``, ``"−0.04"``.

    One decimal, or as many (up to three) as it takes not to round to nothing.
    """
    for decimals in (1, 2, 3):
        if rounded := round(100 * difference, decimals):
            return f"{rounded:+.{decimals}f}".replace("-", "−")
    return "0.0"


def p_value(p: float) -> str:
    """``"p = 0.03"``, ``"p < 0.001"``."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def percent(share: float) -> str:
    """A share in percent with as many decimals as it needs: ``"99.8 %"``, ``"0.1 %"``."""
    value = 100 * share
    if value in (0, 100):
        return f"{value:.0f} %"
    for decimals in range(1, 7):
        if 0 < round(value, decimals) < 100:
            return f"{value:.{decimals}f} %"
    return f"{value:.3g} %"


def expected_count(value: float) -> str:
    """An expected number of particles: ``"1,240"``, ``"3.2"``, ``"0.04"``."""
    if value >= 10 or value == 0:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 1 else f"{value:.2g}"


def listing(words: Sequence[str]) -> str:
    """``["a", "b", "c"]`` -> ``"a, b and c"``."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def duration(seconds: Any) -> str:
    """``4210`` -> ``"1 h 10 min"``; what is no number stays as it is."""
    if not isinstance(seconds, int | float):
        return str(seconds)
    if seconds < 120:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
