"""Folders of images, or a CSV that lists them, into a store.

Layouts: ``root/<class>/*`` (subfolders of a class folder are runs), ``root/<run>/<class>/*``,
``root/{train,val,test}/<class>/*``, and a CSV with the columns ``path,label`` and optionally
``group,split,id,ecd_um``; or any folder with a CSV of ``id,label`` (and ``group,split``) next to
the images, whose subfolders then are runs. Nothing is written until every file has been
decoded once.

Images with equal pixels are one image: without group information they share a group, so that
no copy of a training image is tested on; with it, or with given splits, copies across splits
are refused or left out.
"""

from collections.abc import Collection
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from svp_lightning.data.importers.images import Picture, read_picture, to_8_bit
from svp_lightning.data.importers.labels import labels_from_table, refuse_single_class
from svp_lightning.data.importers.listing import list_class_folders, list_table, list_unlabelled
from svp_lightning.data.importers.marks import Mask, marks
from svp_lightning.data.importers.screening import Facts, survey
from svp_lightning.data.importers.tables import Skips
from svp_lightning.data.importers.vials import ALONE, LOOSE, blanks, grouped_by_name, hidden_runs
from svp_lightning.data.importers.writer import Cut, Plan
from svp_lightning.data.settings import FolderSettings
from svp_lightning.data.splits import assign_splits
from svp_lightning.errors import DataError

_FILES_PER_UNIT = 128
_COLUMNS = ["id", "label", "split", "group", "origin", "source"]


def plan_folder(settings: FolderSettings, left_out: Collection[Path] = ()) -> Plan:
    """Look at all images of ``settings.root`` but for folders ``left_out``; plan their store.

    Raises:
        DataError: naming the file, row or class that is wrong.
    """
    if not settings.root.is_dir():
        raise DataError(
            f"data.root={settings.root} is not a folder.",
            "Give the folder that holds the images; an archive must be unpacked first.",
        )
    skips = Skips(settings.unreadable)
    mask = None if settings.mask is None else Mask(settings.mask, settings.root)
    listing = grouped_by_name(_listing(settings, skips, left_out), settings)
    images = _readable(listing, settings, skips)
    particles = _particles(images, settings, skips)
    images = images.loc[particles.index].reset_index(drop=True)
    particles = particles.reset_index(drop=True)
    depth, warnings = _bit_depth(settings, images)
    paths = images["path"].tolist()

    def unmarked(row: int) -> NDArray[np.uint8]:
        """An image whose left-out pixels are at its median level."""
        grey, opaque = _read(paths[row], depth, mask)
        return grey if opaque is None else np.where(opaque, grey, np.median(grey)).astype(np.uint8)

    def read(unit: range) -> Cut:
        pictures = [_read(paths[row], depth, mask) for row in unit]
        return Cut([one.grey for one in pictures], [one.opaque for one in pictures], {})

    warnings += marks(particles["label"], unmarked, settings.num_threads)
    warnings += hidden_runs(particles) if settings.labelled else _counted_twice(images)
    runs, remarks = blanks(listing, settings, left_out)
    starts = range(0, len(paths), _FILES_PER_UNIT)
    return Plan(
        particles=particles,
        sides=images[["height_px", "width_px"]].max(axis=1).to_numpy(),
        units=[range(s, min(s + _FILES_PER_UNIT, len(paths))) for s in starts],
        read=read,
        settings=settings,
        pixel_size_um=settings.pixel_size_um,
        made_by={
            "source": "folder",
            "bit_depth_of_16_bit_files": depth if images["bits"].any() else None,
            "seed": settings.seed,
            "warnings": warnings + remarks,
            **runs,
        },
        skipped=skips.table(),
    )


def _read(path: Path, bit_depth: int, mask: Mask | None) -> Picture:
    """An image in 8 bit, and which of its pixels to keep."""
    grey, opaque = read_picture(path)
    if mask is not None:
        free = ~mask.covers(grey.shape)
        opaque = free if opaque is None else opaque & free
    return Picture(to_8_bit(grey, bit_depth), opaque)


def _listing(settings: FolderSettings, skips: Skips, left_out: Collection[Path]) -> pd.DataFrame:
    root = settings.root
    if settings.table is not None:
        return list_table(root / settings.table, root, settings.labelled, skips)
    left_out = [*left_out, *(root / name for name in (settings.mask,) if name is not None)]
    if settings.labelled and settings.labels is None:
        return list_class_folders(root, settings.layout, skips, left_out)
    listing = list_unlabelled(root, skips, left_out)
    if settings.labelled and settings.labels is not None:
        given = labels_from_table(listing, root / settings.labels, skips)
        group = given["group"].where(given["group"].notna(), listing["group"])
        listing = listing.assign(label=given["label"], group=group, split=given["split"])
    return listing


def _counted_twice(images: pd.DataFrame) -> list[str]:
    """A warning where files to count hold equal pixels."""
    copies = images["digest"].duplicated()
    if not copies.any():
        return []
    row = int(copies.to_numpy().argmax())
    first = images["id"][images["digest"] == images["digest"][row]].iloc[0]
    return [
        f"Warning: {copies.sum()} images are copies of others (first: {images['id'][row]} of "
        f"{first}), and each counts as a particle."
    ]


