"""Which images a folder or a CSV offers, before any of them is opened.

Every listing is a table with the columns ``path`` (absolute), ``id``, ``label`` (or null),
``group`` (or null: each image its own) and ``split`` (or null: to be made), and whatever
else a CSV holds.
"""

import os
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pandas as pd

from svp_lightning.data.importers.labels import (
    GROUP_SYNONYMS,
    SPLIT_NAMES,
    class_names,
    splits_given,
)
from svp_lightning.data.importers.pictures import AnyCase
from svp_lightning.data.importers.tables import Skips, columns_named, read_table
from svp_lightning.data.settings import IMAGE_SUFFIXES
from svp_lightning.errors import DataError
from svp_lightning.runtime.user_files import files_below, subfolders

_IMAGE_COLUMNS = ("path", "label", "group", "split", "id", "ecd_um", "label_confidence")
_SYNONYMS = {"class": "label", "particle_id": "id", "size_um": "ecd_um"} | GROUP_SYNONYMS
_SYNONYMS |= dict.fromkeys(("filename", "file", "image_path", "image_file", "image"), "path")
_OTHER_IMAGES = frozenset(
    {".gif", ".webp", ".heic", ".heif", ".svg", ".npy", ".raw", ".dcm", ".jp2", ".exr", ".avif"}
)
_LITTER = frozenset({"thumbs.db", "desktop.ini", "icon\r"})
_ARCHIVES = frozenset({".zip", ".7z", ".rar", ".tar", ".gz", ".tgz"})
_KNOWN = frozenset(
    {"protein", "silicone_oil", "silicone", "oil", "oil_drop", "oil_droplet", "silicone_droplet"}
    | {"silicone_oil_drop", "silicone_oil_droplet", "air_bubble", "bubble", "air"}
)
"""What folders of the usual classes are called, without a plural's s."""
_RUN_NAME = re.compile(
    r"(?!\d{1,3}$)"
    r"(run|day|week|month|date|sample|vial|batch|lot|syringe|plate|slide|session|exp|experiment"
    r"|rep|replicate|measurement|lauf|tag|probe|charge)?[\W_]*\d[\d\W_]*[a-z]?",
    re.IGNORECASE,
)
"""What folders of runs are called: a usual word with a number, or a date.

A short number alone may be a run or the code of a class.
"""
_LAYOUTS = (
    "Expected root/<class>/*.png (tif, jpg, bmp), root/{train,val,test}/<class>/*, "
    "root/<run>/<class>/*, or "
    "data.table=<csv> with the columns path and label."
)
Layout = Literal["auto", "class_first", "run_first"]


def list_class_folders(
    root: Path, layout: Layout, skips: Skips, left_out: Collection[Path] = ()
) -> pd.DataFrame:
    """Images in ``root/<class>/`` or ``root/<run>/<class>/``, perhaps below train, val and test.

    Subfolders of a class folder are runs: they become the images' groups, and a run may
    appear under several classes.

    Args:
        root: the folder.
        layout: which of two levels of folders holds the classes. ``auto`` decides by names that
            are usual for classes (protein, silicone oil, air bubble) or for runs (a word such as
            day or vial with a number).
        skips: where files go that are no images.
        left_out: folders and files that are no images of the user's.

    Raises:
        DataError: no class folders, an empty one, images outside them, images of a format that
            cannot be read, or two levels that can both be the classes.
    """
    rows: list[tuple[Path, str, str | None, str | None]] = []
    found = _class_folders(root, layout, left_out)
    names = class_names([folder.name for folder, *_ in found], root)
    for folder, split, run in found:
        images = list(_images_below(folder, root, left_out, skips))
        if not images:
            raise DataError(f"The class folder {folder} holds no images.", _LAYOUTS)
        for path in images:
            group = Path(run, path.parent.relative_to(folder)).as_posix()
            rows.append((path, names[folder.name], None if group == "." else group, split))
    listing = pd.DataFrame(rows, columns=["path", "label", "group", "split"])
    return _with_ids(listing, root)


def list_unlabelled(root: Path, skips: Skips, left_out: Collection[Path] = ()) -> pd.DataFrame:
    """Every image below ``root``; its folder is its group, or none directly in ``root``.

    Arguments are those of :func:`list_class_folders`.

    Raises:
        DataError: there is none.
    """
    paths = list(_images_below(root, root, left_out, skips))
    if not paths:
        raise DataError(
            f"{root} holds no images{_archives_in(root)}.",
            "Give a folder of PNG, TIFF, JPEG or BMP.",
        )
    folders = [p.parent.relative_to(root).as_posix() for p in paths]
    groups = [None if folder == "." else folder for folder in folders]
    listing = pd.DataFrame({"path": paths, "group": groups})
    return _with_ids(listing.assign(label=None, split=None), root)


