"""``quality_report.html`` and ``.csv``: what a run holds, per mL, with intervals that are whole."""

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from svp_lightning.evaluation.intervals import wilson_interval
from svp_lightning.evaluation.particle_counts import ALL, UNCERTAIN, Sample, kind_of
from svp_lightning.evaluation.quality_table import DIFFERENCE, NET, SINGLE, Calls
from svp_lightning.report.counts import size_definition
from svp_lightning.report.page import write_page
from svp_lightning.report.quality_findings import cell, doubts, headline, limit, own_first
from svp_lightning.report.quality_pictures import Contents, between, run_pictures, shown_definition
from svp_lightning.report.text import listing, percent
from svp_lightning.runtime.files import write_csv

PAGE, TABLE = "quality_report.html", "quality_report.csv"
MAX_RUNS = 8
"""Runs shown on the page; the table holds all."""
_NOT_READ = {"particles", "particles_lost", "volume_ml", "dilution", "withheld"}
_NOT_READ |= {"withheld_with_volume"}
"""Facts of a run that are made of its files and of what the user states."""
_PIXEL_SIZE = {"pixel_size_um", "pixel_size_from"}
SMALL_BIN = 20
"""Test images of a class and size below which the page greys their shares."""


def write_quality_report(folder: Path, contents: Contents) -> Path:
    """Write the table and the page, each whole or not at all.

    The page needs no other file and no network; printing it from a browser makes a PDF.

    Returns:
        The path of the page.
    """
    definition = size_definition(contents.store) if contents.calls.thresholds_um else ""
    table = contents.table.copy()
    table.insert(3, "size_definition", definition)
    write_csv(folder / TABLE, table, float_format="%.6g", lineterminator="\n")
    return write_page(folder / PAGE, "quality.html.j2", _values(contents))


def _values(contents: Contents) -> dict[str, Any]:
    calls = contents.calls
    shown = own_first(contents)[:MAX_RUNS]
    names = [one.name for one in shown]
    confusion = calls.corrector.confusion
    kind = kind_of(contents.store)
    return {
        "title": names[0] if len(calls.samples) == 1 else f"{len(calls.samples)} {kind}s",
        "headline": headline(contents),
        "warnings": [
            line.removeprefix("Warning: ") for line in (*contents.warnings, *doubts(contents))
        ],
        "definition": shown_definition(contents.store),
        "class_names": calls.class_names,
        "runs": [_run(contents, one) for one in shown],
        "left_out": len(calls.samples) - len(shown),
        "sizes": [between(least, math.inf) for least in contents.sizes],
        "compared": _compared(contents, names),
        "reference": contents.reference if calls.thresholds_um else None,
        "container": contents.container_ml,
        "confusion": [] if confusion is None else _confusion_rows(calls),
        "small_bin": SMALL_BIN,
        "provenance": list(contents.provenance.items()),
        "written": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "glossary": list(_GLOSSARY.items()),
    }


def _run(contents: Contents, sample: Sample) -> dict[str, Any]:
    """What the page shows of one run."""
    lines, rows = contents.lines, []
    blank = contents.blanks.get(sample.name)
    for least in contents.sizes:
        total = lines[SINGLE, sample.name, least, ALL]["called"]
        for name in contents.names:
            one = lines[SINGLE, sample.name, least, name]
            net = lines[NET, sample.name, least, name] if blank else None
            rows.append(
                {
                    "size": between(least, math.inf),
                    "class": name,
                    "called": f"{one['called']:,.0f}",
                    "share": _share(one["called"], total) if name == UNCERTAIN else "",
                    "corrected": cell(one, "corrected"),
                    "per_ml": cell(one, "per_ml"),
                    "net": net and cell(net, "per_ml"),
                    "per_container": cell(one, "per_container"),
                    "limit": limit(contents, least) if name == ALL else "",
                }
            )
    facts = contents.store.manifest.made_by.get("runs", {}).get(sample.name, {})
    left_out = _NOT_READ if sample.pixel_size_um is None else _NOT_READ | _PIXEL_SIZE
    read = {k: v for k, v in facts.items() if isinstance(v, str | int | float) and v != ""}
    read = {k: v for k, v in read.items() if k not in left_out}
    return {
        "name": sample.name,
        "rows": rows,
        "blank": blank,
        "volume": "" if sample.volume_ml is None else f"{sample.volume_ml:.4g} mL",
        "dilution": sample.dilution,
        "withheld": sample.withheld,
        "earlier": sample.earlier,
        "stated": _stated(sample, facts),
        "facts": [(key.replace("_", " "), str(value)) for key, value in read.items()],
        "figures": run_pictures(contents, sample),
    }


