"""The volumes of a FlowCam run, in mL, from the summaries beside its particle list."""

import re
from pathlib import Path

from svp_lightning.data.importers.tables import lines_of, read_text
from svp_lightning.errors import DataError

_VOLUMES = {
    "volume_imaged_ml": re.compile(r"(?:Fluid|Sample) Volume Imaged", re.IGNORECASE),
    "volume_aspirated_ml": re.compile(r"Sample Volume Aspirated", re.IGNORECASE),
    "volume_processed_ml": re.compile(r"Sample Volume Processed", re.IGNORECASE),
}
_UNIT = r"(?P<{}>[mu]l)?"
_VALUE = re.compile(
    r"\s*\(?\s*" + _UNIT.format("before") + r"\s*\)?\s*[:,;\t]\s*"
    r"(?P<number>\d{1,9}(?:[.,]\d{1,12})?(?:e[+-]?\d{1,2})?)\s*" + _UNIT.format("after")
    + r"[\s,;.]*",
    re.ASCII,
)  # fmt: skip
_ML_PER_UNIT = {None: 1.0, "ml": 1.0, "ul": 1e-3}


def read_volumes(run: Path) -> dict[str, float]:
    """Volumes in mL of the run ``<folder>/<name>``; a concentration is count / volume imaged.

    From ``<run>_summary.csv``, and what it lacks from ``<run>_run_summary.txt``, which rounds
    to a tenth of a microlitre. Lines without a number say nothing.

    Raises:
        DataError: a volume is written in a way that is not understood.
    """
    found: dict[str, float] = {}
    for suffix in ("_run_summary.txt", "_summary.csv"):
        file = run.with_name(run.name + suffix)
        if not file.is_file():
            continue
        for line in lines_of(read_text(file)):
            for name, label in _VOLUMES.items():
                match = label.search(line)
                if match and re.search(r"[0-9]", line[match.end() :]):
                    found[name] = _millilitres(file, line, line[match.end() :])
    return found


def _millilitres(file: Path, line: str, rest: str) -> float:
    plain = rest.replace('"', "").replace("\u00b5", "u").replace("\u03bc", "u").lower()
    match = _VALUE.fullmatch(plain)
    if match is None:
        raise DataError(
            f"{file}: {line.strip()[:80]!r} is not understood as a volume.",
            "Write it like 0.0174 ml; data.unreadable=skip goes on without the volumes.",
        )
    unit = match["before"] or match["after"]
    return float(match["number"].replace(",", ".")) * _ML_PER_UNIT[unit]
