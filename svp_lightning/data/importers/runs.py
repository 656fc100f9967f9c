"""What the imports of instrument runs share: from one table per run to the plan of a store."""

import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Collection
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict

from svp_lightning.data.importers.images import Picture
from svp_lightning.data.importers.labels import class_names, labels_from_table, refuse_single_class
from svp_lightning.data.importers.pictures import BOX, Pictures
from svp_lightning.data.importers.repeats import relative_name, without_repeats
from svp_lightning.data.importers.tables import Skips
from svp_lightning.data.importers.writer import Cut, Plan
from svp_lightning.data.settings import RunSettings
from svp_lightning.data.splits import assign_splits
from svp_lightning.errors import DataError
from svp_lightning.runtime.user_files import visible_files

_COLUMNS = ["id", "particle_id", "group", "picture", *BOX, "pixel_size_um"]
_PIXEL_TOLERANCE = 0.005
"""Calibrations that differ by less (relative) are one instrument setting."""


class RunFacts(BaseModel):
    """What the manifest says of a run (``made_by["runs"][run]``); importers may add more.

    Attributes:
        particles: imported.
        particles_lost: listed, but left out: counts are too low by these.
        volume_ml: of the sample that was imaged, so that particles / volume_ml is its
            concentration, any dilution counted in; None where it is unknown or withheld.
        withheld: why no concentration may be given, if so.
        dilution: factor by which the sample was diluted before it was imaged, where known.
        pixel_size_um: calibration, µm/px, if its particles share one.
        notes: sentences that a user should read.
    """

    model_config = ConfigDict(extra="allow")

    particles: int = 0
    particles_lost: int = 0
    volume_ml: float | None = None
    withheld: str | None = None
    dilution: float | None = None
    pixel_size_um: float | None = None
    notes: list[str] = []


