"""Particles of each class: counts at size thresholds, concentrations, and their intervals.

The number of particles in the volume imaged is a draw from a Poisson distribution, so each count
has the exact interval of its expected value (Garwood 1936). The intervals hold counting statistics
alone: neither the classifier's mistakes nor the errors of the volume and of the sizes.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import gammaincinv

from svp_lightning.data.importers.vials import all_alone
from svp_lightning.data.store import Store
from svp_lightning.errors import DataError, SettingsError
from svp_lightning.evaluation.intervals import TAILS, wilson_interval
from svp_lightning.evaluation.reference import Judged

UNCERTAIN = "uncertain"
"""Class of particles that may be of more than one class."""
UNFAMILIAR = "unfamiliar"
"""Class of particles that are unlike those of every class, uncertain or not."""
ALL = "all"
"""Class of the rows that count every particle, uncertain and unfamiliar ones too."""
ALL_SIZES = 0.0
"""Threshold of the rows that count every particle, those of unknown size too."""
INSTRUMENTS = ("flowcam", "mfi", "collage")
"""Sources whose groups are runs."""
MAX_NAMES = 5
"""Samples that an error names."""
PARTICLES_MISSING = "particles that could not be read are missing (skipped.csv)"
UNKNOWN_VOLUME = "the volume imaged is not known"


@dataclass(frozen=True)
class Sample:
    """What is counted by itself: a run, a vial, or a folder of images.

    Attributes:
        name: of the sample.
        volume_ml: volume imaged, in mL of the original (undiluted) sample; None where it is not
            known.
        dilution: volume that was imaged per volume of the original sample; None: not stated.
        withheld: why there is no concentration; empty where there is one.
        stated_ml: volume imaged that the user states, in mL of what was imaged; None: the files do.
        files_say: of the volume where the user states it, if they say anything.
        dilution_stated: whether the user states the dilution.
        pixel_size_um: µm/px where the user states it; None: the files do, or nobody does.
        blank: whether it is subtracted from the others, and so is not part of all together.
        earlier: whether it is of another prediction, with which the others are compared.
    """

    name: str
    volume_ml: float | None = None
    dilution: float | None = None
    withheld: str = ""
    stated_ml: float | None = None
    files_say: str = ""
    dilution_stated: bool = False
    pixel_size_um: float | None = None
    blank: bool = False
    earlier: bool = False

    @property
    def per_particle(self) -> float:
        """Concentration that one counted particle makes, 1/mL; NaN where withheld."""
        return 1 / self.volume_ml if self.volume_ml and not self.withheld else math.nan


def kind_of(store: Store) -> str:
    """What the particles of a store are counted by: ``run``, ``group`` or (all together) ``image``.

    Folders of images hold no runs; their groups are folders, or what a table or the names of the
    files say.
    """
    if store.manifest.made_by.get("source") in INSTRUMENTS:
        return "run"
    return "image" if all_alone(store.particles) else "group"


def samples_of(
    store: Store,
    volume_ml: float | Mapping[str, float] | None = None,
    dilution: float | None = None,
    pixel_size_um: float | None = None,
) -> list[Sample]:
    """What a store's particles were imaged in, runs without a particle included.

    Args:
        store: of one or more runs, vials or folders.
        volume_ml: volume imaged, mL, in place of what the files say; of several samples by name.
            It is divided by the dilution where that is known.
        dilution: of all samples, which the user states.
        pixel_size_um: µm/px, which the user states.

    Raises:
        SettingsError: ``volume_ml`` is one number for several samples, or names another one.
        DataError: a sample is named as all of them together are.
    """
    made_by = store.manifest.made_by
    facts: Mapping[str, Any] = made_by.get("runs", {})
    names = [all_samples(store)]
    if kind_of(store) != "image":
        blanks = {run for run, of in facts.items() if of.get("particles") == 0}
        names = sorted({*store.particles["group"].unique(), *blanks})
        if (taken := all_samples(store)) in names:
            raise DataError(
                f"A {kind_of(store)} is named {taken!r}, as the counts of all together are.",
                "Rename it.",
            )
    given = _given_volumes(volume_ml, names, f"{kind_of(store)}s")
    lost = not made_by.get("complete", True)
    found = (_sample(one, facts.get(one, {}), given.get(one), dilution, lost) for one in names)
    return [replace(one, pixel_size_um=pixel_size_um) for one in found]


def all_samples(store: Store) -> str:
    """Name of all samples together, as in ``counts.csv``."""
    return f"all {kind_of(store)}s"


def _sample(
    name: str,
    facts: Mapping[str, Any],
    given: float | None,
    stated: float | None,
    lost: bool,
) -> Sample:
    known = facts.get("dilution")
    dilution = known or stated
    volume, withheld = facts.get("volume_ml"), facts.get("withheld")
    if volume and not known:
        volume /= dilution or 1
    files_say = ""
    if given is not None:
        volume = given / (dilution or 1)
        withheld = facts.get("withheld_with_volume", withheld)
        if (files_ml := facts.get("volume_imaged_ml")) is not None:
            files_say = f"{files_ml:g} mL"
        files_say = facts.get("volume_conflict") or files_say
    reasons = [
        PARTICLES_MISSING if facts.get("particles_lost", lost) else None,
        withheld,
        None if volume else UNKNOWN_VOLUME,
    ]
    why = next(filter(None, reasons), "")
    return Sample(name, volume, dilution, why, given, files_say, stated is not None)


def _given_volumes(
    volume_ml: float | Mapping[str, float] | None, names: Sequence[str], kind: str
) -> Mapping[str, float]:
    if volume_ml is None:
        return {}
    shown = ", ".join(names[:MAX_NAMES]) + (", …" if len(names) > MAX_NAMES else "")
    if isinstance(volume_ml, Mapping):
        if strange := [name for name in volume_ml if name not in names]:
            raise SettingsError(
                f"data.volume_ml names {strange[0]!r}, but the {kind} are {shown}.",
                "Use these names.",
            )
        return volume_ml
    if len(names) > 1:
        raise SettingsError(
            f"data.volume_ml={volume_ml:g} is one volume for {len(names)} {kind}: {shown}.",
            f"Give the volume of each: \"data.volume_ml='{names[0]} = {volume_ml:g}, …'\".",
        )
    return {names[0]: volume_ml}


def together(samples: Sequence[Sample], name: str) -> Sample:
    """All but the blank as one: the sum of their volumes, if each has a concentration."""
    samples = without_blank(samples)
    volumes = [one.volume_ml for one in samples if one.volume_ml is not None]
    volume = sum(volumes) if len(volumes) == len(samples) else None
    dilutions = {one.dilution for one in samples}
    dilution = dilutions.pop() if len(dilutions) == 1 else None
    reasons = {one.withheld for one in samples if one.withheld}
    withheld = reasons.pop() if len(reasons) == 1 else "withheld of several runs" * bool(reasons)
    return Sample(name, volume, dilution, withheld)


def without_blank(samples: Sequence[Sample]) -> list[Sample]:
    """The samples but the blank, unless there is nothing else."""
    return [one for one in samples if not one.blank] or list(samples)


def counted_as(judged: Judged) -> NDArray[np.object_]:
    """(N,) class each image counts as: the likeliest, :data:`UNCERTAIN` or :data:`UNFAMILIAR`.

    Classes are called as :func:`counted_name` does.
    """
    names = np.array([counted_name(name) for name in judged.found.class_names], dtype=object)
    sure = np.where(judged.uncertain, UNCERTAIN, names[judged.likeliest])
    return np.where(judged.unfamiliar, UNFAMILIAR, sure)


def particles_of(store: Store, judged: Judged) -> pd.DataFrame:
    """A row per particle, as :func:`count_particles` takes them."""
    unknown = pd.Series(np.nan, store.particles.index)
    grouped = kind_of(store) != "image"
    return pd.DataFrame(
        {
            "sample": store.particles["group"].to_numpy(object) if grouped else all_samples(store),
            "class": counted_as(judged),
            "size_um": store.particles.get("ecd_um", unknown).to_numpy(float),
        }
    )


def counted_name(class_name: str) -> str:
    """What a class of the user's is called among the rows :data:`ALL`, :data:`UNCERTAIN`, …."""
    rows = (ALL, UNCERTAIN, UNFAMILIAR)
    return f"{class_name} (class)" if class_name.lower() in rows else class_name


