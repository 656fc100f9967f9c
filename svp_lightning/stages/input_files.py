"""What the user's images and tables contain, as hashes; free of torch and pandas."""

import csv
import hashlib
import io
import os
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path

from svp_lightning.data.importers.plain_text import layout_of, lines_of, read_text
from svp_lightning.data.settings import IMAGE_SUFFIXES, RUN_SUFFIXES, FolderSettings, RunSettings
from svp_lightning.errors import DataError
from svp_lightning.runtime.files import cached_hash, sha256_of_file, sha256_of_json
from svp_lightning.runtime.user_files import files_below, folders_without_folders

TABLES = ("table", "labels", "mask")
"""Settings of ``data`` that name a file, which may lie outside of the root."""


def input_hashes(
    data: FolderSettings | RunSettings, own: Collection[Path], memory: Path | None = None
) -> dict[str, str]:
    """``root`` and each table given -> SHA-256; the contents count, not the place.

    Of unlabelled folders of images, also ``empty_folders``, if there are any.

    Args:
        data: where the images and tables are.
        own: folders of results, which do not count where they lie among the images.
        memory: folder in which hashes are kept; a file whose size and times have not changed is
            not read again. None: everything is read.

    Raises:
        DataError: ``data.root`` is not there or holds no file.
    """
    used = files_used(data)
    read: Callable[[Path], str] = partial(fingerprint, left_out=own, used=used)
    if memory is not None:
        read = partial(cached_hash, read=read, memory=memory, left_out=own, used=used)
    folder = data.root if data.root.is_dir() else data.root.parent
    given = {name: getattr(data, name, None) for name in TABLES}
    tables = {name: folder / table for name, table in given.items() if table is not None}
    # The importer reports a table that is not there.
    there = {name: file for name, file in tables.items() if file.is_file()}
    hashes = {name: read(place) for name, place in {"root": data.root, **there}.items()}
    if isinstance(data, FolderSettings) and not data.labelled and data.root.is_dir():
        found = folders_without_folders(data.root, own)
        if empty := [place.relative_to(data.root).as_posix() for place, of in found.items() if of]:
            hashes["empty_folders"] = sha256_of_json(empty)  # they may be vials
    return hashes


def fingerprint(
    root: Path, left_out: Collection[Path] = (), used: Callable[[Path], bool] = lambda _: True
) -> str:
    """SHA-256 over the relative names and contents of files below ``root``, links followed.

    Files in folders ``left_out``, and those that are not ``used``, are not opened.

    Raises:
        DataError: neither a folder nor a file is there, or the folder holds no file.
    """
    if root.is_file():
        return _content(root)
    if not root.is_dir():
        raise DataError(
            f"data.root={root} is not a folder.", "Give the folder that holds the images."
        )
    files = list(files_below(root, left_out, hidden=True))  # a table may name hidden ones
    if not files:
        raise DataError(
            f"data.root={root} holds no files.", "Give the folder that holds the images."
        )
    names = [f"{f.relative_to(root).as_posix()}\0{_content(f)}\n" for f in files if used(f)]
    return hashlib.sha256("".join(names).encode()).hexdigest()


def _content(file: Path) -> str:
    """The hash of a file; the importer reports one that cannot be read."""
    try:
        return sha256_of_file(file)
    except OSError:  # a link to nothing, a missing permission
        return "cannot be read"


def files_used(data: FolderSettings | RunSettings) -> Callable[[Path], bool]:
    """Which files below ``data.root`` an import may open."""
    if not isinstance(data, FolderSettings):
        return lambda file: file.suffix.lower() in IMAGE_SUFFIXES | RUN_SUFFIXES
    listed = frozenset() if data.table is None else _names_in(data.root / data.table)
    return lambda file: file.suffix.lower() in IMAGE_SUFFIXES or file.name.lower() in listed


def _names_in(table: Path) -> frozenset[str]:
    """The last part of each cell of ``table`` as a path, in lower case; without most images.

    The importer finds files whatever their case.
    """
    images = tuple(IMAGE_SUFFIXES)
    try:
        text = read_text(table)
        _, separator = layout_of(lines_of(text))
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
        cells = {cell for row in rows for cell in row if not cell.lower().endswith(images)}
    except (DataError, csv.Error):  # the importer reports it
        return frozenset()
    paths = (os.path.normpath(cell.strip().replace("\\", "/")) for cell in cells)
    return frozenset(os.path.basename(path).lower() for path in paths)
