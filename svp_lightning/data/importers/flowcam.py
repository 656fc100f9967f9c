"""FlowCam runs, as VisualSpreadsheet leaves them, into a store.

A run is a ``.lst`` (or the ``.csv`` exported from it) with its collages, or with one image for
each particle, in its folder. Particles are cut out of the collages at their boxes; runs are the
groups of the split. Labels come from a CSV or from the classifications saved with the run
(``.cla``). Libraries (``.flb``), the lists in which experts keep training particles, are read
where the folder holds no run: the folder of a library is its label.

``ecd_um`` is the vendor's ABD or ESD diameter (``data.size``); see
:mod:`svp_lightning.data.importers.flowcam_sizes`.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from svp_lightning.data.importers.cutting import page_reader
from svp_lightning.data.importers.flowcam_facts import (
    CONTEXT,
    Evidence,
    read_context,
    read_summary,
)
from svp_lightning.data.importers.flowcam_labels import saved_labels
from svp_lightning.data.importers.flowcam_lists import (
    BOX_FIELDS,
    LIBRARY,
    Siblings,
    is_particle_table,
    more_in_export,
    read_particles,
    with_pictures,
)
from svp_lightning.data.importers.flowcam_sizes import (
    VENDOR_COLUMNS,
    recomputed,
    touches_frame,
    usable_masks,
    without_fringe,
)
from svp_lightning.data.importers.labels import class_names
from svp_lightning.data.importers.runs import RunFacts, Runs, gather, plan_runs, require_folder
from svp_lightning.data.importers.tables import Skips, header_of, read_head
from svp_lightning.data.importers.writer import Plan
from svp_lightning.data.settings import FlowCamSettings
from svp_lightning.errors import DataError
from svp_lightning.runtime.files import visible_files

_OTHER_COLUMNS = {
    "id": "particle_id",
    "cal_const": "pixel_size_um",
    "fringe_size": "fringe_size_px",
    "src_x": "frame_x_px",
    "src_y": "frame_y_px",
    "src_image": "frame",
    **dict(zip(BOX_FIELDS, "xywh", strict=True)),
}
_CALIBRATION_TOLERANCE = 0.005
"""Calibrations that differ by less (relative) are one."""


def plan_flowcam(settings: FlowCamSettings, left_out: Collection[Path] = ()) -> Plan:
    """Read all particle lists and decide what the store will hold.

    Args:
        settings: see there.
        left_out: folders below the root that are none of the user's data.

    Raises:
        DataError: naming the file, particle or class that is wrong.
    """
    require_folder(settings.root)
    reader = _Reader(settings, Skips(settings.unreadable))
    files = reader.run_files(left_out)
    particles, facts = gather(files, settings, reader.read, reader.skips)
    if settings.labelled and settings.labels is None:
        spelled = particles["label"]
        names = class_names(spelled.dropna().unique(), settings.root)
        particles["label"] = [names.get(label) for label in spelled]
    masks = usable_masks(particles, reader.siblings, settings, reader.skips)
    facts = {run: reader.completed(run, found) for run, found in facts.items()}
    kind = settings.size.upper()
    scaled = ", scaled to data.pixel_size_um" if settings.pixel_size_um else ""
    found = Runs(
        particles.drop(columns=["raw_feret_mean", "raw_perimeter"]),
        read=page_reader(particles["picture"].unique(), settings.num_threads),
        facts=facts,
        measure=lambda rows, tiles: recomputed(rows, masks.get(rows["picture"].iloc[0])),
        made_by={
            "ecd_um": f"{settings.size}_diameter_vendor_um",
            "size_definition": f"{kind} diameter (vendor{scaled})",
        },
    )
    return plan_runs(found, settings, reader.skips)


@dataclass
class _Reader:
    """Reads the runs of one import."""

    settings: FlowCamSettings
    skips: Skips
    siblings: Siblings = field(default_factory=Siblings)
    evidence: dict[str, Evidence] = field(default_factory=dict)
    notes: dict[str, list[str]] = field(default_factory=dict)

    def run_files(self, left_out: Collection[Path]) -> list[Path]:
        """The particle list of each run: its ``.lst``, or else its ``.csv``; or libraries."""
        root = self.settings.root
        files = list(visible_files(root, left_out))
        lists = [file for file in files if file.suffix.lower() == ".lst"]
        have = {_run_key(file) for file in lists}
        tables = [
            file
            for file in files
            if file.suffix.lower() == ".csv"
            and _run_key(file) not in have
            and not file.stem.lower().endswith("_summary")
            and self._is_table(file)
        ]
        libraries = [file for file in files if file.suffix.lower() == LIBRARY]
        if lists or tables:
            for file in libraries:
                self.skips.note(file.name, "library of particles, not a run")
            return sorted(lists + tables)
        if not libraries:
            archives = [file.name for file in files if file.suffix.lower() == ".zip"]
            raise DataError(
                f"{root} holds no FlowCam run (no .lst, no .csv with a column Image File or "
                "Particle ID and sizes, no library .flb).",
                f"Unpack {archives[0]} first."
                if archives
                else "Give the folder VisualSpreadsheet wrote, or one that holds such folders.",
            )
        return sorted(libraries)

    def _is_table(self, file: Path) -> bool:
        try:
            return file.is_file() and is_particle_table(header_of(read_head(file)))
        except DataError as error:
            self.skips.add(file.name, "file cannot be read", error, particle_lost=False)
            return False

    def read(self, file: Path, run: str) -> pd.DataFrame:
        """One row per particle with the store's column names; see :func:`gather`."""
        before = self.skips.lost
        table = read_particles(file, self.skips)
        evidence = self.evidence[run] = Evidence()
        evidence.listed = len(table) + self.skips.lost - before
        evidence.highest_id = int(table["id"].max()) if len(table) else 0
        self._read_siblings(file, evidence)
        self._compare_with_export(file, table, evidence)
        table = self._calibrated(file, table, evidence)
        if self.settings.labelled and self.settings.labels is None:
            table["label"] = self._labels(file, run, table)
        table = with_pictures(table, file, self.siblings, self.skips)
        return self._named(file, run, table, evidence.context)

    def _read_siblings(self, file: Path, evidence: Evidence) -> None:
        """Context and summaries; one that is broken costs no particle."""
        try:
            evidence.context = read_context(self._of_run(file, ".ctx"))
        except DataError as error:
            self._unread(file, CONTEXT, error, evidence)
        for ending in ("_summary.csv", "_run_summary.txt"):
            try:
                for name, stated in read_summary(self._of_run(file, ending)).items():
                    evidence.summary.setdefault(name, []).extend(stated)
            except DataError as error:
                self._unread(file, "run summary", error, evidence)

    def _unread(self, file: Path, kind: str, error: DataError, evidence: Evidence) -> None:
        self.skips.add(file.stem, f"{kind} cannot be read", error, particle_lost=False)
        evidence.unread.append(kind)

    def _of_run(self, file: Path, ending: str) -> Path:
        return self.siblings(file.parent, file.stem + ending)

    def _compare_with_export(self, file: Path, table: pd.DataFrame, evidence: Evidence) -> None:
        export = self._of_run(file, ".csv")
        if file.suffix.lower() == ".lst" and export.is_file() and self._is_table(export):
            evidence.in_export = more_in_export(file, table, export)

    def _calibrated(self, file: Path, table: pd.DataFrame, evidence: Evidence) -> pd.DataFrame:
        """With the calibration (px to µm), which all files of the run must agree on."""
        stated = {one.file: one.value for one in evidence.summary.get("calibration", [])}
        context = evidence.context.get("calibrationconstant", 0)
        stated |= {self._of_run(file, ".ctx").name: context}
        stated = {name: value for name, value in stated.items() if value > 0}
        given = self.settings.pixel_size_um
        if "cal_const" not in table:
            if not stated and given is None and len(table):
                raise DataError(
                    f"{file} has no calibration, and no .ctx in its folder has one.",
                    "Export it with the column Calibration Factor, or give data.pixel_size_um.",
                )
            table["cal_const"] = next(iter(stated.values()), given)
        for name, value in stated.items() if given is None else ():
            apart = (table["cal_const"] / value - 1).abs() > _CALIBRATION_TOLERANCE
            if apart.any():
                raise DataError(
                    f"{name} says {value:g} µm/px, and {file.name} "
                    f"{table['cal_const'][apart].iloc[0]:g} µm/px.",
                    "Sizes depend on it: give the right one as data.pixel_size_um.",
                )
        if "fringe_size" not in table:
            table["fringe_size"] = evidence.context.get("fringesize", np.nan)
        return table

    def _labels(self, file: Path, run: str, table: pd.DataFrame) -> list[str | None]:
        """Classes as spelled: the folder of a library, or what the ``.cla`` holds."""
        if file.suffix.lower() == LIBRARY:
            return [self._class_folder(file)] * len(table)
        saved, labels = self._of_run(file, ".cla"), dict[int, str]()
        evidence = self.evidence[run]
        if saved.is_file():
            last, choice = max(evidence.highest_id, evidence.listed), self.settings.classification
            try:
                evidence.refuse_renumbered(saved)
                listed = table["id"].tolist()
                labels, self.notes[run] = saved_labels(saved, choice, listed, last, self.skips)
            except DataError as error:
                reason = "classification cannot be used"
                self.skips.add(saved.name, reason, error, particle_lost=False)
        return [labels.get(particle) for particle in table["id"]]

    def _class_folder(self, library: Path) -> str:
        """The folder of a library; refused deeper down, where it could be a day or an expert."""
        if self.settings.root not in (library.parent, library.parent.parent):
            raise DataError(
                f"{library} lies more than one folder below {self.settings.root}, so that it is "
                "not clear which folder is the class.",
                "Arrange libraries as root/<class>/<library>.flb, or set data.labelled=false.",
            )
        return library.parent.name

    def _named(
        self, file: Path, run: str, table: pd.DataFrame, context: dict[str, float]
    ) -> pd.DataFrame:
        for name in ("raw_area", "raw_feret_mean", "raw_perimeter"):
            if name not in table:
                table[name] = np.nan
        table = table.rename(columns={**VENDOR_COLUMNS, **_OTHER_COLUMNS})
        size = self._size(file, table)
        given = self.settings.pixel_size_um
        if given is not None:
            size = None if size is None else size * (given / table["pixel_size_um"])
            table["pixel_size_um"] = given
        scale, fringe = table["pixel_size_um"], table["pixel_size_um"] * table["fringe_size_px"]
        numbers = [f"{number:06d}" for number in table["particle_id"]]
        table = table.assign(
            id=[f"{run}/{number}" for number in numbers],
            group=run,
            edge_of_frame=touches_frame(table, context),
            ecd_um=size,
            esd_diameter_recomputed_um=without_fringe(scale * table["raw_feret_mean"], fringe),
            perimeter_recomputed_um=scale * table["raw_perimeter"],
        )
        return _of_library(table, run) if file.suffix.lower() == LIBRARY else table

    def _size(self, file: Path, table: pd.DataFrame) -> pd.Series | None:
        """The vendor's diameter that ``data.size`` names; None where the list has none."""
        kinds = [k for k in ("abd", "esd") if f"{k}_diameter_vendor_um" in table]
        wanted = self.settings.size
        if kinds and wanted not in kinds:
            raise DataError(
                f"{file} has no Diameter ({wanted.upper()}).",
                f"Export it with this column, or set data.size={kinds[0]}.",
            )
        return table[f"{wanted}_diameter_vendor_um"] if kinds else None

    def completed(self, run: str, found: RunFacts) -> RunFacts:
        """Facts of a run with its volume, or why there is none."""
        facts = self.evidence[run].facts(self.settings.dilution)
        counts = {"particles": found.particles, "particles_lost": found.particles_lost}
        return facts.model_copy(update={**counts, "notes": self.notes.get(run, [])})


def _run_key(file: Path) -> str:
    """Equal for the files of one run, whatever the case of their names."""
    return str(file.with_suffix("")).lower()


def _of_library(table: pd.DataFrame, run: str) -> pd.DataFrame:
    """Particles of a library come from many runs: those of one day are one group."""
    days = table["timestamp"].str[:10] if "timestamp" in table else pd.Series("", table.index)
    return table.assign(run=run, group=("day " + days).where(days != "", table["id"]))
