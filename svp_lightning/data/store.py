"""The store: particle images and one table row for each, in a directory of three files.

======================  ==========================================================
``images.npy``          (N, H, W) uint8, memory-mapped, never loaded whole
``particles.parquet``   one row per image (see :data:`REQUIRED_COLUMNS`)
``manifest.json``       schema, classes, pixel size, counts, SHA-256, how it was made
======================  ==========================================================

Real, simulated and synthetic images share the schema. Opening checks the files against the
manifest, so a truncated copy or a flipped byte is found before anything is trained on it.
"""

import json
import math
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyarrow import parquet
from pydantic import BaseModel, ConfigDict, ValidationError

from svp_lightning import __version__
from svp_lightning.errors import StoreError
from svp_lightning.runtime.files import (
    checked_hash,
    explaining_write_errors,
    replacing,
    sha256_of_file,
    sha256_of_json,
    write_json,
)

SCHEMA = 1
SPLITS = ("train", "val", "test")
ORIGINS = ("real", "simulated", "synthetic")
IMAGES, PARTICLES, MANIFEST = "images.npy", "particles.parquet", "manifest.json"

REQUIRED_COLUMNS = ("id", "label", "split", "group", "origin")
"""``id`` unique string; ``label`` class name or null; ``split`` one of :data:`SPLITS` or "";
``group`` the run or vial; ``origin`` one of :data:`ORIGINS`. Also usual: ``source``, ``seed``,
``label_confidence`` and physical columns with their unit in the name (``ecd_um``)."""


class Manifest(BaseModel):
    """What a store holds and how it was made (``manifest.json``)."""

    model_config = ConfigDict(frozen=True)

    schema_version: int
    class_names: tuple[str, ...]
    num_images: int
    image_size: int
    """Height and width of every image, in pixels."""
    pixel_size_um: float | None
    """Nominal size of a pixel, in µm; None where it is not known."""
    counts: dict[str, dict[str, int]]
    """split ("" where there is none) -> class name ("" if unlabelled) -> number of images."""
    sha256: dict[str, str]
    made_by: dict[str, Any]
    created: str
    package_version: str


@dataclass(eq=False)
class Store:
    """A store opened for reading.

    Attributes:
        path: the directory.
        manifest: its checked manifest.
        particles: one row per image, in the order of the images.
        images: (N, H, W) uint8 memory map, grey levels 0 to 255.
    """

    path: Path
    manifest: Manifest
    particles: pd.DataFrame

    @classmethod
    def open(cls, path: Path | str) -> Self:
        """Open the store at ``path`` and check it against its manifest.

        Reading the SHA-256 takes about 1 s per GB, once by all cells of a sweep.

        Raises:
            StoreError: a file is missing, or does not hold what the manifest says.
        """
        path = Path(path)
        manifest = _read_manifest(path)
        for name, expected in manifest.sha256.items():
            if not (path / name).is_file():
                raise StoreError(f"The store {path} lacks {name}.", _REMEDY)
            if checked_hash(path / name) != expected:
                raise StoreError(
                    f"{path / name} has changed since the store was written "
                    "(its SHA-256 is not the one in manifest.json).",
                    _REMEDY,
                )
        store = cls(path, manifest, pd.read_parquet(path / PARTICLES))
        shape = (len(store), store.image_size, store.image_size)
        if store.images.shape != shape or store.images.dtype != np.uint8:
            raise StoreError(
                f"{path / IMAGES} holds {store.images.shape} {store.images.dtype}, "
                f"the manifest says {shape} uint8.",
                _REMEDY,
            )
        check_particles(store.particles, len(store), store.class_names, path)
        return store

    @cached_property
    def images(self) -> NDArray[np.uint8]:
        images: NDArray[np.uint8] = np.load(self.path / IMAGES, mmap_mode="r", allow_pickle=False)
        return images

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """(N,) int64 index into :attr:`class_names`; -1 where an image has no label."""
        codes = pd.Categorical(self.particles["label"], categories=list(self.class_names)).codes
        return codes.astype(np.int64)

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.manifest.class_names

    @property
    def image_size(self) -> int:
        return self.manifest.image_size

    @property
    def pixel_size_um(self) -> float | None:
        return self.manifest.pixel_size_um

    @property
    def image_pixel_um(self) -> float | None:
        """µm per px of all stored images; None where it is unknown, or some were scaled down."""
        shrunk = "scale" in self.particles and bool((self.particles["scale"] < 1).any())
        return None if shrunk else self.pixel_size_um

    @property
    def sha256(self) -> str:
        """One hash for the content: that of the images and the table together."""
        return self.manifest.sha256[IMAGES][:32] + self.manifest.sha256[PARTICLES][:32]

    def __len__(self) -> int:
        return self.manifest.num_images

    def __getstate__(self) -> dict[str, Any]:
        # A memory map would be pickled by value when a loader starts its workers.
        return {k: v for k, v in self.__dict__.items() if k != "images"}

    def indices(self, split: str | None = None, label: int | None = None) -> NDArray[np.int64]:
        """Rows of a split and/or a class index, ascending."""
        chosen = np.ones(len(self), dtype=bool)
        if split is not None:
            chosen &= (self.particles["split"] == split).to_numpy()
        if label is not None:
            chosen &= self.labels == label
        return np.flatnonzero(chosen)

    def counts(self, split: str) -> dict[str, int]:
        """Class name -> number of images of ``split``, in class order (0 where none)."""
        held = self.manifest.counts.get(split, {})
        return {name: held.get(name, 0) for name in self.class_names}

    def changed(self, columns: Mapping[str, Any], made_by: Mapping[str, Any]) -> Self:
        """A view of the same images with other columns in the table; nothing is written.

        Its hash changes, so whatever is made from the view is another artifact than what is made
        from the whole.

        Args:
            columns: name -> N values, in place of those of the particle table.
            made_by: what decides them, for the hash and the manifest.
        """
        manifest, particles = self.manifest, self.particles.assign(**columns)
        table = sha256_of_json({"table": manifest.sha256[PARTICLES], **made_by})
        changes = {
            "counts": _count(particles),
            "sha256": manifest.sha256 | {PARTICLES: table},
            "made_by": {**manifest.made_by, **made_by},
        }
        return type(self)(self.path, manifest.model_copy(update=changes), particles)


