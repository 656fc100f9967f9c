"""What ``task=predict`` leaves: a table of all particles, their counts, and the counts to read."""

import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.box import SIMPLE
from rich.table import Table

from svp_lightning.data.classes import display_name
from svp_lightning.data.importers.summary import IngestSummary, cut_by_frame
from svp_lightning.data.importers.window import SIZE_EDGES_UM
from svp_lightning.data.store import Store
from svp_lightning.evaluation.intervals import wilson_interval
from svp_lightning.evaluation.particle_counts import (
    ALL,
    ALL_SIZES,
    UNKNOWN_VOLUME,
    Sample,
    all_samples,
    count_particles,
    kind_of,
    particles_of,
    together,
)
from svp_lightning.evaluation.reference import Judged, Reference, guaranteed
from svp_lightning.evaluation.schema import Results
from svp_lightning.report.run_findings import shares_of_classes
from svp_lightning.runtime.files import replacing

UNKNOWN_DEFINITION = "size"
MAX_RUNS_NAMED = 10
MAX_RUNS_SHOWN = 20


def size_definition(store: Store) -> str:
    """The diameter that a store's sizes are; ``size`` where the source does not say."""
    return str(store.manifest.made_by.get("size_definition", UNKNOWN_DEFINITION))


def particle_table(judged: Judged, store: Store) -> pd.DataFrame:
    """One row per particle, as in ``predictions.csv``; what is not known is left out.

    Columns: ``id``, ``run`` or ``group``, ``predicted``, ``set`` (the classes it may be of),
    ``uncertain``, ``unfamiliar``, ``familiarity``, ``size_um`` and its ``size_definition``,
    ``edge_of_frame`` (cut by the camera's frame), and a column ``probability_<class>`` for each
    class.
    """
    particles, kind, found = store.particles, kind_of(store), judged.found
    table = pd.DataFrame({"id": found.ids})
    if kind != "image":
        table[kind] = particles["group"].to_numpy(dtype=object)
    names = np.array(found.class_names, dtype=object)
    table["predicted"] = names[judged.likeliest]
    table["set"] = ["|".join(names[held]) for held in judged.sets]
    table["uncertain"] = judged.uncertain
    table["unfamiliar"] = judged.unfamiliar
    if judged.familiarity is not None:
        table["familiarity"] = judged.familiarity.round(5)
    if _sized(particles):
        table["size_um"] = particles["ecd_um"].to_numpy()
        table["size_definition"] = size_definition(store)
    if "edge_of_frame" in particles and particles["edge_of_frame"].notna().any():
        table["edge_of_frame"] = particles["edge_of_frame"].to_numpy()
    for name, column in zip(found.class_names, found.probabilities.T, strict=True):
        table[f"probability_{name}"] = column.astype(np.float64).round(5)
    return table


def count_table(judged: Judged, store: Store, samples: Sequence[Sample]) -> pd.DataFrame:
    """The counts of ``counts.csv``; see :mod:`svp_lightning.evaluation.particle_counts`.

    The column ``sample`` has the name of its kind: ``run``, ``group`` or ``image``.
    """
    thresholds = SIZE_EDGES_UM if _sized(store.particles) else ()
    table = count_particles(
        particles_of(store, judged),
        judged.found.class_names,
        samples,
        all_samples(store),
        thresholds,
    )
    table.insert(2, "size_definition", size_definition(store) if thresholds else "")
    return table.rename(columns={"sample": kind_of(store)})


def write_counts(folder: Path, store: Store, judged: Judged, counts: pd.DataFrame) -> None:
    """Write ``predictions.csv`` and ``counts.csv``, and copy what the import left out."""
    for name, table in (("predictions", particle_table(judged, store)), ("counts", counts)):
        with replacing(folder / f"{name}.csv") as temporary:
            table.to_csv(temporary, index=False, float_format="%.8g")
    if (store.path / "skipped.csv").is_file():
        shutil.copyfile(store.path / "skipped.csv", folder / "skipped.csv")


