"""Writing files whole or not at all, and hashing them."""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import lru_cache, partial
from pathlib import Path, PurePosixPath
from secrets import token_hex
from typing import TYPE_CHECKING, Any

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from svp_lightning.errors import PATH_ERRORS, ArtifactError
from svp_lightning.runtime.user_files import files_below

if TYPE_CHECKING:
    import pandas as pd

NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP}
"""Numbers of the errors of file systems without locks (some network mounts)."""
_OF_FOLDERS = {errno.EEXIST, errno.ENOENT}
"""Numbers of the errors where a folder cannot be made: a link that leads nowhere, in ``/proc``."""
CHECKSUMS = "checksums.json"
"""File name -> SHA-256 of the results in a run's folder."""
SWEEP_MEMORY = "SVP_SWEEP_MEMORY"
"""Environment variable naming the folder that the cells of a sweep share while it runs."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary name next to ``path`` and move it into place when the block succeeds.

    Readers see the old file or the new one, never a part. The temporary name keeps the
    suffix, since writers such as :func:`numpy.save` choose a format by it.

    Raises:
        ArtifactError: the disk is full or the folder cannot be written.
    """
    # Not by the process: those of two containers may have one number.
    temporary = path.with_name(f".{path.stem}.{token_hex(4)}{path.suffix}")
    try:
        with explaining_write_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            os.replace(temporary, path)
    finally:
        with suppress(OSError):  # it is moved, or was never there; a long name is reported above
            temporary.unlink()


@contextmanager
def explaining_write_errors(path: Path) -> Iterator[None]:
    """Turn a full disk or a missing permission while writing ``path`` into one clear error."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ArtifactError(
                f"No space left on the disk while writing {path}.",
                "Free some space, or point paths.artifacts and paths.outputs at a larger disk; "
                "the same command then resumes where it stopped.",
            ) from error
        place = Path(error.filename or "")
        above = error.errno in _OF_FOLDERS and place in (path, *path.parents)
        if error.errno in PATH_ERRORS or above:
            nowhere = above and place.is_symlink() and f"the link {place} leads nowhere"
            raise ArtifactError(
                f"{path} cannot be written ({nowhere or error.strerror}).",
                "Check the folder and its permissions, shorten name=… and study=…, or set "
                "paths.artifacts and paths.outputs.",
            ) from error
        raise


@contextmanager
def locked(file: Path, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold the lock ``file``, calling ``waiting`` first where another process holds it.

    Without locks in the file system the existence of a second file (``.held``) is the lock. It
    names its process and is freed when that has ended, on another machine by hand.

    Raises:
        ArtifactError: the folder cannot be written.
    """
    lock: BaseFileLock = FileLock(file, fallback_to_soft=False)
    try:
        _acquire(lock, file, waiting)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        # Under another name: a file that real locks have left behind would count as held.
        lock = SoftFileLock(file.with_suffix(".held"))
        _acquire(lock, file, waiting)
    try:
        yield
    finally:
        lock.release()


def _acquire(lock: BaseFileLock, file: Path, waiting: Callable[[], None]) -> None:
    with explaining_write_errors(file):
        try:
            lock.acquire(timeout=0)
        except Timeout:
            waiting()
            lock.acquire()


@contextmanager
def nothing_left_on_failure(folder: Path) -> Iterator[None]:
    """Remove a new folder on an error; an interrupted one is kept, to be resumed."""
    existed = folder.exists()
    try:
        yield
    except Exception:
        if not existed:
            shutil.rmtree(folder, ignore_errors=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write a file in UTF-8, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, values: Any) -> None:
    """:func:`write_text` of ``values`` as indented JSON; NaN and infinity are refused."""
    text = json.dumps(values, indent=2, allow_nan=False, ensure_ascii=False)
    write_text(path, text + "\n")


def json_object(path: Path) -> dict[str, Any]:
    """The values of a JSON file; none where it is missing or damaged."""
    with suppress(OSError, ValueError):
        values = json.loads(path.read_text(encoding="utf-8"))
        return values if isinstance(values, dict) else {}
    return {}


