"""FlowCam runs, as VisualSpreadsheet leaves them, into a store.

A run is a ``.lst`` (or the ``.csv`` exported from it) with its collages, or with one image for
each particle, in its folder. Particles are cut out of the collages at their boxes; runs are the
groups of the split. Labels come from a CSV or from the classifications saved with the run
(``.cla``). Libraries (``.flb``), the lists in which experts keep training particles, are read
where the folder holds no run: the folder of a library is its label.
"""

import os
import re
from collections.abc import Collection
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
import pandas as pd

from svp_lightning.data.importers.flowcam_facts import CALIBRATION_TOLERANCE, Evidence
from svp_lightning.data.importers.flowcam_lists import (
    is_particle_table,
    more_in_export,
    read_particles,
    require_columns,
    saved_labels,
)
from svp_lightning.data.importers.flowcam_sizes import measured, sized
from svp_lightning.data.importers.images import Header
from svp_lightning.data.importers.pictures import BOX, NO_PARTICLES, AnyCase, whole_pictures
from svp_lightning.data.importers.runs import RunImport
from svp_lightning.data.settings import IMAGE_SUFFIXES, FlowCamSettings
from svp_lightning.errors import DataError
from svp_lightning.runtime.user_files import visible_files

_LIBRARY = ".flb"


