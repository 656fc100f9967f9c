"""The store: particle images and one table row for each, in a directory of three files.

======================  ==========================================================
``images.npy``          (N, H, W) uint8, memory-mapped, never loaded whole
``particles.parquet``   one row per image (see :data:`REQUIRED_COLUMNS`)
``manifest.json``       schema, classes, pixel size, counts, SHA-256, how it was made
======================  ==========================================================

Real, simulated and synthetic images share the schema. Opening checks the files against the
manifest, so a truncated copy or a flipped byte is found before anything is trained on it. It reads
no table: columns are read when they are asked for, so that ten million images open at once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyarrow import parquet
from pydantic import BaseModel, ConfigDict

from svp_lightning.data.classes import ClassName
from svp_lightning.errors import ArtifactError, StoreError
from svp_lightning.runtime.files import checked_hash, sha256_of_json
from svp_lightning.runtime.settings import FileName, read_stored

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
    class_names: tuple[ClassName, ...]
    num_images: int
    image_size: int
    """Height and width of every image, in pixels."""
    pixel_size_um: float | None
    """Nominal size of a pixel, in µm; None where it is not known."""
    counts: dict[str, dict[str, int]]
    """split ("" where there is none) -> class name ("" if unlabelled) -> number of images."""
    sha256: dict[FileName, str]
    made_by: dict[str, Any]
    created: str
    package_version: str


@dataclass(eq=False)
class Store:
    """A store opened for reading.

    Attributes:
        path: the directory.
        manifest: its checked manifest.
        changes: columns in place of those of the table.
        images: (N, H, W) uint8 memory map, grey levels 0 to 255.
    """

    path: Path
    manifest: Manifest
    changes: Mapping[str, Any]

    @classmethod
    def open(cls, path: Path | str) -> Self:
        """Open the store at ``path`` and check it against its manifest.

        Reading the SHA-256 takes about 1 s per GB, once by a sweep and its cells.

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
        store = cls(path, manifest, {})
        shape = (len(store), store.image_size, store.image_size)
        if store.images.shape != shape or store.images.dtype != np.uint8:
            raise StoreError(
                f"{path / IMAGES} holds {store.images.shape} {store.images.dtype}, "
                f"the manifest says {shape} uint8.",
                _REMEDY,
            )
        return store

    @cached_property
    def particles(self) -> pd.DataFrame:
        """One row per image, in the order of the images.

        Raises:
            StoreError: the table is not what a store needs.
        """
        particles = pd.read_parquet(self.path / PARTICLES).assign(**self.changes)
        check_particles(particles, len(self), self.class_names, self.path)
        return particles

    def column(self, name: str) -> pd.Series:
        """A column of text as categories, read alone: a byte or a few for each image.

        Raises:
            StoreError: it does not fit the images.
        """
        if name in self.changes:
            return pd.Series(self.changes[name], dtype="category")
        if name not in self._columns:
            file = self.path / PARTICLES
            table = parquet.read_table(file, columns=[name], read_dictionary=[name])
            column = table.column(name).to_pandas().astype("category")
            check_columns({name: column}, len(self), self.class_names, self.path)
            self._columns[name] = column
        return self._columns[name]

    @cached_property
    def _columns(self) -> dict[str, pd.Series]:
        return {}

    @cached_property
    def images(self) -> NDArray[np.uint8]:
        return cast("NDArray[np.uint8]", np.load(self.path / IMAGES, "r", allow_pickle=False))

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """(N,) int64 index into :attr:`class_names`; -1 where an image has no label."""
        labels = self.column("label").cat.set_categories(list(self.class_names))
        return np.asarray(labels.cat.codes, dtype=np.int64)

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
        # A memory map would be pickled by value when a loader starts its workers, and no worker
        # needs the table.
        read = ("images", "particles", "_columns", "labels")
        return {k: v for k, v in self.__dict__.items() if k not in read}

    def indices(self, split: str | None = None, label: int | None = None) -> NDArray[np.int64]:
        """Rows of a split and/or a class index, ascending."""
        chosen = np.ones(len(self), dtype=bool)
        if split is not None:
            chosen &= (self.column("split") == split).to_numpy()
        if label is not None:
            chosen &= self.labels == label
        return np.flatnonzero(chosen)

    def few_of_each(self, split: str, most: int) -> NDArray[np.int64]:
        """Rows of a split, at most so many of each class, evenly over the store, ascending."""
        of_classes = (self.indices(split, label) for label in range(len(self.class_names)))
        return np.sort(np.concatenate([spread(rows, most) for rows in of_classes]))

    def counts(self, split: str) -> dict[str, int]:
        """Class name -> number of images of ``split``, in class order (0 where none)."""
        held = self.manifest.counts.get(split, {})
        return {name: held.get(name, 0) for name in self.class_names}

    def changed(self, columns: Mapping[str, Any], made_by: Mapping[str, Any]) -> Self:
        """A view of the same images with other columns (N,) in the table; nothing is written.

        Its hash changes by ``made_by``, what decides them, so whatever is made from the view is
        another artifact than what is made from the whole.
        """
        manifest, particles = self.manifest, self.particles.assign(**columns)
        table = sha256_of_json({"table": manifest.sha256[PARTICLES], **made_by})
        changes = {
            "counts": count_images(particles),
            "sha256": manifest.sha256 | {PARTICLES: table},
            "made_by": {**manifest.made_by, **made_by},
        }
        columns = {**self.changes, **columns}
        return type(self)(self.path, manifest.model_copy(update=changes), columns)