def count_particles(
    particles: pd.DataFrame,
    class_names: Sequence[str],
    samples: Sequence[Sample],
    together_as: str = "all runs",
    thresholds_um: Sequence[float] = (),
) -> pd.DataFrame:
    """Cumulative counts (≥ each threshold), as flow imaging reports them (USP <1788.3>).

    Args:
        particles: a row per particle: ``sample``, ``class``, ``size_um`` (NaN where unknown).
        class_names: K names; :data:`UNCERTAIN`, :data:`UNFAMILIAR` and :data:`ALL` follow them.
        samples: at least one; one without particles counts 0.
        together_as: name of all samples but the blank together, whose rows come last.
        thresholds_um: sizes counted from; none where no size is known.

    Returns:
        A row per sample, threshold (:data:`ALL_SIZES` first) and class: ``sample``,
        ``min_size_um``, ``class``; ``count`` with its Poisson interval ``count_low``,
        ``count_high``; ``share`` of the particles of that sample and size (NaN where there is
        none) with Wilson's ``share_low``, ``share_high``; ``per_ml``, ``per_ml_low``,
        ``per_ml_high`` (NaN where withheld); ``volume_ml``, ``dilution``, ``withheld``.
    """
    everything = together(samples, together_as)
    of = {one.name: one for one in (*samples, everything)}
    kinds = [*map(counted_name, class_names), UNCERTAIN, UNFAMILIAR]
    wide = {}
    for least in (ALL_SIZES, *thresholds_um):
        large = particles if least == ALL_SIZES else particles[particles["size_um"] >= least]
        counts = pd.crosstab(large["sample"], large["class"])
        counts = counts.reindex(index=[one.name for one in samples], columns=kinds, fill_value=0)
        counts.loc[together_as] = counts.loc[[one.name for one in without_blank(samples)]].sum()
        wide[least] = counts.assign(**{ALL: counts.sum(axis=1)})
    rows = pd.concat(wide, names=["min_size_um", "sample"]).rename_axis("class", axis=1)
    long = rows.swaplevel().loc[list(of)].reset_index()
    table = long.melt(["sample", "min_size_um"], value_name="count", ignore_index=False)
    table = table.sort_index(kind="stable").reset_index(drop=True)
    total = table.groupby(["sample", "min_size_um"])["count"].transform("max").to_numpy()
    table = _with_intervals(table, total)
    return _with_concentrations(table, [of[name] for name in table["sample"]])