def readable(store: Store, counts: pd.DataFrame, samples: Sequence[Sample]) -> Table:
    """The counts of all samples together, a block for each size; narrow enough for 80 columns."""
    name = all_samples(store)
    whole = together(samples, name)
    per_ml = not math.isnan(whole.per_particle)
    rows = counts[counts[kind_of(store)] == name]
    title = f"{_heading(store, samples)}: {rows['count'].max():,} particles"
    title += f" in the {whole.volume_ml:.4g} mL imaged" if per_ml else ""
    headings = ("count", "95 %", "share", *(("per mL", "95 %") if per_ml else ()))
    table = _table(title, ("size", "class"), headings)
    for least, of in rows.groupby("min_size_um"):
        size = "all" if least == ALL_SIZES else f"≥ {least:g} µm"
        for row in of.to_dict("records"):
            share = "" if math.isnan(row["share"]) else f"{row['share']:.1%}"
            cells = [*_count(row), share.replace("100.0%", "100%")]
            table.add_row(size, display_name(row["class"]), *cells, *_per_ml(row)[: 2 * per_ml])
            size = ""
        table.add_section()
    return table


def each_sample(store: Store, counts: pd.DataFrame, samples: Sequence[Sample]) -> Table:
    """All particles of each run (or group): count and concentration, at most 20 rows."""
    kind = kind_of(store)
    of_all = counts[(counts["min_size_um"] == ALL_SIZES) & (counts["class"] == ALL)]
    rows = of_all.set_index(kind).to_dict("index")
    table = _table(f"Each {kind}", (kind,), ("particles", "95 %", "per mL", "95 %"))
    for name in [one.name for one in samples[:MAX_RUNS_SHOWN]]:
        row = rows[name]
        table.add_row(name, *_count(row), *(("withheld", "") if row["withheld"] else _per_ml(row)))
    return table


def _table(title: str, words: Sequence[str], numbers: Sequence[str]) -> Table:
    """Columns of words, which are folded, then of numbers, which are not; 80 columns wide."""
    table = Table(title=title, title_justify="left", box=SIMPLE, padding=(0, 1, 0, 0))
    table.show_edge = table.pad_edge = False
    for heading in words:
        table.add_column(heading, overflow="fold", no_wrap=heading == "size")
    for heading in numbers:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _count(row: Mapping[Any, Any]) -> tuple[str, str]:
    """A count, and its interval rounded outwards."""
    low, high = math.floor(row["count_low"]), math.ceil(row["count_high"])
    return f"{row['count']:,}", f"{low:,}–{high:,}"


def _per_ml(row: Mapping[Any, Any]) -> tuple[str, str]:
    value, *ends = (_short(row[f"per_ml{end}"]) for end in ("", "_low", "_high"))
    return value, "–".join(ends)


def what_is_promised(
    reference: Reference | None, coverage: float, false_alarms: float, particles: int
) -> list[str]:
    """What ``uncertain`` and ``unfamiliar`` mean, and how far validation images vouch for it.

    ``coverage`` is that of each class by the prediction sets, ``false_alarms`` the share of each
    class among the unfamiliar; ``particles`` were judged.
    """
    if reference is None:
        return ["The classifier has no reference: nothing is called uncertain or unfamiliar."]
    lines = [
        "Uncertain: the prediction set holds more than one class. Of each class, sets hold "
        f"{100 * coverage:.3g} % at least.",
        "Unfamiliar: unlike the validation images of every class. Of each class, at most "
        f"{100 * false_alarms:.3g} % are flagged by mistake, here {particles * false_alarms:,.0f}.",
    ]
    few = "Warning: {} validation images of {} are too few for "
    for name, images in reference.too_few(1 - coverage).items():
        lines.append(
            f"{few.format(images, display_name(name))}a coverage of {100 * coverage:.3g} %: "
            f"its sets hold {100 * guaranteed(images, 1.0):.1f} % at least."
        )
    for name, images in reference.too_few(false_alarms).items():
        lines.append(
            f"{few.format(images, display_name(name))}{100 * false_alarms:.3g} % of false alarms: "
            f"up to {100 - 100 * guaranteed(images, 1.0):.1f} % of it may be flagged by mistake."
        )
    return lines


def too_many_strangers(judged: Judged, false_alarms: float) -> list[str]:
    """A warning where clearly more particles are unfamiliar than would be by mistake."""
    strange, particles = int(judged.unfamiliar.sum()), len(judged.unfamiliar)
    low, _ = wilson_interval(np.array(strange), np.array(max(particles, 1)))
    if low <= false_alarms:
        return []
    return [
        f"Warning: {strange:,} of {particles:,} particles ({strange / particles:.1%}) are unlike "
        f"every class, and more may be of none: only part of them is found. Look at suspects.html."
    ]


