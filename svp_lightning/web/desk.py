"""What one server works on: an upload, a prediction, and the results of this session."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from svp_lightning.classifier.settings import PACKAGED_CONFIG, PACKAGED_WEIGHTS, RELEASED
from svp_lightning.errors import DataError
from svp_lightning.runtime.files import CHECKSUMS
from svp_lightning.runtime.settings import assignment
from svp_lightning.stages.run_folder import CLASSIFIER, RESULTS, weights_of
from svp_lightning.web.jobs import Job
from svp_lightning.web.settings import ServeSettings
from svp_lightning.web.uploads import Upload, replaced

KINDS = {
    "flowcam": "FlowCam run",
    "mfi": "MFI run",
    "collage": "collage of many particles",
    "folder": "images of one particle each",
}
"""Importer -> what it reads."""


Positive = Annotated[float, Field(gt=0)]
Name = Annotated[str, Field(max_length=5000)]


class Asked(BaseModel):
    """What the page asks to be classified, and how."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    upload: Name
    classifier: Name
    kind: Literal["auto", "flowcam", "mfi", "collage", "folder"]
    volume_ml: Annotated[str, Field(max_length=10_000)] | None
    dilution: Positive | None
    pixel_size_um: Positive | None
    container_ml: Positive | None
    blank: Name | None
    skip_unreadable: bool


class Desk:
    """One upload and one job at a time; a new upload replaces one that was not classified.

    Attributes:
        folder: of the uploads, removed when the server ends.
        job: the last one.
    """

    def __init__(
        self,
        settings: ServeSettings,
        predict: Sequence[str],
        outputs: Path,
        preferred: Path | None,
    ) -> None:
        """See :func:`~.application.application`."""
        self.settings = settings
        self.folder = Path()
        self.job: Job | None = None
        self._predict, self._outputs, self._preferred = predict, outputs, preferred
        self._upload: Upload | None = None
        self._starting = Lock()
        self._results: dict[str, Path] = {}

    def classifiers(self) -> dict[str, Path]:
        """Name -> folder: the preferred one, evaluated ones, the released one, and others.

        Evaluated are finished runs and their exports, others are imported weights. The newest come
        first. Those with one name are shown with their whole paths.
        """
        runs = [file.parent for file in self._outputs.glob(f"*/*/{CHECKSUMS}")]
        found = [run for run in runs if (run / CLASSIFIER).is_file()]
        exports = [file.parent for file in self._outputs.glob(f"*/*/{PACKAGED_CONFIG}")]
        found += [folder for folder in exports if (folder / PACKAGED_WEIGHTS).is_file()]
        found.sort(key=lambda folder: weights_of(folder).stat().st_mtime, reverse=True)
        found += [RELEASED] if weights_of(RELEASED).is_file() else []
        found.sort(key=lambda folder: not (folder / RESULTS).is_file())
        found = [*([self._preferred] if self._preferred else []), *found]
        names: dict[Path, str] = {}
        for folder in found:
            names.setdefault(folder.resolve(), f"{folder.parent.name}/{folder.name}")
        times = Counter(names.values())
        return {name if times[name] == 1 else str(folder): folder for folder, name in names.items()}

    def new_upload(self) -> Upload:
        """An empty one."""
        if self._upload is not None:
            self._upload.remove()
        self._upload = Upload(self.folder, self.settings)
        return self._upload

    def upload(self, name: str) -> Upload:
        """The present one.

        Raises:
            DataError: it has another name.
        """
        if self._upload is None or self._upload.id != name:
            raise replaced()
        return self._upload

    def start(self, asked: Asked) -> None:
        """Classify the upload.

        Raises:
            SvpError: another is being classified, this one was refused, or holds nothing to read.
        """
        with self._starting:
            self._start(asked)

    def _start(self, asked: Asked) -> None:
        if self.job is not None and self.job.state == "running":
            raise DataError("Another upload is being classified.", "Wait for it, or cancel it.")
        upload = self.upload(asked.upload)
        if upload.refused is not None:
            raise upload.refused
        if (run := self.classifiers().get(asked.classifier)) is None:
            raise DataError("This classifier is no longer there.", "Reload the page.")
        kind = upload.kind() if asked.kind == "auto" else asked.kind
        chosen = {
            "data.root": upload.root,
            "data.volume_ml": asked.volume_ml,
            "data.dilution": asked.dilution,
            "data.pixel_size_um": asked.pixel_size_um,
            "predict.container_ml": asked.container_ml,
            "predict.blank": asked.blank,
            "data.unreadable": "skip" if asked.skip_unreadable else None,
            "predict.run": run,
            "paths.artifacts": upload.folder / "artifacts",  # imported images go with the upload
        }
        words = [
            f"{key}={value}" if isinstance(value, float) else assignment(key, str(value))
            for key, value in chosen.items()
            if value is not None
        ]
        self._upload = None
        title = f"{KINDS[kind]}, classified by {asked.classifier}"
        if asked.blank:
            title += f", counted without the blank {asked.blank}"
        self.job = Job([*self._predict, f"data={kind}", *words], upload, title)

    def results(self, job: str) -> Path | None:
        """Folder of the results of a job of this session."""
        if self.job is not None and self.job.folder is not None:
            self._results[self.job.id] = self.job.folder
        return self._results.get(job)
