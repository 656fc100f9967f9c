"""What was found about copies of training images, in sentences with numbers."""

from svp_lightning.data.classes import display_name
from svp_lightning.report.fidelity_names import excess_words
from svp_lightning.report.fidelity_schema import Finds, Memorised, MemorisedSpace
from svp_lightning.report.wording import p_value, percent

SPACES = {"pixel": "grey levels", "feature": "feature space"}
GRAVITY = {"novel": 0, "close": 1, "copies": 2}
OLD = "Whether a few of the images are copies was not looked at; task=assess does so today."


def verdict_sentence(class_name: str, memorised: Memorised) -> str:
    """A few sentences with numbers: are the generated images of a class copies?"""
    name = display_name(class_name)
    graver = max(SPACES, key=lambda space: _gravity(getattr(memorised, space)))
    found: MemorisedSpace = getattr(memorised, graver)
    closer, few = _closer(found, SPACES[graver]), few_copies(memorised)
    match memorised.verdict:
        case "copies":
            return f"{name}: signs of copying. {few} {closer}, and {_alone(found)}."
        case "close":
            return (
                f"{name}: no copies found, but {closer}. No single training image stands out as "
                f"their original ({_singular(found)}), so they are smoother or less varied than "
                f"real ones rather than copied. {few}"
            )
        case "novel":
            return f"{name}: no sign of copying. {closer}; {_alone(found)}. {few}"


def _gravity(found: MemorisedSpace) -> tuple[float, ...]:
    """Of two spaces with one verdict the one that tells more of copies is spoken of."""
    return GRAVITY[found.verdict], found.copies.value or 0, found.closer.share.value or 0


def few_copies(memorised: Memorised) -> str:
    """How many images equal a training image, and which share of other copies would be noticed.

    The latter only where there is no sign of copying. Says so where a file of an earlier version
    tells neither.
    """
    spaces = (memorised.pixel, memorised.feature)
    found = [space.identical for space in spaces if space.identical is not None]
    both = memorised.pixel.both
    if not found or both is None:
        return OLD
    words = _identical(max(found, key=lambda one: one.count))
    return f"{words} {_noticed(both)}" if memorised.verdict == "novel" else words


def _identical(found: Finds) -> str:
    if not found.count:
        return f"None of {found.total:,} generated images equals a training image."
    share = percent(found.count / found.total)
    verb = "equals" if found.count == 1 else "equal"
    words = f"{found.count:,} of {found.total:,} ({share}) generated images {verb} a training image"
    if not found.heldout_count:
        return f"{words}, none of {found.heldout_total:,} held-out real images does."
    held = f"{found.heldout_count:,} of {found.heldout_total:,}"
    return f"{words}, and {held} held-out real images ({p_value(found.p_value)})."


def _noticed(both: Finds) -> str:
    if both.smallest_share is None:
        return "The images are too few to notice copies that differ from their originals at all."
    share = percent(both.smallest_share)
    return f"Copies that differ a little would be noticed only from {share} of the images on."


def _closer(found: MemorisedSpace, where: str) -> str:
    return (
        f"{excess_words(found.closer)} generated images lie closer to a training image in {where} "
        f"than the closest {percent(found.closer.expected)} of held-out real images do "
        f"({p_value(found.closer.p_value)})"
    )


def _alone(found: MemorisedSpace) -> str:
    both = found.copies
    words = (
        f"{percent(both.value or 0)} ({percent(both.low or 0)} to {percent(both.high or 0)}) "
        "also have one training image far closer than any other"
    )
    if found.both is None:
        return words
    held = percent(found.both.heldout_count / found.both.heldout_total)
    return f"{words} (of held-out ones {held}, {p_value(found.both.p_value)})"


def _singular(found: MemorisedSpace) -> str:
    excess = found.singular
    return (
        f"{percent(excess.share.value or 0)} have one far closer than any other, "
        f"{percent(excess.expected)} expected, {p_value(excess.p_value)}"
    )
