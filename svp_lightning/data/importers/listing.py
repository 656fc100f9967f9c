"""Which images a folder or a CSV offers, before any of them is opened.

Every listing is a table with the columns ``path`` (absolute), ``id``, ``label`` (or null),
``group`` (or null: each image its own) and ``split`` (or null: to be made), and whatever
else a CSV holds.
"""

import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from svp_lightning.data.importers.naming import SPLIT_NAMES, class_names
from svp_lightning.data.importers.pictures import SUFFIXES
from svp_lightning.errors import DataError
from svp_lightning.runtime.files import files_below, subfolders

_OTHER_IMAGES = frozenset(
    {".gif", ".webp", ".heic", ".heif", ".svg", ".npy", ".raw", ".dcm", ".jp2", ".exr", ".avif"}
)
_LITTER = frozenset({"thumbs.db", "desktop.ini", "icon\r"})
_KNOWN = frozenset(
    {"protein", "silicone_oil", "silicone", "oil", "oil_drop", "oil_droplet", "silicone_droplet"}
    | {"silicone_oil_drop", "silicone_oil_droplet", "air_bubble", "bubble", "air"}
)
"""What folders of the usual classes are called, without a plural's s."""
_LAYOUTS = (
    "Expected root/<class>/*.png (tif, jpg, bmp), root/{train,val,test}/<class>/*, "
    "root/<run>/<class>/*, or "
    "data.table=<csv> with the columns path and label."
)


def list_class_folders(
    root: Path, left_out: Collection[Path] = ()
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Images in ``root/<class>/`` or ``root/<split>/<class>/``.

    Subfolders of a class folder are runs: they become the images' groups, and a run may
    appear under several classes. ``root/<run>/<class>/`` is known by the usual names of classes
    (protein, silicone oil, air bubble), at least two of them, below folders of other names.

    Args:
        root: the folder.
        left_out: folders that hold no images of the user's.

    Returns:
        The listing, and what was left out (columns ``file``, ``reason``).

    Raises:
        DataError: no class folders, an empty one, images outside them, or images of a
            format that cannot be read.
    """
    skipped: list[tuple[str, str]] = []
    rows: list[tuple[Path, str, str | None, str | None]] = []
    found = _class_folders(root, left_out)
    names = class_names([one.folder.name for one in found], root)
    for folder, split, run in found:
        images = list(_images_below(folder, root, left_out, skipped))
        if not images:
            raise DataError(f"The class folder {folder} holds no images.", _LAYOUTS)
        for path in images:
            group = Path(run, path.parent.relative_to(folder)).as_posix()
            rows.append((path, names[folder.name], None if group == "." else group, split))
    listing = pd.DataFrame(rows, columns=["path", "label", "group", "split"])
    return _with_ids(listing, root), _skipped_table(skipped)


def list_unlabelled(
    root: Path, left_out: Collection[Path] = ()
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Every image below ``root``; its folder is its group, or none directly in ``root``.

    Args:
        root: the folder.
        left_out: as in :func:`list_class_folders`.

    Raises:
        DataError: there is none.
    """
    skipped: list[tuple[str, str]] = []
    paths = list(_images_below(root, root, left_out, skipped))
    if not paths:
        raise DataError(f"{root} holds no images.", "Give a folder of PNG, TIFF, JPEG or BMP.")
    listing = pd.DataFrame({"path": paths})
    folders = [p.parent.relative_to(root).as_posix() for p in paths]
    listing["group"] = [None if folder == "." else folder for folder in folders]
    return _with_ids(listing.assign(label=None, split=None), root), _skipped_table(skipped)


def _with_ids(listing: pd.DataFrame, root: Path) -> pd.DataFrame:
    ids = [path.relative_to(root).as_posix() for path in listing["path"]]
    return listing.assign(id=ids).sort_values("id", ignore_index=True)


class _ClassFolder(NamedTuple):
    folder: Path
    split: str | None
    run: str = ""


def _class_folders(root: Path, left_out: Collection[Path]) -> list[_ClassFolder]:
    folders = subfolders(root, left_out)
    splits = [SPLIT_NAMES.get(folder.name.lower()) for folder in folders]
    if "train" not in splits:
        return _classes_in(root, None, left_out)
    _refuse_loose_images(root, True)
    found: list[_ClassFolder] = []
    for folder, split in zip(folders, splits, strict=True):
        if split is None:
            raise DataError(
                f"{folder} stands beside train, val and test but is none of them.", _LAYOUTS
            )
        found += _classes_in(folder, split, left_out)
    return found


def _classes_in(top: Path, split: str | None, left_out: Collection[Path]) -> list[_ClassFolder]:
    folders = subfolders(top, left_out)
    _refuse_loose_images(top, bool(folders) or split is not None)
    inner = {folder: subfolders(folder, left_out) for folder in folders}
    of_runs = {one.name for below in inner.values() for one in below}
    if _usual(folder.name for folder in folders) or len(_usual(of_runs)) < 2:
        return [_ClassFolder(folder, split) for folder in folders]
    for run in folders:
        _refuse_loose_images(run, bool(inner[run]))
    return [_ClassFolder(one, split, run.name) for run in folders for one in inner[run]]


def _usual(names: Iterable[str]) -> set[str]:
    """The usual class names among ``names``."""
    plain = (re.sub(r"[\W_]+", "_", name.lower()).strip("_") for name in names)
    return {name.removesuffix("s") for name in plain} & _KNOWN


def _refuse_loose_images(folder: Path, has_subfolders: bool) -> None:
    loose = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file())
    if loose:
        raise DataError(
            f"{folder} holds {len(loose)} images outside class folders (first: {loose[0].name}).",
            "Move them into folders named by class, or set data.labelled=false to predict.",
        )
    if not has_subfolders:
        raise DataError(f"{folder} holds no class folders.", _LAYOUTS)


def _images_below(
    folder: Path, root: Path, left_out: Collection[Path], skipped: list[tuple[str, str]]
) -> Iterator[Path]:
    """Image files below ``folder`` in a fixed order; others are noted in ``skipped``."""
    for path in files_below(folder, left_out):
        suffix = path.suffix.lower()
        if path.name.startswith(".") or path.name.lower() in _LITTER:
            skipped.append((path.relative_to(root).as_posix(), "hidden file"))
        elif suffix in SUFFIXES:
            yield path
        elif suffix in _OTHER_IMAGES:
            raise DataError(
                f"{path} is in a format that is not read ({suffix}).",
                "Convert it to PNG or TIFF, or remove it.",
            )
        else:
            skipped.append((path.relative_to(root).as_posix(), "not an image"))


def _skipped_table(skipped: list[tuple[str, str]]) -> pd.DataFrame:
    return pd.DataFrame(skipped, columns=["file", "reason"])