class _FlowCam(RunImport):
    settings: FlowCamSettings

    def __init__(self, settings: FlowCamSettings, left_out: Collection[Path]) -> None:
        super().__init__(settings, left_out)
        self.find = AnyCase()
        self.masks: dict[str, Path] = {}
        scaled = ", scaled to data.pixel_size_um" if settings.pixel_size_um else ""
        self.made_by = {
            "ecd_um": f"{settings.size}_diameter_vendor_um",
            "size_definition": f"{settings.size.upper()} diameter (vendor{scaled})",
        }

    def files(self) -> list[Path]:
        """The list of each run: its ``.lst``, or else its ``.csv``; or libraries."""
        lists = self.run_files((".lst",))
        have = set(map(_run_key, lists))
        tables = self.run_files(
            (".csv",),
            lambda file: (
                not file.stem.lower().endswith("_summary")
                and _run_key(file) not in have
                and is_particle_table(file)
            ),
        )
        libraries = self.run_files((_LIBRARY,))
        if lists or tables:
            for file in libraries:
                self.skips.note(file.name, "library of particles, not a run")
            return sorted(lists + tables)
        if libraries:
            return libraries
        root = self.settings.root
        files = visible_files(root, self.left_out)
        archive = next((file.name for file in files if file.suffix.lower() == ".zip"), None)
        remedy = "Give the folder VisualSpreadsheet wrote, or one that holds such folders."
        raise DataError(
            f"{root} holds no FlowCam run (no .lst, no .csv with a column Image File or "
            "Particle ID and sizes, no library .flb).",
            f"Unpack {archive} first." if archive else remedy,
        )

    def read(self, file: Path, run: str) -> pd.DataFrame:
        before = self.skips.lost
        table = read_particles(file, self.skips)
        listed = len(table) + self.skips.lost - before
        highest = int(table["particle_id"].max()) if len(table) else 0
        evidence = Evidence(listed, highest)
        evidence.read(file, self.find, self.skips)
        export = self._of_run(file, ".csv")
        if file.suffix.lower() == ".lst" and export.is_file() and self._is_table(export):
            evidence.in_export = more_in_export(file, table, export)
        table = self._calibrated(file, table, evidence)
        table["id"] = [f"{run}/{number:06d}" for number in table["particle_id"]]
        if self.settings.labelled and self.settings.labels is None:
            table["label"] = self._labels(file, table, evidence)
        table = self._with_pictures(table, file)
        self.facts[run] = evidence.facts(self.settings.dilution, self.settings.pixel_size_um)
        table = sized(file, run, table, evidence.context, self.settings)
        if file.suffix.lower() != _LIBRARY:
            return table
        # Particles of a library come from many runs: those of one day are one group.
        days = table["timestamp"].str[:10] if "timestamp" in table else pd.Series("", table.index)
        return table.assign(run=run, group=("day " + days).where(days != "", table["id"]))

    def _of_run(self, file: Path, ending: str) -> Path:
        return self.find(file.with_name(file.stem + ending))

    def _is_table(self, file: Path) -> bool:
        try:
            return is_particle_table(file)
        except DataError as error:
            self.skips.add(file.name, "file cannot be read", error, particle_lost=False)
            return False

    def _calibrated(self, file: Path, table: pd.DataFrame, evidence: Evidence) -> pd.DataFrame:
        """With the calibration (px to µm), which all files of the run must agree on."""
        stated = {one.file: one.value for one in evidence.summary.get("calibration", [])}
        stated[self._of_run(file, ".ctx").name] = evidence.context.get("calibrationconstant", 0)
        stated = {name: value for name, value in stated.items() if value > 0}
        given = self.settings.pixel_size_um
        if given is not None:
            listed = table.get("pixel_size_um", pd.Series(dtype=float))
            evidence.pixel_sizes_um = [*stated.values(), *listed.unique().tolist()]
        if "pixel_size_um" not in table:
            if not stated and given is None and len(table):
                raise DataError(
                    f"{file} has no calibration, and no .ctx in its folder has one.",
                    "Export it with the column Calibration Factor, or give data.pixel_size_um.",
                )
            table["pixel_size_um"] = next(iter(stated.values()), given)
        listed = table["pixel_size_um"]
        for name, value in stated.items() if given is None else ():
            other = listed[(listed / value - 1).abs() > CALIBRATION_TOLERANCE]
            if len(other):
                raise DataError(
                    f"{name} says {value:g} µm/px, and {file.name} {other.iloc[0]:g} µm/px.",
                    "Sizes depend on it: give the right one as data.pixel_size_um.",
                )
        if "fringe_size_px" not in table:
            table["fringe_size_px"] = evidence.context.get("fringesize", np.nan)
        return table

    def _labels(self, file: Path, table: pd.DataFrame, evidence: Evidence) -> list[str | None]:
        """Classes as spelled: the folder of a library, or what the ``.cla`` holds."""
        if file.suffix.lower() == _LIBRARY:
            if self.settings.root not in (file.parent, file.parent.parent):
                # Deeper down, the folder could be a day or an expert.
                raise DataError(
                    f"{file} lies more than one folder below {self.settings.root}, so that it is "
                    "not clear which folder is the class.",
                    "Arrange libraries as root/<class>/<library>.flb, or set data.labelled=false.",
                )
            return [file.parent.name] * len(table)
        saved, labels = self._of_run(file, ".cla"), dict[int, str]()
        if saved.is_file():
            last, choice = max(evidence.highest_id, evidence.listed), self.settings.classification
            listed = table["particle_id"].tolist()
            try:
                evidence.refuse_renumbered(saved)
                labels, evidence.notes = saved_labels(saved, choice, listed, last, self.skips)
            except DataError as error:
                reason = "classification cannot be used"
                self.skips.add(saved.name, reason, error, particle_lost=False)
        return [labels.get(particle) for particle in table["particle_id"]]

    def _with_pictures(self, table: pd.DataFrame, file: Path) -> pd.DataFrame:
        """``collage_file`` becomes ``picture``, a path as text, and every particle gets its box.

        Pictures lie in the folder of the list: collages, or, where none of them is there, one
        image for each particle (``run_00001.png``, numbered by particle, or named by its
        ``image_id``).
        """
        if table.empty:
            return table.reindex(columns=table.columns.union(["picture", *BOX], sort=False))
        named = self._named(table, file)
        if not any(map(os.path.isfile, named.unique())):
            singles = _single_images(table, file)
            if singles is not None:
                table = self._with_own_image(table, file, singles)
                return whole_pictures(
                    table, self.pictures.shapes(table["picture"]), file, self.skips
                )
            if "collage_file" not in table:
                raise DataError(
                    f"{file} names no collages (Image File), and no images such as "
                    f"{file.stem}_{table['particle_id'].iloc[0]:05d}.png lie in its folder.",
                    "Put the images of the run into the folder of its table.",
                )
        table = table.loc[named.index].assign(picture=named)
        table = table.drop(columns="collage_file", errors="ignore")
        if named.is_unique:
            shapes = self.pictures.shapes(named)
            boxes = table[["picture", "h", "w"]] if {"w", "h"} <= set(table) else table[:0]
            if all(
                shapes.get(picture, tuple(box)) == tuple(box)
                for picture, *box in boxes.itertuples(index=False, name=None)
            ):
                return whole_pictures(table, shapes, file, self.skips)
        require_columns(file, table, BOX)
        return table

    def _named(self, table: pd.DataFrame, file: Path) -> pd.Series:
        """Row -> the picture its list names; only the file name counts, whatever folder it had."""
        names = table.get("collage_file", pd.Series(dtype=object))
        known: dict[str, str] = {}
        for name in names.unique():
            plain = PureWindowsPath(name).name
            if plain and plain != os.pardir and "\0" not in plain and len(plain) <= 255:
                known[name] = str(self.find(file.with_name(plain)))
        for row, name in names[~names.isin(known)].items():
            where = f"row {row}: {name[:80]!r} is no name of a picture."
            error = DataError(f"{file}, {where}", "Export the run again.")
            self.skips.add(f"{file.name}, row {row}", "its picture has no name", error)
        return names[names.isin(known)].map(known)

    def _with_own_image(self, table: pd.DataFrame, file: Path, singles: pd.Series) -> pd.DataFrame:
        """The particles that have an image of their own, as ``picture``."""
        table = self.skips.leave_out(
            table,
            {"it has no image": ~table.index.isin(singles.index)},
            lambda row, _: DataError(
                f"{file.parent} holds no image of particle {row.particle_id} ({file.name}, row "
                f"{row.Index}).",
                "Export the images again; data.unreadable=skip leaves the particle out.",
            ),
        )
        return table.assign(picture=singles).drop(columns="collage_file", errors="ignore")

    def complete(self, particles: pd.DataFrame) -> pd.DataFrame:
        """Finds the masks that are of their collages' size."""
        collages = map(Path, particles["picture"].unique())
        masks = {c: self.find(c.with_name(f"{c.stem}_bin{c.suffix}")) for c in collages}
        masks = {collage: mask for collage, mask in masks.items() if mask.is_file()}
        looks = self.pictures.looks([*masks, *masks.values()])
        for collage, mask in masks.items():
            one, other = looks[str(mask)], looks[str(collage)]
            if isinstance(one, Header) and isinstance(other, Header) and one[:2] == other[:2]:
                self.masks[str(collage)] = mask
                continue
            error = DataError(f"{mask} is not of its collage's size.", "Copy the run again.")
            error = one if isinstance(one, DataError) else error
            self.skips.add(mask.name, "mask cannot be used", error, particle_lost=False)
        return particles

    def measure(self, rows: pd.DataFrame) -> dict[str, Any]:
        """Sizes of one collage's particles, from the mask if there is one."""
        file = self.masks.get(rows["picture"].iloc[0])
        return measured(rows, None if file is None else self.pictures.picture(file).grey > 0)


