"""The contents of the user's files as one hash, at the price of a look at the folder.

Reading every image takes long, so what was read is remembered beside the artifacts, under the
names, sizes and times of the files: a run that is finished is told from one whose images have
changed without reading them again.
"""

import json
from collections.abc import Callable, Collection
from functools import lru_cache
from pathlib import Path

from svp_lightning.data.ingest.walking import files_below
from svp_lightning.files import sha256_of_file, sha256_of_json, write_json


def remembered(
    root: Path, read: Callable[[Path], str], memory: Path, left_out: Collection[Path] = ()
) -> str:
    """The hash of what is below ``root``, from memory where no file has changed since.

    Args:
        root: a folder or a file.
        read: makes the hash from the contents, and refuses what is not there.
        memory: folder of remembered hashes.
        left_out: folders below the root whose files do not count, for ``read`` neither.

    Raises:
        DataError: a folder cannot be listed.
    """
    files = list(files_below(root, left_out, hidden=True)) if root.is_dir() else [root]
    if not all(file.is_file() for file in files):
        return read(root)
    looks = [(file.relative_to(root).as_posix(), *_look(file)) for file in files]
    note = memory / f"{sha256_of_json([str(root.resolve()), looks])}.json"
    if not note.is_file():
        write_json(note, read(root))
    found: str = json.loads(note.read_text(encoding="utf-8"))
    return found


def sha256_of_given(file: Path | None) -> str | None:
    """The hash of a file that a setting names; its name where it is not there to be read."""
    if file is None or not file.is_file():
        return None if file is None else str(file)
    return _sha256(file, *_look(file))


def _look(file: Path) -> tuple[int, int, int]:
    """Size and times, ns; the second cannot be set back when a file is replaced."""
    facts = file.stat()
    return facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns


@lru_cache
def _sha256(file: Path, *_: int) -> str:
    return sha256_of_file(file)