def _with_ids(listing: pd.DataFrame, root: Path) -> pd.DataFrame:
    ids = [path.relative_to(root).as_posix() for path in listing["path"]]
    return listing.assign(id=ids).sort_values("id", ignore_index=True)


def _class_folders(
    root: Path, layout: Layout, left_out: Collection[Path]
) -> list[tuple[Path, str | None, str]]:
    """Folder, split (None: to be made) and run ("": the folders inside) of each class folder."""
    tops = {one: SPLIT_NAMES.get(one.name.lower()) for one in subfolders(root, left_out)}
    if "train" in tops.values():
        _refuse_loose_images(root, True, left_out)
    else:
        tops = {root: None}
    nested: dict[Path, tuple[str | None, list[Path]]] = {}
    for top, split in tops.items():
        if split is None and top != root:
            raise DataError(f"{top} is next to train, val and test but is none of them.", _LAYOUTS)
        below = subfolders(top, left_out)
        _refuse_loose_images(top, bool(below) or split is not None, left_out)
        nested |= {folder: (split, subfolders(folder, left_out)) for folder in below}
    if not _runs_first(root, layout, {outer: inner for outer, (_, inner) in nested.items()}):
        return [(folder, split, "") for folder, (split, _) in nested.items()]
    for run, (_, inner) in nested.items():
        _refuse_loose_images(run, bool(inner), left_out)
    return [(one, split, run.name) for run, (split, inner) in nested.items() for one in inner]


def _runs_first(root: Path, layout: Layout, pairs: dict[Path, list[Path]]) -> bool:
    """Whether the upper of two levels of folders (``pairs``: upper -> lower) holds the runs.

    Raises:
        DataError: ``layout`` is auto, and the names do not decide.
    """
    if layout != "auto":
        return layout == "run_first"
    outer = sorted({folder.name for folder in pairs})
    inner = [one.name for below in pairs.values() for one in below]
    class_first = bool(_usual(outer)) or (bool(inner) and all(map(_RUN_NAME.fullmatch, inner)))
    run_first = len(_usual(inner)) >= 2 or (bool(inner) and all(map(_RUN_NAME.fullmatch, outer)))
    repeated = len(set(inner)) < len(inner) or (len(outer) == 1 and len(inner) > 1)
    if class_first == run_first and repeated and not any(map(_images_in, pairs)):
        upper, lower = some(outer), some(sorted(set(inner)))
        raise DataError(
            f"{root} can be read in two ways: the upper folders are the classes ({upper}) and the "
            f"lower ones the runs ({lower}), or the upper ones are the runs and the lower ones "
            "the classes.",
            "Add data.layout=class_first for the first, data.layout=run_first for the second.",
        )
    return run_first and not class_first


def _usual(names: Iterable[str]) -> set[str]:
    """The usual class names among ``names``."""
    plain = (re.sub(r"[\W_]+", "_", name.lower()).strip("_") for name in names)
    return {name.removesuffix("s") for name in plain} & _KNOWN