def _readable(listing: pd.DataFrame, settings: FolderSettings, skips: Skips) -> pd.DataFrame:
    """The listing with what is in each file, without files that cannot be used."""
    facts = survey(listing["path"].tolist(), settings.num_threads)
    refused = facts["error"].notna()
    if refused.any() and settings.unreadable == "refuse":
        first = facts["error"][refused].iloc[0]
        more = f" {refused.sum() - 1} more files are refused." if refused.sum() > 1 else ""
        raise DataError(first.what, first.remedy + more)
    for row in np.flatnonzero(refused).tolist():
        skips.add(listing["id"].iloc[row], facts["reason"].iloc[row], facts["error"].iloc[row])
    if refused.all():
        raise DataError(
            f"{settings.root} holds no image that can be used.",
            "Set data.unreadable=refuse to see the first problem.",
        )
    return listing.join(facts)[~refused].reset_index(drop=True)


def _bit_depth(settings: FolderSettings, images: pd.DataFrame) -> tuple[int, list[str]]:
    """Bits that 16-bit files use, and a warning where some hold brighter pixels.

    One image in a hundred may need more, as a frame that was lit wrongly does.
    """
    deep = images[images["bits"] > 0]
    if deep.empty:
        return settings.bit_depth or 8, []
    found = int(np.sort(deep["bits"])[len(deep) - 1 - len(deep) // 100])
    if settings.bit_depth is not None and settings.bit_depth < found:
        raise DataError(
            f"data.bit_depth={settings.bit_depth}, but the images use {found} bit (the brightest "
            f"pixel is {deep['brightest'].max()}).",
            f"Set it to {found}.",
        )
    depth = settings.bit_depth or found
    clipped = deep[deep["brightest"] >= 1 << depth]
    if clipped.empty:
        return depth, []
    return depth, [
        f"Warning: {len(clipped)} of {len(deep)} 16-bit images hold pixels above the {depth} bit "
        f"that the others use (first: {clipped['id'].iloc[0]}); these pixels are clipped."
    ]


def _particles(images: pd.DataFrame, settings: FolderSettings, skips: Skips) -> pd.DataFrame:
    """The rows of the store; where copies are left out, the index has gaps."""
    digest = images["digest"]
    source = [path.relative_to(settings.root).as_posix() for path in images["path"]]
    particles = images.drop(columns=["path", *Facts._fields]).assign(origin="real", source=source)
    particles = particles[[*_COLUMNS, *particles.columns.difference(_COLUMNS)]]
    alone = particles["id"]
    if settings.labelled:
        alone = alone.groupby(digest).transform("first")
    # The prefix keeps a lone image's group apart from a run of the same name.
    alone = ALONE + alone
    if not settings.labelled:  # beside vials, images of no vial are one sample
        several = particles["group"].notna().any()
        return particles.assign(
            split="", group=particles["group"].fillna(LOOSE if several else alone)
        )
    particles["group"] = particles["group"].fillna(alone)
    refuse_single_class(particles, settings.root)
    particles = _of_one_label(particles, digest, skips)
    particles = _in_one_split(particles, digest, skips)  # those given, and then those made
    particles = assign_splits(particles, settings.fractions, settings.seed)
    return _in_one_split(particles, digest, skips)


def _of_one_label(particles: pd.DataFrame, digest: pd.Series, skips: Skips) -> pd.DataFrame:
    """Without images whose pixels have several labels."""
    wrong = particles["label"].groupby(digest).transform("nunique") > 1
    error = DataError(
        f"{_two_copies(particles[wrong], digest, 'label')} are the same image with different "
        f"labels{_and_more(particles[wrong], digest)}.",
        "Keep one of each; data.unreadable=skip leaves all of them out.",
    )
    reason = "same image with another label"
    return skips.leave_out(particles, {reason: wrong}, lambda *_: error)


def _in_one_split(particles: pd.DataFrame, digest: pd.Series, skips: Skips) -> pd.DataFrame:
    """Without copies of test (and validation) images in training, where groups are given."""
    rank = particles["split"].map({"test": 0, "val": 1, "train": 2}).fillna(2)
    copies = rank > rank.groupby(digest).transform("min")
    here = digest.loc[particles.index]
    in_several = particles[here.isin(here[copies])]
    error = DataError(
        f"{_two_copies(in_several, digest, 'split')} are the same image in two "
        f"splits{_and_more(particles[copies], digest)}.",
        "Remove one of each, or give both the same group; data.unreadable=skip leaves the "
        "training copies out.",
    )
    reason = "copy of an image of another split"
    return skips.leave_out(particles, {reason: copies}, lambda *_: error, lost=False)


def _two_copies(rows: pd.DataFrame, digest: pd.Series, column: str) -> str:
    """The first two copies of one image that differ in ``column``, by name."""
    if rows.empty:
        return ""
    same = rows[digest.loc[rows.index] == digest[rows.index[0]]].drop_duplicates(column)
    names = same["id"] + " (" + same[column] + ")" if column == "split" else same["id"]
    return " and ".join(names[:2])


def _and_more(rows: pd.DataFrame, digest: pd.Series) -> str:
    more = digest.loc[rows.index].nunique() - 1
    return f", as are {more} more images" if more > 0 else ""
