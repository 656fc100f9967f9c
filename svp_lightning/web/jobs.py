"""One prediction: the very command that a user would type, its progress, and what it leaves."""

import csv
import math
import os
import re
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Literal

from svp_lightning.runtime.settings import SEE_ALL
from svp_lightning.runtime.terminal import say
from svp_lightning.web.uploads import Upload

COUNTS = "counts.csv"
SHOWN = {".html", ".csv", ".pdf"}
"""Results that a browser may ask for."""
MAX_LINES, MAX_LINE = 2000, 1000
"""Of what the command prints, kept for the page."""
SECONDS_TO_END = 5.0
_PROGRESS = re.compile(r"(\w[^:|]*):\s*(\d+)%\|")
_ERROR, _WARNING = "Error: ", "Warning: "
_FIELDS = {
    "predict.blank": "“Blank run”",
    "data.volume_ml": "“Volume imaged”",
    "data.dilution": "“Dilution”",
    "data.pixel_size_um": "“Pixel size”",
}
"""Setting in an error -> what the page calls it."""
_QUOTED = re.compile(r"""\"[\w.]+='([^']*)'\"""")
"""The value of a setting, as a shell needs it: with name and both pairs of quotes."""
UNEXPECTED = "The program stopped unexpectedly; the last lines that it printed are below."


class Job:
    """A prediction in a process of its own: it can be stopped, and a hostile file ends it alone.

    Attributes:
        id: of its upload.
        title: what is classified, for a heading.
        state: where it is.
        stage: what it does now.
        percent: of that; None where it is not known.
        lines: what it has printed besides progress.
        error: why it failed, one sentence; empty where it has not.
        folder: of the results; None before it is done.
    """

    def __init__(self, command: Sequence[str], upload: Upload, title: str) -> None:
        """Start ``command``; the upload is removed when it ends."""
        self.id, self.title = upload.id, title
        self.state: Literal["running", "done", "failed", "cancelled"] = "running"
        self.stage = "Starting"
        self.percent: int | None = None
        self.lines: list[str] = []
        self.error = ""
        self.folder: Path | None = None
        self._upload = upload
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            env={**os.environ, "PYTHONIOENCODING": "utf-8"},
            start_new_session=True,
        )
        self._thread = Thread(target=self._follow, daemon=True)
        self._thread.start()

    @property
    def warnings(self) -> list[str]:
        """What a reader of the counts must know."""
        return [line.removeprefix(_WARNING) for line in self.lines if line.startswith(_WARNING)]

    def cancel(self) -> None:
        """Stop it, and wait until its files are gone."""
        for signum in (signal.SIGTERM, signal.SIGKILL):
            if not self._thread.is_alive():
                return
            self.state = "cancelled"
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signum)
            self._thread.join(SECONDS_TO_END)

    def _follow(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as printed:
            for line in printed:
                self._read(line.rstrip()[:MAX_LINE])
        status = self._process.wait()
        self._upload.remove()
        if self.state != "running":
            return
        if status == 0 and self.folder is not None:
            self.state = "done"
            return
        self.error = self.error or UNEXPECTED
        say("\n".join(self.lines))
        self.state = "failed"

    def _read(self, line: str) -> None:
        if progress := _PROGRESS.match(line):
            self.stage, self.percent = progress[1].rstrip(), int(progress[2])
            return
        self.folder = _results_named(line) or self.folder
        line = self._without_places(line)
        if line.startswith(_ERROR):
            line = line.removesuffix(f" {SEE_ALL}")  # which a user of the page cannot
            self.error = _QUOTED.sub(r"“\1”", line.removeprefix(_ERROR))
            for setting, words in _FIELDS.items():
                self.error = self.error.replace(f"{setting}=", f"{words} ").replace(setting, words)
        if len(self.lines) < MAX_LINES:
            self.lines.append(line)

    def _without_places(self, line: str) -> str:
        """A line that names files and settings as the user knows them."""
        root = self._upload.root
        for place, words in (
            (f"data.root={root}", "The upload"),
            (f"{root}/", ""),
            (str(root), "The upload"),
            ("data.unreadable=skip", "“Skip files that cannot be read”"),
        ):
            line = line.replace(place, words)
        return line


def _results_named(line: str) -> Path | None:
    """The folder of counts, if a line names it or a file in it."""
    _, named, path = line.partition(": ")
    places = (Path(path), Path(path).parent) if named else ()
    return next((place for place in places if (place / COUNTS).is_file()), None)


@dataclass(frozen=True)
class Counts:
    """Numbers of the classes of all samples together, as text; what is not known is empty.

    Attributes:
        title: what is counted, and by which diameter where sizes are known.
        sizes: smallest diameter of each column.
        rows: class -> (number, its 95 % interval) of each column.
    """

    title: str
    sizes: list[str]
    rows: dict[str, list[tuple[str, str]]]


def counts_of(folder: Path) -> list[Counts]:
    """Particles, and where the volume is known their concentrations, of ``counts.csv``."""
    with (folder / COUNTS).open(newline="", encoding="utf-8") as file:
        kind, *_ = (table := csv.DictReader(file)).fieldnames or [""]
        rows = [row for row in table if row[kind] == f"all {kind}s"]
    sizes = [float(size) for size in dict.fromkeys(row["min_size_um"] for row in rows)]
    shown = [f"≥ {size:g} µm" if size else "All sizes" for size in sizes]
    definition = rows[0].get("size_definition", "")
    by = f" by {definition}" if definition else ""
    found = []
    for title, column in (("Particles", "count"), ("Particles per mL", "per_ml")):
        cells: dict[str, list[tuple[str, str]]] = {}
        for row in rows:
            number, low, high = (row[f"{column}{end}"] for end in ("", "_low", "_high"))
            # Ends of counts are rounded outwards, as the command prints them.
            if column == "count":
                low, high = str(math.floor(float(low))), str(math.ceil(float(high)))
            interval = f"{_whole(low)}–{_whole(high)}" if number else ""
            cells.setdefault(row["class"], []).append((_whole(number), interval))
        if any(row[column] for row in rows):
            found.append(Counts(f"{title}{by}", shown, cells))
    return found


def _whole(number: str) -> str:
    return f"{float(number):,.0f}" if number else ""


def files_of(folder: Path) -> list[str]:
    """Names of the results that a browser may ask for."""
    return sorted(p.name for p in folder.iterdir() if p.is_file() and p.suffix in SHOWN)
