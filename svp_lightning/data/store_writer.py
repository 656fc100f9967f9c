"""Writing a store: image by image in flat memory, resumed where it was killed."""

import math
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyarrow import parquet

from svp_lightning import __version__
from svp_lightning.data.store import (
    IMAGES,
    MANIFEST,
    PARTICLES,
    SCHEMA,
    Manifest,
    check_particles,
    count_images,
)
from svp_lightning.errors import StoreError
from svp_lightning.runtime.files import (
    explaining_write_errors,
    replacing,
    sha256_of_file,
    write_json,
)

ROWS = "rows"
"""Folder of the table's pieces, until the store is finished."""


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
        self._rows = path / ROWS
        with explaining_write_errors(path):
            self._rows.mkdir(parents=True, exist_ok=True)
            self._first_byte = self._make_image_file()

    def _make_image_file(self) -> int:
        """Make the file for all images, or keep the one begun; offset of its first image."""
        file = self.path / IMAGES
        shape = (self.num_images, self.image_size, self.image_size)
        begun = None
        with suppress(FileNotFoundError, EOFError, ValueError):  # or cut by a kill, a full disk
            begun = np.load(file, mmap_mode="r", allow_pickle=False).shape
        if begun != shape:
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
            counts=count_images(particles),
            sha256={name: sha256_of_file(self.path / name) for name in (IMAGES, PARTICLES)},
            made_by=dict(made_by),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            package_version=__version__,
        )
        write_json(self.path / MANIFEST, manifest.model_dump(mode="json"))
        shutil.rmtree(self._rows)
