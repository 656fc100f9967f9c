"""Folders of images, or a CSV that lists them, into a store.

Layouts: ``root/<class>/*`` (subfolders of a class folder are runs), ``root/<run>/<class>/*``,
``root/{train,val,test}/<class>/*``, and a CSV with the columns ``path,label`` and optionally
``group,split,id,ecd_um``; or any folder with a CSV of ``id,label`` (and ``group,split``) beside
the images, whose subfolders then are runs. Nothing is written until every file has been
decoded once.

Images with equal pixels are one image: without group information they share a group, so that
no copy of a training image is tested on; with it, or with given splits, copies across splits
are refused.
"""

from collections.abc import Collection
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from svp_lightning.data.importers.images import bit_depth_of, read_picture, survey, to_8_bit
from svp_lightning.data.importers.labels import (
    assign_splits,
    labels_from_table,
    ordered,
    refuse_single_class,
)
from svp_lightning.data.importers.listing import list_class_folders, list_table, list_unlabelled
from svp_lightning.data.importers.tables import Skips
from svp_lightning.data.importers.window import choose_window
from svp_lightning.data.importers.writer import Cut, Plan, Progress, write_plan
from svp_lightning.data.settings import FolderSettings
from svp_lightning.errors import DataError

_FILES_PER_UNIT = 128


def ingest_folder(
    path: Path, settings: FolderSettings, progress: Progress, left_out: Collection[Path] = ()
) -> None:
    """Write the store at ``path`` from the images of ``settings.root``.

    Args:
        path: where to write; the files are the same for the same images and settings.
        settings: see there.
        progress: called with the number of images just written.
        left_out: folders below the root that are none of the user's data.

    Raises:
        DataError: naming the file, row or class that is wrong; nothing is left at ``path``.
    """
    write_plan(path, plan_folder(settings, left_out), settings.num_threads, progress)


def plan_folder(settings: FolderSettings, left_out: Collection[Path] = ()) -> Plan:
    """Look at every image and decide what the store will hold; see :func:`ingest_folder`."""
    if not settings.root.is_dir():
        raise DataError(
            f"data.root={settings.root} is not a folder.", "Give the folder that holds the images."
        )
    skips = Skips(settings.unreadable)
    listing = _listing(settings, skips, left_out)
    facts = survey(listing["path"].tolist(), settings.unreadable, settings.num_threads)
    broken = facts["error"].notna()
    for name, error in zip(listing["id"][broken], facts["error"][broken], strict=True):
        skips.add(name, "cannot be decoded", error)
    listing = listing[~broken].reset_index(drop=True)
    facts = facts[~broken].reset_index(drop=True)
    if listing.empty:
        raise DataError(f"{settings.root} holds no readable image.", "Check the files.")
    particles = _particles(listing, facts, settings)
    depth = _bit_depth(settings, int(facts["brightest"].max()))
    paths = listing["path"].tolist()
    sides = facts[["height_px", "width_px"]].max(axis=1).to_numpy()
    ecd_um = particles["ecd_um"].to_numpy(float) if "ecd_um" in particles else None
    return Plan(
        particles=particles,
        units=_units(len(paths)),
        read=lambda unit: _read(paths[unit.start : unit.stop], depth),
        image_size=settings.image_size or choose_window(sides, ecd_um, settings.window),
        background=settings.background,
        fit=settings.fit,
        class_names=ordered(particles["label"].dropna()),
        pixel_size_um=settings.pixel_size_um,
        made_by={"source": "folder", "bit_depth_of_16_bit_files": depth, "seed": settings.seed},
        skipped=skips.table(),
    )


def _listing(settings: FolderSettings, skips: Skips, left_out: Collection[Path]) -> pd.DataFrame:
    if settings.table is not None:
        table = settings.root / settings.table
        return list_table(table, settings.root, settings.labelled, skips)
    if settings.labelled and settings.labels is None:
        return list_class_folders(settings.root, skips, left_out)
    listing = list_unlabelled(settings.root, skips, left_out)
    if settings.labelled and settings.labels is not None:
        given = labels_from_table(listing, settings.root / settings.labels, skips)
        group = given["group"].where(given["group"].notna(), listing["group"])
        listing = listing.assign(label=given["label"], group=group, split=given["split"])
    return listing


def _bit_depth(settings: FolderSettings, brightest: int) -> int:
    found = bit_depth_of(brightest)
    if settings.bit_depth is not None and settings.bit_depth < found:
        raise DataError(
            f"data.bit_depth={settings.bit_depth} but the brightest pixel is {brightest}.",
            f"Set it to {found}, or leave it out.",
        )
    return settings.bit_depth or found


def _particles(
    listing: pd.DataFrame, facts: pd.DataFrame, settings: FolderSettings
) -> pd.DataFrame:
    particles = listing.drop(columns="path").assign(
        origin="real",
        source=[path.relative_to(settings.root).as_posix() for path in listing["path"]],
    )
    columns = ["id", "label", "split", "group", "origin", "source"]
    particles = particles[[*columns, *particles.columns.difference(columns)]]
    alone = particles["id"].groupby(facts["digest"]).transform("first")
    # The prefix keeps a lone image's group apart from a run of the same name.
    particles["group"] = particles["group"].fillna("image " + alone)
    if not settings.labelled:
        return particles.assign(split="")
    refuse_single_class(particles, settings.root)
    _refuse_contradictions(particles, facts["digest"])
    particles = assign_splits(particles, settings.fractions, settings.seed)
    _refuse_copies(particles, facts["digest"])
    return particles


def _refuse_contradictions(particles: pd.DataFrame, digest: pd.Series) -> None:
    """The same pixels under two class names."""
    labels = particles["label"].groupby(digest).transform("nunique")
    if (labels > 1).any():
        here = particles[digest == digest[labels > 1].iloc[0]].drop_duplicates("label")
        one, two = here["id"].iloc[:2]
        raise DataError(f"{one} and {two} are the same image with different labels.", "Keep one.")


def _refuse_copies(particles: pd.DataFrame, digest: pd.Series) -> None:
    """The same pixels in two splits, where splits or groups were given."""
    splits = particles["split"].groupby(digest).transform("nunique")
    if (splits > 1).any():
        here = particles[digest == digest[splits > 1].iloc[0]].drop_duplicates("split")
        one, two = here.index[:2]
        raise DataError(
            f"{here['id'][one]} ({here['split'][one]}) and {here['id'][two]} "
            f"({here['split'][two]}) are the same image in two splits.",
            "Remove one, or give both the same group.",
        )


def _units(num_images: int) -> list[range]:
    starts = range(0, num_images, _FILES_PER_UNIT)
    return [range(s, min(s + _FILES_PER_UNIT, num_images)) for s in starts]


def _read(paths: list[Path], bit_depth: int) -> Cut:
    pictures = [read_picture(path) for path in paths]
    opaque: list[NDArray[np.bool_] | None] = [picture.opaque for picture in pictures]
    return Cut([to_8_bit(picture.grey, bit_depth) for picture in pictures], opaque)
