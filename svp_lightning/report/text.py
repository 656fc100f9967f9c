"""Words and numbers as people read them, the same in every table, figure and sentence."""

import re
from collections.abc import Sequence
from typing import Any

from svp_lightning.data.classes import display_name
from svp_lightning.evaluation.schema import Estimate
from svp_lightning.runtime import terminal

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
UNKNOWN = "–"
PRETRAINED = "_pretrained"
"""End of the name of a backbone that starts from simulated images."""


def metric_name(metric: str) -> str:
    """``"silicone_oil/auprc"`` -> ``"Silicone oil AUPRC"``."""
    class_name, _, name = metric.rpartition("/")
    words = METRIC_NAMES.get(name, display_name(name))
    if not class_name:
        return words
    return f"{display_name(class_name)} {words if words.isupper() else words.lower()}"


def backbone_name(backbone: str) -> str:
    """``"resnet50"`` -> ``"ResNet-50"``; names of other families stay as they are.

    One that ends in :data:`PRETRAINED` is called pretrained.
    """
    own = backbone.removesuffix(PRETRAINED)
    if own != backbone:
        return f"{backbone_name(own)}, pretrained"
    match = re.fullmatch(r"resnet(\d+)(?:_(half|quarter))?", backbone)
    if match is None:
        return backbone
    return f"ResNet-{match[1]}{f' ({match[2]} width)' if match[2] else ''}"


def plain_name(class_name: str) -> str:
    """``"silicone_oil"`` -> ``"silicone oil"``."""
    name = display_name(class_name)
    return name if name.isupper() else name.lower()


def lower_first(words: str) -> str:
    """``"Macro F1"`` -> ``"macro F1"``."""
    return words[:1].lower() + words[1:]


def score(value: float | None, decimals: int = 3) -> str:
    """A metric with three decimals; ``> 0.999`` where they would claim a perfect 1.000."""
    if value is None:
        return UNKNOWN
    perfect = value > 1 - 1e-9  # what summation leaves of exactly 1
    if perfect or round(value, decimals) < 1:
        return f"{value:.{decimals}f}"
    return f"> {1 - 10.0**-decimals:.{decimals}f}"


def interval(estimate: Estimate) -> str:
    """``"0.881 to 0.934"``, or an empty string where there is no interval."""
    if estimate.low is None or estimate.high is None:
        return ""
    if estimate.low == estimate.high:
        return "too few images for an interval"
    return ends((estimate.low, estimate.high))


def ends(interval: tuple[float, float]) -> str:
    """``"0.881 to 0.934"``."""
    return " to ".join(map(score, interval))


def with_interval(estimate: Estimate) -> str:
    """``"0.912 [0.881, 0.934]"``."""
    if estimate.low is None or estimate.high is None or estimate.low == estimate.high:
        return score(estimate.value)
    return f"{score(estimate.value)} [{score(estimate.low)}, {score(estimate.high)}]"


def points(difference: float, most: int = 3) -> str:
    """A difference of two metrics in percentage points, signed: ``"+1.3"``, ``"−0.04"``.

    One decimal, or as many (up to ``most``) as it takes not to round to nothing.
    """
    for decimals in range(1, most + 1):
        if rounded := round(100 * difference, decimals):
            return f"{rounded:+.{decimals}f}".replace("-", "−")
    return "0.0"


def p_value(p: float) -> str:
    """``"p = 0.03"``, ``"p < 0.001"``."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def p_cell(p: float | None) -> str:
    """The same in a table: ``"0.030"``, ``"< 0.001"``."""
    if p is None:
        return UNKNOWN
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def known(value: float | None, form: str) -> str:
    """A number in a format, or a dash."""
    return UNKNOWN if value is None else form.format(value)


def share(found: Estimate) -> str:
    """``"45 % (20 % to 70 %)"``; it may lie below 0 or above 100 %."""
    if found.value is None:
        return UNKNOWN
    ends = "not clear of 0 or 100 %"
    if found.low is not None and found.high is not None:
        ends = f"{100 * found.low:.0f} % to {100 * found.high:.0f} %"
    return f"{100 * found.value:.0f} % ({ends})".replace("-", "−")


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


def seed_ranges(seeds: Sequence[int]) -> str:
    """Ascending seeds in short: three or more in a row as ``3–10``, others one by one."""
    rows: list[list[int]] = []
    for seed in seeds:
        if rows and seed == rows[-1][-1] + 1:
            rows[-1].append(seed)
        else:
            rows.append([seed])
    return ", ".join(f"{r[0]}–{r[-1]}" if len(r) > 2 else ", ".join(map(str, r)) for r in rows)


def listing(words: Sequence[str]) -> str:
    """``["a", "b", "c"]`` -> ``"a, b and c"``."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def duration(seconds: Any) -> str:
    """``"1.2 h"`` as on the terminal; a dash for what is no number."""
    return terminal.duration(seconds) if isinstance(seconds, int | float) else UNKNOWN


GLOSSARY = {
    "Rare class": "A particle type with few real images.",
    "Prevalence": "How common each particle type is where the classifier is used.",
    "Precision": "Of the particles counted as a class, the share that is of it.",
    "Recall": "Of the particles of a class, the share that is found.",
    "F1": "The harmonic mean of precision and recall.",
    "AUPRC": "Area under the precision-recall curve; by chance the prevalence of the class.",
    "Recall at 95 % precision": "The largest share that a threshold of that precision finds.",
    "Macro": "The plain mean over classes.",
    "95 % interval": (
        "Meant to hold the true value in 95 % of cases. Of one run: for other test images, not for "
        "another training."
    ),
    "Ratio": "Added images per real training image of a rare class.",
    "Control": "The same classifier and data, with nothing done about the rare classes.",
    "Duplicates": "As many copies of real images as there are generated ones.",
    "Repetition": "A seed: its own real images, generator and training, where these vary.",
    "FID and KID": "Distances between two sets of images in the features of a network.",
    "Precision and density": "Whether generated images lie where real ones lie.",
    "Recall and coverage": "The share of the variety of real images that is reached.",
    "Two-sample AUC": "How well generated images can be separated from real ones; 0.5: not at all.",
    "Taken for its class": (
        "Share that a classifier of real images gives this class. Lower than real: other classes "
        "appear. Higher: plainer images."
    ),
    "Floor": "What real images score in place of generated ones.",
    "Signs of copying": (
        "A copy lies closer to one training image than new images do, and far closer than to any "
        "other; in 8 turned and mirrored positions."
    ),
}
FIDELITY_TERMS = (
    "FID and KID",
    "Precision and density",
    "Recall and coverage",
    "Two-sample AUC",
    "Taken for its class",
    "Floor",
    "Signs of copying",
)
STUDY_TERMS = tuple(term for term in GLOSSARY if term not in FIDELITY_TERMS)
RUN_TERMS = tuple(
    term for term in STUDY_TERMS if term not in ("Control", "Duplicates", "Repetition")
)


def glossary(terms: tuple[str, ...] = STUDY_TERMS) -> list[tuple[str, str]]:
    """(term, explanation), in the order of :data:`GLOSSARY`."""
    return [(term, words) for term, words in GLOSSARY.items() if term in terms]
