"""What a browser sends: kept in one temporary folder, and only what an import may read.

Names are those of another machine and archives may be hostile, so nothing is written outside the
folder, no link is made, and what is written counts towards the limits as it is written.
"""

import lzma
import re
import secrets
import shutil
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from io import BufferedReader, FileIO
from pathlib import Path, PurePosixPath
from threading import Lock
from typing import BinaryIO
from zipfile import BadZipFile, ZipFile

from starlette.concurrency import run_in_threadpool

from svp_lightning.data.settings import IMAGE_SUFFIXES, RUN_SUFFIXES
from svp_lightning.errors import DataError, SvpError
from svp_lightning.runtime.files import explaining_write_errors
from svp_lightning.runtime.user_files import visible_files
from svp_lightning.web.settings import ServeSettings

ARCHIVE = ".zip"
SUFFIXES = IMAGE_SUFFIXES | RUN_SUFFIXES
"""Of files that are kept; others are left out, as the importers do."""
MAX_NAME, MAX_DEPTH = 200, 12
"""Bytes of a name, and folders inside one another."""
COLLAGE_PIXELS = 250_000
"""A picture of a single particle has fewer."""
_BLOCK = 1 << 20
_ENTRY, _ENTRY_BYTES = b"PK\x01\x02", 512
"""How an entry in the directory of an archive begins, and more bytes than it has."""
_LITTER = "__MACOSX"
_FORBIDDEN = re.compile(r"^[A-Za-z]:|[\x00-\x1f\x7f\ud800-\udfff]")
_NOT_UNPACKED = (BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError, ValueError)
"""What the standard library raises for a damaged, encrypted or unknown archive."""


class Upload:
    """The files of one prediction.

    Attributes:
        id: its name in addresses, not to be guessed.
        folder: removed as a whole.
        root: the images and tables, below ``folder``.
        largest: pixels of the largest picture.
        refused: why it may not be used, if so.
    """

    def __init__(self, where: Path, limits: ServeSettings) -> None:
        self.id = secrets.token_hex(8)
        self.folder = where / self.id
        self.root = self.folder / "images"
        self.root.mkdir(parents=True)
        self.largest = 0
        self.refused: SvpError | None = None
        self._limits, self._lock = limits, Lock()
        self._files = self._size = self._pixels = 0

    async def receive(self, name: str, chunks: AsyncIterator[bytes]) -> None:
        """Keep a file that an import may read; an archive is unpacked.

        Args:
            name: the path of the file on the user's machine, below the folder that was chosen.
            chunks: its contents.

        Raises:
            DataError: the name or the archive is hostile, or a limit is passed; the upload then
                counts as refused.
        """
        try:
            path = safe_path(name)
            if path is None:
                return
            if path.suffix.lower() == ARCHIVE:
                archive = PurePosixPath("..", f"{secrets.token_hex(8)}{ARCHIVE}")
                await self._keep(archive, chunks)
                await run_in_threadpool(self._unpack, self.root / archive, path)
            else:
                await self._keep(path, chunks)
                await run_in_threadpool(self._look, path)
        except SvpError as error:
            self.refused = self.refused or error
            raise

    def remove(self) -> None:
        """Delete its files; what still arrives is refused."""
        self.refused = self.refused or replaced()
        shutil.rmtree(self.folder, ignore_errors=True)

    def kind(self) -> str:
        """Which importer reads it: ``flowcam``, ``mfi``, ``collage`` or ``folder``.

        Raises:
            DataError: it holds nothing that an importer reads.
        """
        # Imported when needed: they bring pandas.
        from svp_lightning.data.importers.flowcam_lists import is_particle_table
        from svp_lightning.data.importers.mfi_table import particle_header

        files = list(visible_files(self.root))
        if not files:
            raise DataError(
                "The upload holds no images and no run of an instrument.",
                f"Images end in {', '.join(sorted(IMAGE_SUFFIXES))}.",
            )
        if any(file.suffix.lower() in (".lst", ".flb") for file in files):
            return "flowcam"
        tables = [file for file in files if file.suffix.lower() in (".csv", ".txt")]
        if any(particle_header(file) for file in tables):
            return "mfi"
        if any(is_particle_table(file) for file in tables if file.suffix.lower() == ".csv"):
            return "flowcam"
        return "collage" if self.largest >= COLLAGE_PIXELS else "folder"

    async def _keep(self, path: PurePosixPath, chunks: AsyncIterator[bytes]) -> None:
        with self._new_file(path) as write:
            async for chunk in chunks:
                write(chunk)

    @contextmanager
    def _new_file(self, path: PurePosixPath) -> Iterator[Callable[[bytes], None]]:
        """A new file below the root, and the function that writes it; a failure leaves none."""
        self._count(files=1)
        target = self.root / path
        with explaining_write_errors(target):
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                file = target.open("xb")
            except FileExistsError as error:
                raise DataError(f"Two files are named {path}.", "Send them one by one.") from error
        try:
            with explaining_write_errors(target), file:
                yield partial(self._write, file)
        except BaseException:
            target.unlink(missing_ok=True)
            raise

    def _write(self, file: BinaryIO, chunk: bytes) -> None:
        self._count(size=len(chunk))
        file.write(chunk)

    def _look(self, path: PurePosixPath) -> None:
        """Count the pixels of a picture; one that cannot be read is for the import to report."""
        from svp_lightning.data.importers.images import read_header

        if path.suffix.lower() not in IMAGE_SUFFIXES:
            return
        try:
            header = read_header(self.root / path)
        except DataError:
            return
        self.largest = max(self.largest, header.height * header.width)
        self._count(pixels=header.height * header.width)

    def _unpack(self, archive: Path, name: PurePosixPath) -> None:
        """Unpack what an import may read, into a folder of the archive's name if it has none."""
        self._count()
        size = archive.stat().st_size
        try:
            with _Archive(FileIO(archive), self._limits.max_files) as file, ZipFile(file) as opened:
                entries = opened.infolist()
                found = [(e, safe_path(e.filename)) for e in entries if not e.is_dir()]
                kept = [(e, p) for e, p in found if p and p.suffix.lower() != ARCHIVE]
                self._count(files=len(entries) - len(kept))
                bare = any(len(path.parts) == 1 for _, path in kept)
                for entry, inside in kept:
                    path = PurePosixPath(name.stem) / inside if bare else inside
                    with opened.open(entry) as source, self._new_file(path) as write:
                        while block := source.read(_BLOCK):
                            write(block)
                    self._look(path)
        except _NOT_UNPACKED as error:
            raise DataError(
                f"{name.name} cannot be unpacked ({error}).",
                "Send a zip archive that is whole and has no password.",
            ) from error
        finally:
            archive.unlink(missing_ok=True)
            with self._lock:
                self._size -= size

    def _count(self, files: int = 0, size: int = 0, pixels: int = 0) -> None:
        """Add to what has been sent.

        Raises:
            SvpError: it is more than the settings allow, or was refused before.
        """
        if self.refused is not None:
            raise self.refused
        with self._lock:
            self._files, self._size = self._files + files, self._size + size
            self._pixels += pixels
        limits = self._limits
        for found, most, unit, setting in (
            (self._files, limits.max_files, "files", "max_files"),
            (self._size / 1e6, limits.max_upload_mb, "MB", "max_upload_mb"),
            (self._pixels / 1e6, limits.max_megapixels, "megapixels", "max_megapixels"),
        ):
            if found > most:
                raise _too_large(most, unit, setting)


