"""What the other files of a FlowCam run say of it: context, volumes, counts.

Numbers that are in several files must agree within the last digit that each prints. Where they
do not, or where the printed concentration is not the count divided by the volume, no
concentration is given, and the reason names the numbers.
"""

import configparser
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from svp_lightning.data.importers.plain_text import lines_of, read_text
from svp_lightning.data.importers.tables import Skips, float_of
from svp_lightning.errors import DataError

CALIBRATION_TOLERANCE = 0.005
"""Calibrations that differ by less (relative) are one."""
_CONTEXT = (
    *("imagewidth", "imageheight", "calibrationconstant", "fringesize"),
    *("flowcelldepth", "flowcellwidth", "usedilutioncalculation", "sampledilution"),
)


def read_context(path: Path) -> dict[str, float]:
    """Numbers from the ``.ctx`` under their names in lower case; empty if it is missing.

    Frame size in px, calibration in µm/px, fringe in px, flow cell in µm.

    Raises:
        DataError: the file is no context, or one of these is no number.
    """
    remedy = "Fix or remove it; data.unreadable=skip continues without it."
    parser = configparser.ConfigParser(strict=False, interpolation=None, allow_no_value=True)
    try:
        parser.read_string(read_text(path) if path.is_file() else "")
    except (configparser.Error, AttributeError) as error:
        # AttributeError: a continued line after a key without a value (CPython issue 51418).
        raise DataError(f"{path} is not a run context: {error}.", remedy) from error
    values = {key: text for section in parser.sections() for key, text in parser[section].items()}
    found = {}
    for key in _CONTEXT:
        if text := values.get(key):
            value = float_of(text, comma=True)
            if value is None or math.isinf(value):
                raise DataError(f"{path}: {key} is {text[:40]!r}, not a number.", remedy)
            found[key] = value
    return found


class Stated(NamedTuple):
    """A number as a file prints it: its value (volumes in mL), the step of its last digit."""

    value: float
    step: float
    file: str


Summary = dict[str, list[Stated]]
"""``volume_imaged_ml``, ``count``, ``per_ml``, … -> what the summaries of a run state."""

_VOLUMES = {
    "volume_imaged_ml": r".*?(?:Fluid|Sample) Volume Imaged",
    "volume_aspirated_ml": r".*?Sample Volume Aspirated",
    "volume_processed_ml": r".*?Sample Volume Processed",
}
_LABELS = _VOLUMES | {
    "count": r'\s*"?(?:Particle )?Count"?(?=\s*[:,;\t])',
    "per_ml": r'\s*"?Particles ?(?:/|per) ?ml"?(?=\s*[:,;\t])',
    "calibration": r'\s*"?Calibration Factor"?(?=\s*[:,;\t])',
}
_THOUSANDS = re.compile(r"[:,;\t]\s*([1-9]\d{0,2}(?:[.,']\d{3})+)\s*[;\t]*\s*", re.ASCII)
"""``57,555`` and ``57.555`` of what is counted."""
_VALUE = re.compile(
    r"\s*\(?\s*(?P<before>[mu]l)?\s*\)?\s*[:,;\t]\s*"
    r"(?P<number>\d{1,12}(?:[.,](?P<decimals>\d{1,12}))?(?:e(?P<exponent>[+-]?\d{1,2}))?)\s*"
    r"(?P<after>[mu]l)?[\s,;.]*",
    re.ASCII,
)
_ML_PER_UNIT = {None: 1.0, "ml": 1.0, "ul": 1e-3}