plan_flowcam = _FlowCam.planned
"""As :meth:`~.runs.RunImport.plan`."""


def _run_key(file: Path) -> str:
    """Equal for the files of one run, whatever the case of their names."""
    return str(file.with_suffix("")).lower()


def _single_images(table: pd.DataFrame, file: Path) -> pd.Series | None:
    """Row -> its own image, of those named after the run (or of all, where none is)."""
    images = sorted(p for p in file.parent.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
    images = [p for p in images if p.name[0] != "." and not NO_PARTICLES.match(p.stem)]
    run = re.escape(file.stem)
    of_run = {p: re.sub(rf"^{run}[ _-]+", "", p.stem, flags=re.IGNORECASE) for p in images}
    of_run = {p: key for p, key in of_run.items() if key != p.stem}
    keys = of_run or {p: re.sub(r"^.*\D(?=\d+$)", "", p.stem) for p in images}
    by_key = {key.lstrip("0").lower(): str(p) for p, key in keys.items()}
    names = table["particle_id"].astype(str)
    guids = table.get("image_id", names).str.lstrip("0").str.lower()
    found = names.map(by_key).fillna(guids.map(by_key)).dropna()
    # A list of boxes in collages means those: a few files with numbers are collages renamed.
    few = 2 * len(found) < len(table) and {"collage_file", *BOX} <= set(table)
    return None if found.empty or few or len(by_key) < len(keys) else found