def poisson_interval(
    counts: NDArray[np.integer[Any]],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Exact 95 % interval of the expected count behind each count (Garwood 1936).

    Args:
        counts: any shape, not below 0.

    Returns:
        Lower and upper ends, of the same shape: 0 to 3.69 for a count of 0.
    """
    # Quantiles of the gamma distribution; at shape 0 there is none, and the lower end is 0.
    low = np.where(counts > 0, gammaincinv(np.maximum(counts, 1), TAILS[0]), 0.0)
    return np.asarray(low), np.asarray(gammaincinv(counts + 1, TAILS[1]))


def _with_intervals(table: pd.DataFrame, total: NDArray[np.int64]) -> pd.DataFrame:
    count = table["count"].to_numpy()
    low, high = poisson_interval(count)
    shares = (count / np.maximum(total, 1), *wilson_interval(count, total))
    share, share_low, share_high = (np.where(total > 0, part, np.nan) for part in shares)
    return table.assign(
        count_low=low, count_high=high, share=share, share_low=share_low, share_high=share_high
    )


def _with_concentrations(table: pd.DataFrame, samples: Sequence[Sample]) -> pd.DataFrame:
    factor = np.array([one.per_particle for one in samples])
    return table.assign(
        **{f"per_ml{end}": table[f"count{end}"] * factor for end in ("", "_low", "_high")},
        volume_ml=np.array([one.volume_ml or np.nan for one in samples]),
        dilution=np.array([one.dilution or np.nan for one in samples]),
        withheld=[one.withheld for one in samples],
    )
