"""Which images of a folder belong together: those of a run or vial, or none where none is known."""

import re
from collections.abc import Collection
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from svp_lightning.data.importers.listing import some
from svp_lightning.data.importers.runs import RunFacts
from svp_lightning.data.settings import FolderSettings
from svp_lightning.errors import DataError
from svp_lightning.runtime.user_files import folders_without_folders

ALONE = "image "
"""Begins the group of an image that belongs to no run; its id follows."""
LOOSE = "loose images"
"""Group of the unlabelled images that belong to none, where others do."""
_MIN_NAMES = 8
"""Fewer file names say nothing."""


def all_alone(particles: pd.DataFrame) -> bool:
    """Whether no image belongs to a run or vial, of a store's ``id`` and ``group``.

    A vial may hold one image: its group is named as it is.
    """
    return bool((particles["group"] == ALONE + particles["id"]).all())


def grouped_by_name(listing: pd.DataFrame, settings: FolderSettings) -> pd.DataFrame:
    """With what ``data.group_pattern`` finds in the file names as the group.

    Groups of a table are kept; folders that would be runs are not.

    Raises:
        DataError: a name does not match.
    """
    if settings.group_pattern is None:
        return listing
    names = pd.Series([path.name for path in listing["path"]], listing.index)
    found = names.map(re.compile(settings.group_pattern).search)
    without = names[found.isna()]
    if len(without):
        raise DataError(
            f"{len(without)} file names do not match data.group_pattern="
            f"{settings.group_pattern} (first: {without.iloc[0]}).",
            "Give a pattern that every name matches, with the run in its brackets.",
        )
    tabled = settings.table is not None or settings.labels is not None
    runs = found.map(lambda match: match[1])
    return listing.assign(group=listing["group"].fillna(runs) if tabled else runs)


def hidden_runs(particles: pd.DataFrame) -> list[str]:
    """A warning where no group is known and file names begin alike, with a number."""
    alone = particles["group"].str.startswith(ALONE)
    if not alone.all() or len(particles) < _MIN_NAMES:
        return []
    stems = particles["source"].map(lambda source: Path(source).stem)
    for mark in "_- .":
        starts = stems.str.rpartition(mark)[0]
        shared = starts.duplicated(keep=False) & starts.str.contains(r"\d")
        several = starts[shared].groupby(particles["label"][shared]).nunique()
        if shared.mean() >= 0.9 and (several > 1).any():
            example, count = starts[shared].value_counts().reset_index().iloc[0]
            return [
                f"Warning: file names look like they hold a run ({example} begins {count} of "
                f"{len(stems)}), and images of one run may both train and test. "
                f"\"data.group_pattern='(.+){'[.]' if mark == '.' else mark}'\" makes it the group."
            ]
    return []


def blanks(
    listing: pd.DataFrame, settings: FolderSettings, left_out: Collection[Path]
) -> tuple[dict[str, Any], list[str]]:
    """Empty folders next to vials, as runs for the manifest, and what is said of them."""
    if settings.labelled or settings.table or settings.group_pattern:
        return {}, []
    empty, others = _without_images(settings.root, set(listing["group"].dropna()), left_out)
    lines = []
    if empty:
        lines.append(f"Warning: empty folders count as vials without a particle: {some(empty)}.")
    if others:
        lines.append(f"Warning: folders without an image are not counted: {some(others)}.")
    return {"runs": {name: RunFacts().model_dump() for name in empty}} if empty else {}, lines


def _without_images(
    root: Path, vials: Collection[str], left_out: Collection[Path]
) -> tuple[list[str], list[str]]:
    """Folders of no image: empty ones next to a vial, and others next to one or in ``root``.

    Those inside a vial are neither, as are those that hold folders.

    Args:
        root: the folder of all.
        vials: paths of the folders that hold images, below ``root``.
        left_out: folders that are not looked into.
    """
    beside = {str(PurePosixPath(vial).parent) for vial in vials} - {*vials}
    empty: list[str] = []
    others: list[str] = []
    for folder, is_empty in folders_without_folders(root, left_out).items():
        name = folder.relative_to(root)
        where = name.parent.as_posix()
        if name.as_posix() in vials or where not in {".", *beside}:
            continue
        (empty if is_empty and where in beside else others).append(name.as_posix())
    return empty, others