class _Archive(BufferedReader):
    """A zip archive, of which `ZipFile` would read the directory at once, however long it is."""

    def __init__(self, file: FileIO, max_files: int) -> None:
        super().__init__(file)
        self._max_files = max_files

    def read(self, size: int | None = -1, /) -> bytes:
        """At most what a directory of so many files may have.

        Raises:
            DataError: it is more.
        """
        wanted = 0 if size is None else size
        data = super().read(size) if wanted <= max(_BLOCK, _ENTRY_BYTES * self._max_files) else None
        if data is None or data.count(_ENTRY) > self._max_files:
            raise _too_large(self._max_files, "files", "max_files")
        return data


def replaced() -> DataError:
    """What is said of an upload that is no longer there."""
    return DataError("This upload was replaced by a newer one.", "Send the files again.")


def _too_large(most: int, unit: str, setting: str) -> DataError:
    return DataError(
        f"The upload has more than {most:,} {unit}.",
        f"Send fewer files, or start the page with a larger serve.{setting}.",
    )


def safe_path(name: str) -> PurePosixPath | None:
    """Where a file of another machine is kept, below any folder; None: it is left out.

    Hidden files, those that systems add to an archive, and those that no importer reads are.

    Raises:
        DataError: the name leads elsewhere, or no file can be named so.
    """
    slashed = name.replace("\\", "/")
    parts = [part for part in slashed.split("/") if part not in ("", ".")]
    long = max(map(len, (part.encode(errors="replace") for part in parts)), default=0) > MAX_NAME
    long = long or len(parts) > MAX_DEPTH
    if slashed.startswith("/") or ".." in parts or long or _FORBIDDEN.search(slashed):
        shown = name[:80].encode("ascii", "backslashreplace").decode()
        raise DataError(f"A file is named {shown!r}, which is refused.", "Rename it.")
    if not parts or any(part.startswith(".") or part == _LITTER for part in parts):
        return None
    path = PurePosixPath(*parts)
    return path if path.suffix.lower() in {*SUFFIXES, ARCHIVE} else None