def some(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _images_in(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())


def _refuse_loose_images(folder: Path, has_subfolders: bool, left_out: Collection[Path]) -> None:
    loose = [path for path in _images_in(folder) if path not in left_out]
    if loose:
        raise DataError(
            f"{folder} holds {len(loose)} images outside class folders (first: {loose[0].name}).",
            "Move them into folders named by class, or set data.labelled=false to predict.",
        )
    if not has_subfolders:
        raise DataError(f"{folder} holds no class folders{_archives_in(folder)}.", _LAYOUTS)


def _archives_in(folder: Path) -> str:
    packed = sorted(path.name for path in folder.iterdir() if path.suffix.lower() in _ARCHIVES)
    return f", but {some(packed)}, which must be unpacked first" if packed else ""


def _images_below(
    folder: Path, root: Path, left_out: Collection[Path], skips: Skips
) -> Iterator[Path]:
    """Image files below ``folder`` in a fixed order; others are noted in ``skips``."""
    for path in files_below(folder, left_out):
        suffix, name = path.suffix.lower(), path.relative_to(root).as_posix()
        if path in left_out:
            continue
        if path.name.startswith(".") or path.name.lower() in _LITTER:
            skips.note(name, "hidden file")
        elif suffix in IMAGE_SUFFIXES:
            yield path
        elif suffix in _OTHER_IMAGES:
            error = DataError(
                f"{path} is in a format that is not read ({suffix}).",
                "Convert it to PNG or TIFF, or remove it.",
            )
            skips.add(name, "format that is not read", error)
        else:
            skips.note(name, "packed archive" if suffix in _ARCHIVES else "not an image")


def list_table(file: Path, root: Path, labelled: bool, skips: Skips) -> pd.DataFrame:
    """Images listed by a CSV with the columns ``path`` and ``label`` (if ``labelled``).

    Optional: ``id``, ``group`` (or ``vial``, ``sample``, ``run``), ``split``, ``ecd_um``,
    ``label_confidence``. Paths are relative to the CSV, and all images lie in ``root``. Unless
    every row needs a label, none is read. Rows whose picture is missing, that are too long, or
    that have a number that is none or a size below 0 go to ``skips``.

    Returns:
        A listing (see the module), sorted by ``id``.

    Raises:
        DataError: a column is missing, no row is left, or a row points outside ``root``, or to
            what another row has.
    """
    found = read_table(file, columns_named((*_IMAGE_COLUMNS, *_SYNONYMS)), skips, pad=True)
    found = found.with_synonyms(_SYNONYMS)
    found.require(("path", "label") if labelled else ("path",))
    if found.rows.empty:
        raise DataError(f"{file} lists no images.", "Add one row per image.")
    found = replace(found, rows=found.rows[[n for n in _IMAGE_COLUMNS if n in found.rows]])
    found.refuse_empty("path")
    found = replace(found, rows=_with_paths(file, root, found.rows, skips))
    rows = found.rows
    if "id" not in rows:
        rows["id"] = [path.relative_to(root).as_posix() for path in rows["path"]]
    found.refuse_repeats("path")
    found.refuse_repeats("id")
    if labelled:
        remedy = "Fill it in, remove the row, or set data.labelled=false to predict."
        found.refuse_empty("label", remedy)
    rows["label"] = rows["label"].map(class_names(rows["label"], file)) if labelled else None
    for name in sorted({"ecd_um", "label_confidence"} & set(rows)):
        rows = replace(found, rows=rows).numbers(skips, rows.columns.drop(name).tolist(), ())
    rows = skips.leave_out(
        rows,
        {"size below 0": rows["ecd_um"] < 0} if "ecd_um" in rows else {},
        lambda row, _: DataError(
            f"{file}, row {row.Index}: ecd_um is below 0.",
            "Correct it or leave it empty; data.unreadable=skip leaves the row out.",
        ),
    ).copy()
    if rows.empty:
        raise DataError(f"{file} lists no image with usable numbers.", "Correct its cells.")
    found = replace(found, rows=rows)
    rows["group"] = rows["group"].where(rows["group"] != "", None) if "group" in rows else None
    rows["split"] = splits_given(found)
    return rows.sort_values("id", ignore_index=True)


def _with_paths(table: Path, root: Path, rows: pd.DataFrame, skips: Skips) -> pd.DataFrame:
    """Rows whose picture exists, ``path`` as the file.

    Links are followed, but the name itself must stay in ``root``.
    """
    paths, find, base = {}, AnyCase(), os.path.abspath(root)
    for number, cell in rows["path"].items():
        path = Path(os.path.abspath(table.parent / cell.replace("\\", "/")))
        if not path.is_relative_to(base):
            raise DataError(
                f"{table}, row {number}: {cell!r} is not inside {root}.",
                "Move the file there, or set data.root to a folder that holds all files.",
            )
        path = find(root / path.relative_to(base))
        if os.path.isfile(path):
            paths[number] = path
            continue
        error = DataError(
            f"{table}, row {number}: {cell!r} does not exist in {table.parent}.",
            "Paths are relative to the CSV; correct the row, copy the file there, or leave such "
            "rows out with data.unreadable=skip.",
        )
        skips.add(cell, "picture is missing", error)
    if not paths:
        raise DataError(
            f"{table} lists no picture that exists in {table.parent}.",
            "Paths are relative to the CSV.",
        )
    return rows.loc[list(paths)].assign(path=pd.Series(paths, dtype=object))
