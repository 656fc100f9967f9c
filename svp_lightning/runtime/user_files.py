"""The files and folders that a user has: whatever links, names and rights they come with.

There may be millions of them.
"""

import os
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NoReturn, TypeVar

from svp_lightning.errors import DataError

_LITTER = frozenset({"__MACOSX"})
"""Folders that systems add to an archive."""

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")
_Place = tuple[int, int]
"""Device and inode: one folder has one, by whatever links it is reached."""


def files_below(
    root: Path, left_out: Collection[Path] = (), hidden: bool = False
) -> Iterator[Path]:
    """Files below ``root`` in a fixed order, links to folders followed.

    A link that leads back to a folder it lies in is not followed. Links to nothing count as
    files: opening them says what is wrong.

    Args:
        root: a folder; the paths begin with it.
        left_out: folders that are not looked into, by whatever path or link they are reached.
        hidden: whether to look into hidden folders.

    Raises:
        DataError: a folder cannot be listed, or a name is not UTF-8.
    """
    for where, _, files in _walked(root, left_out, hidden):
        yield from (Path(_writable(where, name)) for name in sorted(files))


def folders_without_folders(root: Path, left_out: Collection[Path] = ()) -> dict[Path, bool]:
    """Visible folders below ``root`` that hold none, and whether each is empty, too.

    Files that are not visible do not count. Arguments and errors are those of :func:`files_below`.
    """
    return {
        Path(_writable(where, "")): all(name[0] == "." for name in files)
        for where, folders, files in _walked(root, left_out)
        if not folders and where != str(root)
    }


def _walked(
    root: Path, left_out: Collection[Path], hidden: bool = False
) -> Iterator[tuple[str, list[str], list[str]]]:
    """As of :func:`os.walk`: each folder, the folders in it that are not hidden, its files."""
    shut = _places(left_out)
    inside: dict[str, frozenset[_Place]] = {str(root): frozenset()}
    for where, folders, files in os.walk(root, onerror=_refuse, followlinks=True):
        around = inside.pop(where) | {_place(where)}
        seen = [name for name in folders if name not in _LITTER and (hidden or name[0] != ".")]
        below = {name: os.path.join(where, name) for name in seen}
        folders[:] = sorted(n for n, path in below.items() if _place(path) not in around | shut)
        inside |= {below[name]: around for name in folders}
        yield where, seen, files


def visible_files(root: Path, left_out: Collection[Path] = ()) -> Iterator[Path]:
    """:func:`files_below` without those that systems leave next to a user's (``._run1.lst``)."""
    return (path for path in files_below(root, left_out) if not path.name.startswith("."))


def _writable(where: str, name: str) -> str:
    """The path of a file, if it can be written into a table."""
    path = os.path.join(where, name)
    try:
        path.encode()
    except UnicodeEncodeError as error:
        shown = os.fsencode(path).decode(errors="replace")
        raise DataError(
            f"The name {shown} is not UTF-8.",
            "Rename the file or folder (convmv does so for many), or copy it again.",
        ) from error
    return path


def subfolders(folder: Path, left_out: Collection[Path] = ()) -> list[Path]:
    """Folders, and links to folders, directly in ``folder``; not hidden and ``left_out`` ones."""
    shut = _places(left_out)
    found = (path for path in folder.iterdir() if path.is_dir() and path.name[0] != ".")
    found = (path for path in found if path.name not in _LITTER)
    return sorted(path for path in found if _place(path) not in shut)


def in_threads(
    work: Callable[[ItemT], ResultT], items: Iterable[ItemT], num_threads: int
) -> Iterator[ResultT]:
    """What ``work`` makes of each item, in order; few more are begun than there are threads.

    A pool's own ``map`` begins with all items at once, which takes 2 kB for each.
    """
    waiting: deque[Future[ResultT]] = deque()
    with ThreadPoolExecutor(num_threads) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > 2 * num_threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _places(folders: Collection[Path]) -> frozenset[_Place]:
    return frozenset(_place(folder) for folder in folders if folder.is_dir())


def _place(folder: str | Path) -> _Place:
    found = os.stat(folder)
    return found.st_dev, found.st_ino


def _refuse(error: OSError) -> NoReturn:
    raise DataError(
        f"The folder {error.filename} cannot be listed ({error.strerror}).",
        "Check its permissions, or move it out of data.root.",
    ) from error
