"""FlowCam runs, as VisualSpreadsheet leaves them, into a store.

A run is a ``.lst`` (or the ``.csv`` exported from it) with its collages, or with one image for
each particle, in its folder. Particles are cut out of the collages at their boxes; runs are the
groups of the split. Labels come from a CSV or from the classifications saved with the run
(``.cla``). Libraries (``.flb``), the lists in which experts keep training particles, are read
where the folder holds no run: the folder of a library is its label.

``ecd_um`` is the vendor's ABD or ESD diameter (``data.size``); see
:mod:`svp_lightning.data.importers.flowcam_pictures`.
"""

from collections.abc import Collection
from pathlib import Path

import numpy as np
import pandas as pd

from svp_lightning.data.importers.flowcam_facts import Evidence
from svp_lightning.data.importers.flowcam_labels import saved_labels
from svp_lightning.data.importers.flowcam_lists import (
    LIBRARY,
    is_particle_table,
    more_in_export,
    read_particles,
)
from svp_lightning.data.importers.flowcam_pictures import (
    Siblings,
    recomputed,
    touches_frame,
    usable_masks,
    with_pictures,
    without_fringe,
)
from svp_lightning.data.importers.pictures import Pictures
from svp_lightning.data.importers.runs import Found, plan_runs, run_files
from svp_lightning.data.importers.tables import Skips
from svp_lightning.data.importers.writer import Plan
from svp_lightning.data.settings import FlowCamSettings
from svp_lightning.errors import DataError
from svp_lightning.runtime.files import visible_files

_CALIBRATION_TOLERANCE = 0.005
"""Calibrations that differ by less (relative) are one."""


def plan_flowcam(settings: FlowCamSettings, left_out: Collection[Path] = ()) -> Plan:
    """Read all particle lists and decide what the store will hold.

    Folders ``left_out`` below the root are none of the user's data.

    Raises:
        DataError: naming the file, particle or class that is wrong.
    """
    reader = _Reader(settings)
    files = reader.run_files(left_out)
    return plan_runs(files, reader.read, reader.complete, settings, reader.pictures, reader.skips)