class StoreWriter:
    """Writes a store piece by piece, in flat memory; a killed writer resumes.

    Args:
        path: the directory to write; a finished store there is refused.
        num_images: how many images there will be.
        image_size: height and width, in pixels.

    Each :meth:`write` puts its images on disk first and its table rows second, so rows that
    exist always have their images. :meth:`pending` lists what is still missing.
    """

    def __init__(self, path: Path, num_images: int, image_size: int) -> None:
        self.path = path
        self.num_images = num_images
        self.image_size = image_size
        self._rows = path / "rows"
        with explaining_write_errors(path):
            self._rows.mkdir(parents=True, exist_ok=True)
            self._first_byte = self._make_image_file()

    def _make_image_file(self) -> int:
        """Make the file for all images, or keep the one begun; offset of its first image."""
        file = self.path / IMAGES
        shape = (self.num_images, self.image_size, self.image_size)
        if not file.exists() or np.load(file, mmap_mode="r", allow_pickle=False).shape != shape:
            shutil.rmtree(self._rows)
            self._rows.mkdir()
            np.lib.format.open_memmap(file, mode="w+", dtype=np.uint8, shape=shape)
            if hasattr(os, "posix_fallocate"):  # a full disk fails now, not hours later
                with file.open("r+b") as raw:
                    os.posix_fallocate(raw.fileno(), 0, file.stat().st_size)
        return file.stat().st_size - math.prod(shape)

    def pending(self, chunk_size: int) -> list[range]:
        """Ranges of at most ``chunk_size`` rows that are not written yet, in order."""
        gaps, position = [], 0
        written = {int(file.stem): parquet.read_metadata(file).num_rows for file in self._pieces()}
        for start, length in {**written, self.num_images: 0}.items():
            cuts = range(position, start, chunk_size)
            gaps += [range(cut, min(cut + chunk_size, start)) for cut in cuts]
            position = start + length
        return gaps

    def _pieces(self) -> list[Path]:
        """Tables of the rows on disk, ascending."""
        return sorted(self._rows.glob("[0-9]*.parquet"))

    def write(self, start: int, images: NDArray[np.uint8], particles: pd.DataFrame) -> None:
        """Put ``images`` (n, H, W) uint8 and their ``particles`` (n rows) at row ``start``."""
        if len(images) != len(particles):
            raise StoreError(f"{len(images)} images came with {len(particles)} table rows.")
        place = (self.num_images - start, self.image_size, self.image_size)
        if images.shape[1:] != place[1:] or not 0 <= len(images) <= place[0] <= self.num_images:
            raise StoreError(f"Images {images.shape} do not fit at row {start} of {self.path}.")
        # Not through a memory map: its written pages would stay in memory, and count as ours.
        with explaining_write_errors(self.path), (self.path / IMAGES).open("r+b") as file:
            file.seek(self._first_byte + start * self.image_size**2)
            file.write(np.ascontiguousarray(images, dtype=np.uint8).data)
            file.flush()
            os.fsync(file.fileno())
        with replacing(self._rows / f"{start:012d}.parquet") as temporary:
            particles.to_parquet(temporary, index=False)

    def particles(self) -> pd.DataFrame:
        """The table rows written so far, in order."""
        return pd.concat(map(pd.read_parquet, self._pieces()), ignore_index=True)

    def finish(
        self, class_names: Sequence[str], pixel_size_um: float | None, made_by: Mapping[str, Any]
    ) -> None:
        """Join the table, write the manifest last, and drop the pieces.

        Raises:
            StoreError: rows are missing, or the table is not what a store needs.
        """
        particles = self.particles()
        check_particles(particles, self.num_images, class_names, self.path)
        with replacing(self.path / PARTICLES) as temporary:
            particles.to_parquet(temporary, index=False)
        manifest = Manifest(
            schema_version=SCHEMA,
            class_names=tuple(class_names),
            num_images=self.num_images,
            image_size=self.image_size,
            pixel_size_um=pixel_size_um,
            counts=_count(particles),
            sha256={name: sha256_of_file(self.path / name) for name in (IMAGES, PARTICLES)},
            made_by=dict(made_by),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            package_version=__version__,
        )
        write_json(self.path / MANIFEST, manifest.model_dump(mode="json"))
        shutil.rmtree(self._rows)