def notes(store: Store, counts: pd.DataFrame, samples: Sequence[Sample]) -> list[str]:
    """What a reader of the counts has to know, a line each."""
    lines = [
        "95 %: exact Poisson intervals, rounded outwards; the classifier's mistakes and errors of "
        "volume and size are not in them."
    ]
    everything = counts[counts[kind_of(store)] == all_samples(store)]
    if everything["count"].max() == 0:
        high = everything["count_high"].iloc[0]
        lines.append(
            f"No particle was found: the 95 % interval of the expected count is 0 to {high:.2f}."
        )
    lines += _about_sizes(store)
    lines += _about_volumes(store, samples)
    left_out = [line for line in IngestSummary(store).lines() if line.startswith("Left out")]
    if left_out:
        lines += [*left_out, "All that was left out is listed in skipped.csv."]
    if len(samples) > 1:
        lines.append(
            f"counts.csv has all sizes and classes of each of the {len(samples)} {kind_of(store)}s."
        )
    return lines


def shares_counted_at(shares: Mapping[str, float], how: str) -> str:
    """The line that says which class shares the likeliest class is found at."""
    source = {
        "given": "data.prevalence",
        "estimated": "estimated from these images",
        "stated": "stated for the classifier's run",
        "trained": "those of the classifier's training",
    }[how]
    return f"Counted at {shares_of_classes(shares)} ({source})."


def known_errors(results: Results | None) -> list[str]:
    """How often a classifier errs on its own test images, where that is recorded."""
    if results is None:
        return []
    each = "; ".join(
        f"{display_name(name)} {found.recall:.0%} and {found.precision:.0%}"
        for name, found in results.metrics.per_class.items()
    )
    return [
        "Mistakes: on the classifier's own test images, at "
        f"{shares_of_classes(results.prevalence)}, recall and precision are {each}."
    ]


def _about_sizes(store: Store) -> list[str]:
    particles = store.particles
    if not _sized(particles):
        return ["No sizes are known, so particles are counted together whatever their size."]
    definition = size_definition(store)
    shown = "as the source gives them" if definition == UNKNOWN_DEFINITION else definition
    lines = [f"Sizes: {shown}."]
    if unknown := int(particles["ecd_um"].isna().sum()):
        lines.append(f"Of unknown size: {unknown:,}, counted under all sizes alone.")
    if cut := cut_by_frame(particles):
        lines.append(
            f"Cut by the edge of the frame: {cut:,} (edge_of_frame in predictions.csv). "
            "They are counted, with a size that is too small."
        )
    return lines


def _about_volumes(store: Store, samples: Sequence[Sample]) -> list[str]:
    lines, reasons = [], dict[str, list[str]]()
    can_give = store.manifest.made_by.get("source") != "simulated"
    stated = [
        f"{one.name} {one.stated_ml:g} mL{f' (its files: {one.files_say})' * bool(one.files_say)}"
        for one in samples
        if one.stated_ml is not None
    ]
    if stated:
        lines.append(f"The volume imaged is stated (data.volume_ml): {_listed(stated)}.")
    diluted = [one for one in samples if one.dilution not in (None, 1) and not one.withheld]
    if diluted:
        factors = _listed([f"{one.name} diluted {one.dilution:g} times" for one in diluted])
        lines.append(f"{factors}: volumes and concentrations are those of the original sample.")
    for one in samples:
        reasons.setdefault(one.withheld, []).append(one.name)
    for reason, names in reasons.items():
        if reason:
            shown = "" if len(names) == len(samples) else f" of {_listed(names)}"
            remedy = (
                " (data.volume_ml=<mL> gives it)" if reason == UNKNOWN_VOLUME and can_give else ""
            )
            lines.append(f"No concentration{shown}: {reason}{remedy}.")
    return lines


def _listed(names: Sequence[str]) -> str:
    more = len(names) - MAX_RUNS_NAMED
    return ", ".join(names[:MAX_RUNS_NAMED]) + (f" and {more} more" if more > 0 else "")


def _heading(store: Store, samples: Sequence[Sample]) -> str:
    if len(samples) == 1:
        return samples[0].name.capitalize() if kind_of(store) == "image" else samples[0].name
    blanks = [one.name for one in samples if one.blank]
    heading = f"{len(samples) - len(blanks)} {kind_of(store)}s together"
    return f"{heading}, without the blank {blanks[0]}" if blanks else heading


def _sized(particles: pd.DataFrame) -> bool:
    return "ecd_um" in particles and (particles.empty or bool(particles["ecd_um"].notna().any()))


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"