def read_summary(file: Path) -> Summary:
    """Volumes, counts, concentration and calibration of a summary; nothing where it is missing.

    Lines without a number say nothing.

    Raises:
        DataError: a volume is written in a way that is not understood.
    """
    found: Summary = {}
    for line in lines_of(read_text(file)) if file.is_file() else []:
        for name, label in _LABELS.items():
            match = re.match(label, line, re.IGNORECASE)
            rest = line[match.end() :].replace('"', "") if match else ""
            rest = re.sub(r"\s+", _one_blank, rest)  # patterns of many blanks take very long
            if not re.search("[0-9]", rest):
                continue
            whole = _THOUSANDS.fullmatch(rest) if name in ("count", "per_ml") else None
            rest = ":" + re.sub(r"\D", "", whole[1]) if whole else rest
            value = _VALUE.fullmatch(re.sub("[\u00b5\u03bc]", "u", rest).lower())
            if value is not None:
                ml = _ML_PER_UNIT[value["before"] or value["after"]]
                number = float(value["number"].replace(",", ".")) * ml
                step = 10.0 ** (int(value["exponent"] or 0) - len(value["decimals"] or "")) * ml
                found.setdefault(name, []).append(Stated(number, step, file.name))
            elif name in _VOLUMES:
                raise DataError(
                    f"{file}: {line.strip()[:80]!r} is not understood as a volume.",
                    "Write it like 0.0174 ml; data.unreadable=skip continues without the volumes.",
                )
    return found


def _one_blank(blanks: re.Match[str]) -> str:
    """A tab separates, so it stays one."""
    return "\t" if "\t" in blanks[0] else " "


def agreed(stated: list[Stated], unit: str) -> tuple[Stated | None, str | None]:
    """The finest of several statements of one number, or how they contradict one another."""
    finest = min(stated, key=lambda one: one.step, default=None)
    for other in stated:
        # Both may be one number, rounded or cut at different digits.
        if finest and abs(other.value - finest.value) > 1.001 * max(other.step, finest.step):
            one, two = (f"{s.file} says {s.value:.10g} {unit}" for s in (finest, other))
            return None, f"{one}, {two}"
    return finest, None


_VOLUME = "; data.volume_ml=<mL> states it for task=predict"
_DILUTION = "; data.dilution=<factor> states what to multiply by (1: nothing)"