class RunImport(ABC):
    """One import of runs: each instrument says which files are runs, and reads one into a table.

    A table has a row per particle with ``id``, ``particle_id``, ``group`` (the run), ``picture``
    (path as text) and the box ``x, y, w, h`` in it, ``pixel_size_um``, and whatever else is kept.
    ``content``, if it is there, is equal where pictures are, however they are stored; without it
    equal files are equal pictures. Tables of libraries have a ``run`` of their own, as their
    groups are something else. A table without rows is a blank.

    Attributes:
        facts: run -> what the manifest says of it besides its counts (:class:`RunFacts`).
        made_by: further facts for the manifest.
    """

    settings: RunSettings
    least_bits = 8
    """Of 16-bit pictures."""

    def __init__(self, settings: RunSettings, left_out: Collection[Path]) -> None:
        self.settings, self.left_out = settings, left_out
        self.skips = Skips(settings.unreadable)
        decode = settings.unreadable == "skip"
        self.pictures = Pictures(settings.root, settings.num_threads, decode, self.least_bits)
        self.facts: dict[str, dict[str, Any]] = {}
        self.made_by: dict[str, Any] = {}

    @abstractmethod
    def files(self) -> list[Path]:
        """Of the runs, sorted; DataError where there are none."""

    @abstractmethod
    def read(self, file: Path, run: str) -> pd.DataFrame:
        """The table of a run (see the class); DataError where it cannot be read."""

    def complete(self, particles: pd.DataFrame) -> pd.DataFrame:
        """The particles of all runs that can be cut, with what takes all of them to know."""
        return particles

    def page(self, path: Path) -> Picture:
        """A picture as 8 bit; called from several threads."""
        return self.pictures.page(path)

    def measure(self, rows: pd.DataFrame) -> dict[str, Any]:
        """Further columns of the particles of one picture; called from several threads."""
        del rows
        return {}

    @classmethod
    def planned(cls, settings: RunSettings, left_out: Collection[Path] = ()) -> Plan:
        """:meth:`plan` of the runs below ``data.root``, without folders ``left_out``."""
        return cls(settings, left_out).plan()

    def plan(self) -> Plan:
        """Read, check, label and split the particles of all runs, and lay out the store.

        Each particle comes in once. Runs that cannot be split (one run only, one class, no
        labels) are imported all the same, without splits; ``not_split`` in the manifest says
        why, and training refuses them.

        Raises:
            DataError: a run is broken or copied (unless skipped), none is left, or labels misfit.
        """
        settings = self.settings
        particles, runs, missing = self._all_particles()
        self.pictures.share_depth(particles["picture"].unique())
        particles = self.complete(particles).assign(origin="real", split=None)
        labelled, why = self._labelled(particles, missing), None
        particles = labelled.assign(split="")
        if settings.labelled:
            try:
                refuse_single_class(labelled, settings.root)
                particles = assign_splits(labelled, settings.fractions, settings.seed)
            except DataError as error:
                why = str(error)
        boxes = {name: f"box_{name}_px" for name in BOX}
        source = [Path(name).name for name in particles["picture"]]
        return Plan(
            particles=particles.assign(source=source).drop(columns="picture").rename(columns=boxes),
            sides=particles[["w", "h"]].max(axis=1).to_numpy(np.int64),
            units=_units(particles["picture"]),
            read=lambda unit: self._cut(particles.iloc[unit.start : unit.stop]),
            settings=settings,
            pixel_size_um=_common(particles["pixel_size_um"]),
            made_by={
                "source": settings.source,
                "seed": settings.seed,
                "not_split": why,
                **self.made_by,
                "runs": self._facts_of(runs, particles, missing),
            },
            skipped=self.skips.table(),
        )

    def _all_particles(self) -> tuple[pd.DataFrame, list[str], Counter[str]]:
        """Particles of all runs, each once, that can be cut; the runs; particles each has lost."""
        root, files = self.settings.root, self.files()
        names = dict(zip(files, run_names(root, files), strict=True))
        tables, lost = self._read_all(names)
        blank = {file: tables.pop(file) for file in list(tables) if tables[file].empty}
        tables = without_repeats(tables, root, self.settings.num_threads, self.skips)
        particles = _joined(list((tables or blank).values()))
        listed = Counter(_run_of(particles).tolist())
        for file, table in tables.items():
            listed[str(_run_of(table).iloc[0])] += lost[file]
        particles = self.pictures.holding(particles, self.skips)
        if particles.empty and not blank:
            raise DataError(
                f"Nothing in {root} could be imported.",
                "Set data.unreadable=refuse to see the first problem.",
            )
        if "label" in particles:
            cells = particles["label"].astype(object)
            spelled = class_names(cells[cells.notna() & (cells != "")], root)
            labels = [spelled.get(cell) for cell in cells]
            particles["label"] = labels if self.settings.labelled else None
        runs = sorted({*listed, *(names[file] for file in blank)})
        return particles, runs, listed - Counter(_run_of(particles).tolist())

    def run_files(
        self, suffixes: Collection[str], is_run: Callable[[Path], bool] = lambda _: True
    ) -> list[Path]:
        """Files of these suffixes that are runs, sorted; one that may not be read is left out.

        Raises:
            DataError: the root is no folder.
        """
        root = self.settings.root
        if not root.is_dir():
            raise DataError(f"data.root={root} is not a folder.", "Give a folder of runs, or one.")
        found = []
        labels = self.settings.labels and os.path.realpath(root / self.settings.labels)
        for file in sorted(visible_files(root, self.left_out)):
            try:
                if file.suffix.lower() in suffixes and os.path.realpath(file) != labels:
                    found += [file] * is_run(file)
            except DataError as error:
                self.skips.add(file.name, "file cannot be read", error, particle_lost=False)
        return found

    def _read_all(self, names: dict[Path, str]) -> tuple[dict[Path, pd.DataFrame], dict[Path, int]]:
        """Table of each run that can be read, and how many particles were left out of it."""
        tables, lost = {}, {}
        for file, name in names.items():
            before = self.skips.lost
            try:
                table = self.read(file, name)
                lost[file] = self.skips.lost - before
                if table.empty and lost[file]:
                    raise DataError(
                        f"None of the {lost[file]} particles that {file} lists can be used.",
                        "Export the run again.",
                    )
                tables[file] = table
            except DataError as error:
                named = relative_name(self.settings.root, file)
                self.skips.add(named, "run cannot be read", error)
        return tables, lost

    def _labelled(self, particles: pd.DataFrame, lost: Counter[str]) -> pd.DataFrame:
        """With ``label``, the ``split`` given (or null), and ``run`` where groups are given."""
        settings = self.settings
        if not settings.labelled or ("label" not in particles and settings.labels is None):
            return particles.assign(label=None)
        if settings.labels is None:
            return particles
        folder = settings.root if settings.root.is_dir() else settings.root.parent
        given = labels_from_table(particles, folder / settings.labels, self.skips, lost)
        particles = particles.assign(label=given["label"], split=given["split"])
        run = particles["group"]
        group = given["group"].where(given["group"].notna(), run)
        return particles if group.equals(run) else particles.assign(run=run, group=group)

    def _facts_of(
        self, runs: list[str], particles: pd.DataFrame, missing: Counter[str]
    ) -> dict[str, dict[str, Any]]:
        """Facts with counts and calibration, and without a volume where particles are lost."""
        run_of = _run_of(particles)
        imported = Counter(run_of.tolist())
        sizes = particles["pixel_size_um"].groupby(run_of)
        calibrations = {str(run): _common(of_run) for run, of_run in sizes}
        facts = {}
        for run in runs:
            lost, given = missing[run], self.facts.get(run, {})
            reasons = [given.get("withheld"), f"{lost:,} particles could not be imported"]
            withheld = "; ".join(filter(None, reasons[: 2 if lost else 1])) or None
            counted = {"particles": imported[run], "particles_lost": lost, "withheld": withheld}
            volume = None if withheld else given.get("volume_ml")
            own = {"volume_ml": volume, "pixel_size_um": calibrations.get(run)}
            facts[run] = RunFacts.model_validate({**given, **counted, **own}).model_dump()
        return facts

    def _cut(self, rows: pd.DataFrame) -> Cut:
        """The particles of one picture.

        Raises:
            DataError: the picture cannot be decoded, or is not the one that was looked at.
        """
        path = Path(rows["picture"].iloc[0])
        grey, opaque = self.page(path)
        boxes = list(zip(*(rows[name].tolist() for name in BOX), strict=True))
        windows = [(slice(y, y + h), slice(x, x + w)) for x, y, w, h in boxes]
        images = [grey[window] for window in windows]
        if any(image.shape != (h, w) for image, (_, _, w, h) in zip(images, boxes, strict=True)):
            raise DataError(f"{path} has changed during the import.", "Import it again.")
        masks = [None if opaque is None else opaque[window] for window in windows]
        masks = [None if mask is None or mask.all() else mask for mask in masks]
        return Cut(images, masks, self.measure(rows))