def _stated(sample: Sample, facts: Mapping[str, Any]) -> str:
    """What the user states of a run, with what its files say of the same."""
    parts = []
    if sample.stated_ml is not None:
        files = f" (its files: {sample.files_say})" * bool(sample.files_say)
        parts.append(f"a volume imaged of {sample.stated_ml:g} mL{files}")
    if sample.dilution_stated:
        parts.append(f"a dilution of {sample.dilution:g}")
    if sample.pixel_size_um is not None:
        listed = facts.get("listed_pixel_size_um")
        files = f" (its files: {listed:g} µm)" if listed else ""
        parts.append(f"a pixel size of {sample.pixel_size_um:g} µm{files}")
    return listing(parts)


def _share(unsure: int, of: int) -> str:
    """Share of uncertain particles, with Wilson's interval."""
    if not of:
        return ""
    low, high = wilson_interval(np.array(unsure), np.array(of))
    return f"{unsure / of:.1%} ({low:.1%} to {high:.1%})"


def _confusion_rows(calls: Calls) -> list[dict[str, Any]]:
    """Given class and sizes -> share called as each class, for the joined sizes that are used."""
    confusion, edges = calls.corrector.confusion, [0.0, *calls.thresholds_um, math.inf]
    assert confusion is not None
    rows = []
    for k, name in enumerate(calls.class_names):
        groups = confusion.group[1:, k] if calls.thresholds_um else confusion.group[:1, k]
        for number_of in dict.fromkeys(groups.tolist()):
            bins = np.flatnonzero(groups == number_of)
            first, last = edges[bins[0]], edges[bins[-1] + 1]
            images = confusion.images[bins[0] + bool(calls.thresholds_um), k]
            size = between(first, last) if calls.thresholds_um else "all sizes"
            shares = [percent(n / images.sum()) for n in images]
            rows.append({"class": name, "size": size, "images": int(images.sum()),
                         "joined": len(bins) > 1, "shares": shares})  # fmt: skip
    return rows


def _compared(contents: Contents, names: Sequence[str]) -> dict[str, Any] | None:
    """Runs next to one another, less their blanks, and each one's difference to the first."""
    differences = contents.of(DIFFERENCE)
    differences = differences[differences["sample"].isin(names)]
    if differences.empty:
        return None
    first, others = str(differences["other"].iloc[0]), list(differences["sample"].unique())
    lines, rows, blanks = contents.lines, [], contents.blanks
    shown = {run: (NET if run in blanks else SINGLE, run) for run in (first, *others)}
    for least in contents.sizes:
        for name in contents.names:
            cells = [cell(lines[*shown[first], least, name], "per_ml")]
            for other in others:
                found = lines[DIFFERENCE, other, least, name]
                cells.append(cell(lines[*shown[other], least, name], "per_ml"))
                cells.append(cell(found, "per_ml") | {"verdict": found["verdict"]})
            rows.append({"size": between(least, math.inf), "class": name, "cells": cells})
    named = {run: f"{run}, less {blanks[run]}" if run in blanks else run for run in shown}
    headings = [named[first], *(h for run in others for h in (named[run], f"{run} − {first}"))]
    return {"headings": headings, "rows": rows, "net": bool(blanks)}


_GLOSSARY = {
    "Called": "Particles whose likeliest class this is, mistakes included.",
    "Corrected": (
        "Particles that there are, from those called and from how often the classifier takes each "
        "class for each other on labelled test images of that size."
    ),
    "95 % interval": (
        "Holds the expected number in about 95 of 100 such runs, if the particles look like the "
        "test images. Errors of volume and sizes are not in it."
    ),
    "Uncertain": "Particles of which the classifier is not sure. They are in the classes, too.",
    "Reference": "Flow imaging detects more particles than light obscuration: it is no test.",
}