@dataclass
class Evidence:
    """What is known of one run, apart from its particles.

    Attributes:
        listed: particles that the list holds, whether or not they can be used.
        highest_id: of the list.
        context: see :func:`read_context`.
        summary: see :func:`read_summary`.
        unread: kinds of files that could not be read.
        in_export: particles of a ``.csv`` that has some which the list lacks.
        pixel_sizes_um: that its files say, µm/px, where the user states one.
        notes: sentences on its labels.
    """

    listed: int
    highest_id: int
    context: dict[str, float] = field(default_factory=dict)
    summary: Summary = field(default_factory=dict)
    unread: list[str] = field(default_factory=list)
    in_export: int | None = None
    pixel_sizes_um: list[float] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def read(self, list_file: Path, find: Callable[[Path], Path], skips: Skips) -> None:
        """Context and summaries next to a list; one that is broken costs no particle."""

        def read(kind: str, ending: str, reader: Callable[[Path], dict[str, Any]]) -> Any:
            try:
                return reader(find(list_file.with_name(list_file.stem + ending)))
            except DataError as error:
                skips.add(list_file.stem, f"{kind} cannot be read", error, particle_lost=False)
                self.unread.append(kind)
                return {}

        self.context = read("context", ".ctx", read_context)
        for ending in ("_summary.csv", "_run_summary.txt"):
            for name, stated in read("run summary", ending, read_summary).items():
                self.summary.setdefault(name, []).extend(stated)

    def facts(self, dilution: float | None, pixel_size_um: float | None) -> dict[str, Any]:
        """Facts for the manifest (see :class:`~svp_lightning.data.importers.runs.RunFacts`).

        Further facts are ``withheld_with_volume``, what is withheld where the user states the
        volume, ``volume_conflict``, how the files contradict one another about it, and
        ``listed_pixel_size_um``, which they say where the user states one.

        Args:
            dilution: factor that the user states; None: that of the context, where the printed
                concentration shows that the vendor's software applies it.
            pixel_size_um: µm/px that the user states. Where it is another than the files', their
                volume, which goes with its square, is withheld.
        """
        volumes = {name: agreed(self.summary.get(name, []), "mL")[0] for name in _VOLUMES}
        volume, conflict = agreed(self.summary.get("volume_imaged_ml", []), "mL imaged")
        unread = [f"its {kind} cannot be read" for kind in self.unread if volume is None]
        volume = volume if volume and volume.value > 0 else None
        used = self.context.get("usedilutioncalculation", 0) == 1
        factor = dilution or (self.context.get("sampledilution", 1.0) if used else 1.0)
        counted, undecided = self._count_conflict(), self._undecided(factor, dilution)
        doubt = None
        if volume is not None and dilution is None:
            printed = None if counted else next(iter(self.summary.get("per_ml", [])), None)
            doubt = self._disagrees(printed, volume, factor) if printed else undecided
        other_area = self._other_area(volume, pixel_size_um)
        conflict_said = conflict and conflict + _VOLUME
        withheld = _joined(conflict_said, other_area, counted, doubt, ", ".join(unread))
        return {
            "dilution": factor,
            "volume_ml": volume.value / factor if volume and not withheld else None,
            "withheld": withheld,
            "withheld_with_volume": _joined(counted, doubt if volume else undecided),
            "volume_conflict": conflict,
            "listed_pixel_size_um": next(iter(self.pixel_sizes_um), None),
            "notes": self.notes,
            **{name: one.value for name, one in volumes.items() if one},
            **{f"context_{key}": value for key, value in self.context.items()},
        }

    def refuse_renumbered(self, saved: Path) -> None:
        """Refuse a classification where the list may have been cut and numbered from 1 again.

        Numbers that were kept have gaps, and an export of all particles shows them.
        """
        kept = self.highest_id > self.listed or self.in_export is not None
        for one in () if kept else self.summary.get("count", []):
            if one.value > self.listed:
                raise DataError(
                    f"{saved} may label other particles: the list has {self.listed:,}, "
                    f"{one.file} counts {one.value:,.0f}, and a list that was cut may have been "
                    "renumbered.",
                    "Take both files from the same run, remove the summary if it is out of date, "
                    "or give the labels as a CSV (data.labels).",
                )

    def _count_conflict(self) -> str | None:
        counts = {one.file: int(one.value) for one in self.summary.get("count", [])}
        others = [f"{name} counts {n:,}" for name, n in counts.items() if n != self.listed]
        if self.in_export is not None:
            others.append(f"its export as .csv lists {self.in_export:,}")
        if not counts and self.highest_id > self.listed:
            others.append(f"its ids reach {self.highest_id:,}")
        return f"the list has {self.listed:,} particles, {', '.join(others)}" if others else None

    def _disagrees(self, printed: Stated, volume: Stated, factor: float) -> str | None:
        """How the printed concentration differs from the count by the volume, if it does."""
        plain, tolerance = self.listed / volume.value, volume.step / volume.value + 2e-3
        if abs(printed.value - plain * factor) <= tolerance * plain * factor + printed.step:
            return None
        return (
            f"{printed.file} says {printed.value:,.0f} particles/mL, and {self.listed:,} in "
            f"{volume.value:g} mL are {plain:,.0f} (dilution set: {factor:g}){_DILUTION}"
        )

    def _other_area(self, volume: Stated | None, given: float | None) -> str | None:
        """How the files' volume, of the area of a frame, is not that at the pixel size stated."""
        if volume is None or given is None or not self.pixel_sizes_um:
            return None
        low, high = min(self.pixel_sizes_um), max(self.pixel_sizes_um)
        other = high if high / given > given / low else low
        if max(given / other, other / given) <= 1 + CALIBRATION_TOLERANCE:
            return None
        remedy = _VOLUME
        if high <= low * (1 + CALIBRATION_TOLERANCE):
            ml = volume.value * (given / other) ** 2
            remedy = f"; at {given:g} µm/px it is {ml:.4g} mL, which data.volume_ml states"
        return (
            f"the {volume.value:g} mL imaged of its files are of frames at {other:g} µm/px, not at "
            f"data.pixel_size_um={given:g}{remedy}"
        )

    def _undecided(self, factor: float, given: float | None) -> str | None:
        """Why the factor is not certain where no printed concentration shows it, if so."""
        doubt = None if factor == 1 else f"a dilution of {factor:g} is set"
        if "context" in self.unread:
            doubt = "its context, and so its dilution, is not known"
        if given is not None or doubt is None:
            return None
        return f"{doubt}, and no printed concentration shows it{_DILUTION}"


def _joined(*reasons: str | None) -> str | None:
    return "; ".join(filter(None, reasons)) or None
