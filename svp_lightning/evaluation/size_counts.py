"""Counts of each particle class at size thresholds, run by run, and per mL where that is known."""

from collections.abc import Sequence

import pandas as pd

from svp_lightning.evaluation.counting import poisson_interval

ALL_SIZES = 0.0
"""Threshold of the rows that count every particle, those of unknown size too."""
ALL_CLASSES = "all"


def size_table(
    particles: pd.DataFrame,
    class_names: Sequence[str],
    thresholds_um: Sequence[float],
    volume_ml: pd.Series,
    level: float = 0.95,
) -> pd.DataFrame:
    """Cumulative counts (≥ each threshold), as flow imaging reports them (USP <1788.3>).

    Args:
        particles: one row per particle: ``run``, ``class``, and ``ecd_um`` (NaN where unknown).
        class_names: names of the rows; a row :data:`ALL_CLASSES` follows them.
        thresholds_um: equivalent circular diameters; none where no size is known.
        volume_ml: run -> volume imaged. Runs without one have no concentrations.
        level: of the exact Poisson intervals (Garwood 1936). They do not include the
            classifier's own mistakes.

    Returns:
        A row per run, class and threshold (:data:`ALL_SIZES` first): ``run``, ``class``,
        ``min_ecd_um``, ``count``, ``count_low``, ``count_high``, and, if a volume is known,
        ``ml_imaged``, ``per_ml``, ``per_ml_low``, ``per_ml_high``.
    """
    everything = pd.concat([particles, particles.assign(**{"class": ALL_CLASSES})])
    keys = ["run", "class"]
    counts = {ALL_SIZES: everything.groupby(keys).size()}
    for least in thresholds_um:
        counts[least] = everything[everything["ecd_um"] >= least].groupby(keys).size()
    rows = pd.MultiIndex.from_product(
        [sorted(particles["run"].unique()), [*class_names, ALL_CLASSES], list(counts)],
        names=[*keys, "min_ecd_um"],
    )
    found = pd.concat(counts, names=["min_ecd_um"]).reorder_levels([1, 2, 0])
    table = found.reindex(rows, fill_value=0).rename("count").reset_index()
    table["count_low"], table["count_high"] = poisson_interval(table["count"].to_numpy(), level)
    return _per_ml(table, volume_ml)


def _per_ml(table: pd.DataFrame, volume_ml: pd.Series) -> pd.DataFrame:
    volume = table["run"].map(volume_ml.to_dict()).astype(float)
    if volume.isna().all():
        return table
    concentrations = {
        f"per_ml{end}": table[f"count{end}"] / volume.where(volume > 0)
        for end in ("", "_low", "_high")
    }
    return table.assign(ml_imaged=volume, **concentrations)
