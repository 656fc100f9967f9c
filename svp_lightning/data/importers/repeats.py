"""Each run comes in once, though several tables may list it and folders may be copied.

Counted twice, a run has wrong counts; as two groups, its particles train and test.
"""

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from svp_lightning.data.importers.pictures import BOX
from svp_lightning.data.importers.tables import Skips
from svp_lightning.errors import DataError
from svp_lightning.runtime.files import sha256_of_file
from svp_lightning.runtime.user_files import in_threads

_SHARE_OF_A_COPY = 0.5
"""Crops of a few pixels may be equal by chance; most of a run is not."""

Tables = dict[Path, pd.DataFrame]
"""File of each run -> its particles (see :class:`~.runs.RunImport`)."""


def without_repeats(tables: Tables, root: Path, num_threads: int, skips: Skips) -> Tables:
    """The runs without those that are there already.

    Tables of the same pictures (a list and its export, one table per class) are one run and one
    group, that of its ``.lst`` or else of the table with most rows; each box is taken once, and
    tables that add none are listed as left out. Of runs in other pictures that are equal, the
    first is taken.

    Raises:
        DataError: a run is a copy of another (unless skipped).
    """
    tables = _without_exports(tables, root, skips)
    if len(tables) < 2:
        return tables
    digests = _digests(tables, num_threads)
    particles = {
        file: np.unique(_hashes(table, table.get("content", table["picture"].map(digests))))
        for file, table in tables.items()
    }
    copies = _copies(particles)
    for file, (first, shared) in copies.items():
        error = DataError(
            f"{file} is a copy of {first} ({shared} of its {len(particles[file])} particles are "
            "the same), and no run may count twice or be in two splits.",
            "Remove one of the two; data.unreadable=skip leaves the copy out.",
        )
        skips.add(relative_name(root, file), "copy of another run", error, particle_lost=False)
    return {file: table for file, table in tables.items() if file not in copies}


def relative_name(root: Path, file: Path) -> str:
    """``file`` as it is named in lists: from ``root``, if it lies there."""
    return file.relative_to(root).as_posix() if file.is_relative_to(root) else file.name


def _without_exports(tables: Tables, root: Path, skips: Skips) -> Tables:
    best_first = sorted(tables, key=lambda f: (f.suffix.lower() != ".lst", -len(tables[f]), f))
    group_of: dict[str, str] = {}
    seen: list[NDArray[np.uint64]] = []
    kept = {}
    for file in best_first:
        table = tables[file]
        hashes = _hashes(table, table["picture"])
        if not group_of.keys().isdisjoint(table["picture"].unique()):
            group = table["picture"].map(group_of)
            table = table.assign(group=group.where(group.notna(), table["group"]))
            new = ~np.isin(hashes, np.concatenate(seen))
            table, hashes = table[new], hashes[new]
        if table.empty:
            skips.note(relative_name(root, file), "table of particles that another table lists")
            continue
        first = table.drop_duplicates("picture")
        group_of |= dict(zip(first["picture"], first["group"], strict=True))
        seen.append(hashes)
        kept[file] = table
    return {file: kept[file] for file in tables if file in kept}


def _hashes(table: pd.DataFrame, picture: pd.Series) -> NDArray[np.uint64]:
    """(N,) of the picture and the box of each particle."""
    boxes = table[BOX].astype(np.int64).assign(picture=picture)
    return np.asarray(pd.util.hash_pandas_object(boxes, index=False), np.uint64)


def _copies(particles: dict[Path, NDArray[np.uint64]]) -> dict[Path, tuple[Path, int]]:
    """Run -> an earlier run that has most of the particles of the smaller, and how many."""
    values, counts = np.unique(np.concatenate(list(particles.values())), return_counts=True)
    common = values[counts > 1]
    owners: dict[int, Path] = {}
    found = {}
    for file, mine in particles.items():
        both = mine[np.isin(mine, common)].tolist()
        earlier = Counter(owners[particle] for particle in both if particle in owners)
        for other, shared in earlier.most_common(1):
            if shared > _SHARE_OF_A_COPY * min(len(mine), len(particles[other])):
                found[file] = other, shared
        if file not in found:
            owners |= dict.fromkeys(both, file)
    return found


def _digests(tables: Tables, num_threads: int) -> dict[str, str]:
    """Picture -> what is equal for equal files.

    Only files of a length that others have are read; the rest, and what is no file, is itself.
    """
    unread = [table["picture"] for table in tables.values() if "content" not in table]
    pictures = list(dict.fromkeys(name for part in unread for name in part.unique()))
    sizes = {name: os.path.getsize(name) for name in pictures if os.path.isfile(name)}
    times = Counter(sizes.values())
    alike = [name for name, size in sizes.items() if times[size] > 1]
    hashes = in_threads(sha256_of_file, map(Path, alike), num_threads)
    read = dict(zip(alike, hashes, strict=True))
    return {name: read.get(name, name) for name in pictures}