def write_csv(path: Path, table: "pd.DataFrame", **how: Any) -> None:
    """Write a table without its index, whole or not at all; ``how``: see ``to_csv``."""
    with replacing(path) as temporary:
        table.to_csv(temporary, index=False, **how)


def sha256_of_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal, read in blocks (flat memory)."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_json(values: Any) -> str:
    """SHA-256 of plain JSON values, independent of the order of keys."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def cached_hash(
    root: Path,
    read: Callable[[Path], str],
    memory: Path,
    left_out: Collection[Path] = (),
    used: Callable[[Path], bool] = lambda _: True,
) -> str:
    """The hash of what is below ``root``, read again only where a file has changed.

    Args:
        root: a folder or a file.
        read: makes the hash from the contents, and refuses what is not there.
        memory: folder in which hashes are kept.
        left_out: folders below the root whose files do not count, for ``read`` neither.
        used: which files of a folder count, for ``read`` too.

    Raises:
        DataError: a folder cannot be listed.
    """
    files = [root]
    if root.is_dir():
        files = [file for file in files_below(root, left_out, hidden=True) if used(file)]
    if not all(file.is_file() for file in files):
        return read(root)
    looks = [(file.relative_to(root).as_posix(), *_look(file)) for file in files]
    note = memory / f"{sha256_of_json([str(root.resolve()), looks])}.json"
    return _noted(note, partial(read, root))


def sha256_of_given(file: Path | None) -> str | None:
    """The hash of a file that a setting names; its name where it is not there to be read."""
    if file is None or not file.is_file():
        return None if file is None else str(file)
    return _sha256(file, *_look(file))


def _look(file: Path) -> tuple[int, int, int]:
    """Size and times, ns; the second cannot be set back when a file is replaced."""
    facts = file.stat()
    return facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns


def sweep_memory() -> Path | None:
    """The folder in which the cells of the sweep that runs share what they have read."""
    folder = os.environ.get(SWEEP_MEMORY)
    return None if folder is None else Path(folder)


def checked_hash(file: Path) -> str:
    """SHA-256 of a file of results, read once by a process and once by a sweep and its cells.

    It is read again when the file's size or times change, and by every later command.
    """
    return _sha256(file, *_look(file))


def below(folder: Path, name: str) -> Path:
    """``folder / name``, of a name that a file gives.

    Raises:
        ArtifactError: it leads out of the folder.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise ArtifactError(f"{name!r} is no file in {folder}.", "Get the folder again.")
    return folder / path


def require_unchanged(file: Path) -> None:
    """Refuse a file that is not what the record of its folder says; one without passes.

    Raises:
        ArtifactError: it is missing, or has changed since the record was written.
    """
    record = file.parent / CHECKSUMS
    if not record.is_file():
        return
    remedy = "Run the same command again (command.txt), which makes the run again."
    try:
        expected = json.loads(record.read_text(encoding="utf-8")).get(file.name)
    except (ValueError, AttributeError) as error:
        raise ArtifactError(f"{record} cannot be read ({error}).", remedy) from error
    if expected is not None and not (file.is_file() and checked_hash(file) == expected):
        raise ArtifactError(f"{file} is missing or has changed since the run was finished.", remedy)


@lru_cache
def _sha256(file: Path, *look: int) -> str:
    folder = sweep_memory()
    if folder is None:
        return sha256_of_file(file)
    note = folder / f"{sha256_of_json([str(file.resolve()), look])}.json"
    return _noted(note, partial(sha256_of_file, file))


def _noted(note: Path, read: Callable[[], str]) -> str:
    """What the note says, or what is read and then noted; of processes at once, one reads."""
    with ExitStack() as held:
        with suppress(OSError, ArtifactError):  # what cannot be written can still be read
            note.parent.mkdir(parents=True, exist_ok=True)
            held.enter_context(locked(note.with_suffix(".lock")))
        with suppress(FileNotFoundError, NotADirectoryError, ValueError):  # or a damaged note
            return str(json.loads(note.read_text(encoding="utf-8")))
        found = read()
        with suppress(ArtifactError):
            write_json(note, found)
        return found
