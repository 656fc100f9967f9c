"""What images of a folder are counted by: vials, or all together where none is known."""

from collections.abc import Collection
from pathlib import Path, PurePosixPath

import pandas as pd

from svp_lightning.runtime.user_files import folders_without_folders

ALONE = "image "
"""Begins the group of an image that belongs to no run; its id follows."""
LOOSE = "loose images"
"""Group of the unlabelled images that belong to none, where others do."""


def all_alone(particles: pd.DataFrame) -> bool:
    """Whether no image belongs to a run or vial, of a store's ``id`` and ``group``.

    A vial may hold one image: its group is named as it is.
    """
    return bool((particles["group"] == ALONE + particles["id"]).all())


def without_images(
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