class _Reader:
    """Reads the runs of one import."""

    def __init__(self, settings: FlowCamSettings) -> None:
        self.settings = settings
        self.skips = Skips(settings.unreadable)
        self.pictures = Pictures(settings.root, settings.num_threads, self.skips.policy == "skip")
        self.siblings = Siblings()
        self.evidence: dict[str, Evidence] = {}

    def run_files(self, left_out: Collection[Path]) -> list[Path]:
        """The particle list of each run: its ``.lst``, or else its ``.csv``; or libraries."""
        root, have = self.settings.root, set[str]()

        def is_run(file: Path) -> bool:
            if file.suffix.lower() != ".csv":
                return True
            alone = _run_key(file) not in have and not file.stem.lower().endswith("_summary")
            return alone and is_particle_table(file)

        lists = run_files(root, left_out, (".lst",), is_run, self.skips)
        have.update(map(_run_key, lists))
        tables = run_files(root, left_out, (".csv",), is_run, self.skips)
        libraries = run_files(root, left_out, (LIBRARY,), is_run, self.skips)
        if lists or tables:
            for file in libraries:
                self.skips.note(file.name, "library of particles, not a run")
            return sorted(lists + tables)
        if not libraries:
            files = visible_files(root, left_out)
            archive = next((file.name for file in files if file.suffix.lower() == ".zip"), None)
            raise DataError(
                f"{root} holds no FlowCam run (no .lst, no .csv with a column Image File or "
                "Particle ID and sizes, no library .flb).",
                f"Unpack {archive} first."
                if archive
                else "Give the folder VisualSpreadsheet wrote, or one that holds such folders.",
            )
        return libraries

    def read(self, file: Path, run: str) -> pd.DataFrame:
        """One row per particle with the store's column names; see :func:`plan_runs`."""
        before = self.skips.lost
        table = read_particles(file, self.skips)
        listed = len(table) + self.skips.lost - before
        highest = int(table["particle_id"].max()) if len(table) else 0
        evidence = Evidence.of_run(file, self.siblings, listed, highest, self.skips)
        self.evidence[run] = evidence
        export = self._of_run(file, ".csv")
        if file.suffix.lower() == ".lst" and export.is_file() and self._is_table(export):
            evidence.in_export = more_in_export(file, table, export)
        table = self._calibrated(file, table, evidence)
        table["id"] = [f"{run}/{number:06d}" for number in table["particle_id"]]
        if self.settings.labelled and self.settings.labels is None:
            table["label"] = self._labels(file, table, evidence)
        table = with_pictures(table, file, self.siblings, self.pictures, self.skips)
        return self._sized(file, run, table, evidence)

    def _of_run(self, file: Path, ending: str) -> Path:
        return self.siblings(file.parent, file.stem + ending)

    def _is_table(self, file: Path) -> bool:
        try:
            return is_particle_table(file)
        except DataError as error:
            self.skips.add(file.name, "file cannot be read", error, particle_lost=False)
            return False

    def _calibrated(self, file: Path, table: pd.DataFrame, evidence: Evidence) -> pd.DataFrame:
        """With the calibration (px to µm), which all files of the run must agree on."""
        stated = {one.file: one.value for one in evidence.summary.get("calibration", [])}
        context = evidence.context.get("calibrationconstant", 0)
        stated |= {self._of_run(file, ".ctx").name: context}
        stated = {name: value for name, value in stated.items() if value > 0}
        given = self.settings.pixel_size_um
        if "pixel_size_um" not in table:
            if not stated and given is None and len(table):
                raise DataError(
                    f"{file} has no calibration, and no .ctx in its folder has one.",
                    "Export it with the column Calibration Factor, or give data.pixel_size_um.",
                )
            table["pixel_size_um"] = next(iter(stated.values()), given)
        for name, value in stated.items() if given is None else ():
            other = table["pixel_size_um"][
                (table["pixel_size_um"] / value - 1).abs() > _CALIBRATION_TOLERANCE
            ]
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
        if file.suffix.lower() == LIBRARY:
            return [self._class_folder(file)] * len(table)
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

    def _class_folder(self, library: Path) -> str:
        """The folder of a library; refused deeper down, where it could be a day or an expert."""
        if self.settings.root not in (library.parent, library.parent.parent):
            raise DataError(
                f"{library} lies more than one folder below {self.settings.root}, so that it is "
                "not clear which folder is the class.",
                "Arrange libraries as root/<class>/<library>.flb, or set data.labelled=false.",
            )
        return library.parent.name

    def _sized(self, file: Path, run: str, table: pd.DataFrame, evidence: Evidence) -> pd.DataFrame:
        """With the size that ``data.size`` names, recomputed sizes, and the group."""
        for name in ("raw_area_vendor_px", "raw_feret_mean", "raw_perimeter"):
            if name not in table:
                table[name] = np.nan
        kinds = [kind for kind in ("abd", "esd") if f"{kind}_diameter_vendor_um" in table]
        if kinds and self.settings.size not in kinds:
            raise DataError(
                f"{file} has no Diameter ({self.settings.size.upper()}).",
                f"Export it with this column, or set data.size={kinds[0]}.",
            )
        size = table.get(f"{self.settings.size}_diameter_vendor_um")
        if (given := self.settings.pixel_size_um) is not None:
            size = None if size is None else size * (given / table["pixel_size_um"])
            table["pixel_size_um"] = given
        scale, fringe = table["pixel_size_um"], table["pixel_size_um"] * table["fringe_size_px"]
        table = table.assign(
            group=run,
            edge_of_frame=touches_frame(table, evidence.context),
            ecd_um=size,
            esd_diameter_recomputed_um=without_fringe(scale * table["raw_feret_mean"], fringe),
            perimeter_recomputed_um=scale * table["raw_perimeter"],
        ).drop(columns=["raw_feret_mean", "raw_perimeter"])
        return _of_library(table, run) if file.suffix.lower() == LIBRARY else table

    def complete(self, particles: pd.DataFrame) -> Found:
        """Particles with masks, and what the other files say of their runs."""
        masks = usable_masks(particles, self.siblings, self.pictures, self.skips)
        scaled = ", scaled to data.pixel_size_um" if self.settings.pixel_size_um else ""
        return Found(
            particles,
            read=self.pictures.reader(particles["picture"].unique()),
            facts={run: of.facts(self.settings.dilution) for run, of in self.evidence.items()},
            measure=lambda rows, _: recomputed(rows, masks.get(rows["picture"].iloc[0])),
            made_by={
                "ecd_um": f"{self.settings.size}_diameter_vendor_um",
                "size_definition": f"{self.settings.size.upper()} diameter (vendor{scaled})",
            },
        )


def _run_key(file: Path) -> str:
    """Equal for the files of one run, whatever the case of their names."""
    return str(file.with_suffix("")).lower()


def _of_library(table: pd.DataFrame, run: str) -> pd.DataFrame:
    """Particles of a library come from many runs: those of one day are one group."""
    days = table["timestamp"].str[:10] if "timestamp" in table else pd.Series("", table.index)
    return table.assign(run=run, group=("day " + days).where(days != "", table["id"]))