def check_particles(
    particles: pd.DataFrame, num_images: int, class_names: Sequence[str], path: Path
) -> None:
    """Refuse a particle table that does not fit the images or the schema.

    Raises:
        StoreError: naming the store and the column.
    """
    if missing := [name for name in REQUIRED_COLUMNS if name not in particles]:
        raise StoreError(f"The particle table of {path} lacks the columns {missing}.", _REMEDY)
    if len(particles) != num_images:
        raise StoreError(
            f"The particle table of {path} has {len(particles)} rows for {num_images} images.",
            _REMEDY,
        )
    if particles["id"].duplicated().any():
        twice = particles.loc[particles["id"].duplicated(), "id"].iloc[0]
        raise StoreError(f"The particle id {twice!r} occurs twice in {path}.", _REMEDY)
    allowed: dict[str, set[object]] = {
        "label": set(class_names),
        "split": {"", *SPLITS},
        "origin": set(ORIGINS),
    }
    for column, values in allowed.items():
        if strange := set(particles[column].dropna().unique()) - values:
            raise StoreError(
                f"The column {column!r} of {path} holds {sorted(map(str, strange))}, "
                f"allowed are {sorted(map(str, values))}.",
                _REMEDY,
            )


_REMEDY = "Delete the folder and run the command again to rebuild it."


def _read_manifest(path: Path) -> Manifest:
    file = path / MANIFEST
    if not file.is_file():
        raise StoreError(
            f"{path} is not a store: it has no {MANIFEST}.",
            "Give the folder that holds images.npy, particles.parquet and manifest.json.",
        )
    try:
        manifest = Manifest.model_validate(json.loads(file.read_text(encoding="utf-8")))
    except (ValidationError, ValueError) as error:
        raise StoreError(f"{file} is not a store manifest: {error}.", _REMEDY) from error
    if manifest.schema_version != SCHEMA:
        raise StoreError(
            f"{file} has schema {manifest.schema_version}, this version reads {SCHEMA}.", _REMEDY
        )
    if {IMAGES, PARTICLES} - set(manifest.sha256):
        raise StoreError(f"{file} does not give the SHA-256 of its files.", _REMEDY)
    return manifest


def _count(particles: pd.DataFrame) -> dict[str, dict[str, int]]:
    labels = particles["label"].astype(object).where(particles["label"].notna(), "")
    return {
        str(split): {str(name): int(n) for name, n in members.value_counts().items()}
        for split, members in labels.groupby(particles["split"])
    }