def spread(rows: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """At most so many of the rows, evenly over them."""
    return rows[np.linspace(0, len(rows) - 1, min(len(rows), most)).round().astype(np.int64)]


def check_particles(
    particles: pd.DataFrame, num_images: int, class_names: Sequence[str], path: Path
) -> None:
    """Refuse a particle table that does not fit the images or the schema.

    Raises:
        StoreError: naming the store and the column.
    """
    if missing := [name for name in REQUIRED_COLUMNS if name not in particles]:
        raise StoreError(f"The particle table of {path} lacks the columns {missing}.", _REMEDY)
    if particles["id"].duplicated().any():
        twice = particles.loc[particles["id"].duplicated(), "id"].iloc[0]
        raise StoreError(f"The particle id {twice!r} occurs twice in {path}.", _REMEDY)
    check_columns(particles, num_images, class_names, path)


def check_columns(
    columns: Mapping[str, pd.Series] | pd.DataFrame,
    num_images: int,
    class_names: Sequence[str],
    path: Path,
) -> None:
    """Refuse columns of a wrong length, or with values that the schema does not have.

    Raises:
        StoreError: naming the store and the column.
    """
    allowed: dict[str, set[object]] = {
        "label": set(class_names),
        "split": {"", *SPLITS},
        "origin": set(ORIGINS),
    }
    for column, found in columns.items():
        if len(found) != num_images:
            raise StoreError(
                f"The particle table of {path} has {len(found)} rows for {num_images} images.",
                _REMEDY,
            )
        values = allowed.get(str(column))
        if values is not None and (strange := set(found.dropna().unique()) - values):
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
        manifest = read_stored(file, Manifest, SCHEMA, _REMEDY, key="schema_version")
    except ArtifactError as error:
        raise StoreError(error.what, error.remedy) from error
    if {IMAGES, PARTICLES} - set(manifest.sha256):
        raise StoreError(f"{file} does not give the SHA-256 of its files.", _REMEDY)
    return manifest


def count_images(particles: pd.DataFrame) -> dict[str, dict[str, int]]:
    """Split -> class name -> number of images, as in :attr:`Manifest.counts`."""
    labels = particles["label"].astype(object).where(particles["label"].notna(), "")
    return {
        str(split): {str(name): int(n) for name, n in members.value_counts().items()}
        for split, members in labels.groupby(particles["split"])
    }