def _joined(tables: list[pd.DataFrame]) -> pd.DataFrame:
    particles = pd.concat(tables or [pd.DataFrame()], ignore_index=True)
    particles = particles.reindex(columns=particles.columns.union(_COLUMNS, sort=False))
    particles = particles.drop(columns="content", errors="ignore")
    order = [str(_run_of(particles).name), "picture", "particle_id"]
    return particles.sort_values(order, ignore_index=True)


def _run_of(particles: pd.DataFrame) -> pd.Series:
    """The run of each particle: its group, unless groups are something else."""
    return particles["run" if "run" in particles else "group"]


def run_names(root: Path, files: list[Path]) -> list[str]:
    """One name per run file: its stem, with its folder (and then its suffix) where these repeat."""
    names = [file.stem for file in files]
    paths = [relative_name(root, file) for file in files]
    bare = [relative_name(root, file.with_suffix("")) for file in files]
    for longer in (bare, paths, paths):
        times = Counter(names)
        names = [n if times[n] == 1 else long for n, long in zip(names, longer, strict=True)]
    return names


def _units(pictures: pd.Series) -> list[range]:
    changed = (pictures != pictures.shift()).to_numpy()
    starts = [*np.flatnonzero(changed).tolist(), len(pictures)]
    return [range(a, b) for a, b in pairwise(starts)]


def _common(pixel_sizes: pd.Series) -> float | None:
    """The calibration all particles share, or None."""
    sizes = pixel_sizes.astype(float)
    if sizes.empty or sizes.isna().any() or np.ptp(sizes) > _PIXEL_TOLERANCE * sizes.min():
        return None
    return float(sizes.median())
