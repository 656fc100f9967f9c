"""What images of a folder are counted by: vials, or all together where none is known."""

import pandas as pd

ALONE = "image "
"""Begins the group of an image that belongs to no run; its id follows."""
LOOSE = "loose images"
"""Group of the unlabelled images that belong to none, where others do."""


def all_alone(particles: pd.DataFrame) -> bool:
    """Whether no image belongs to a run or vial, of a store's ``id`` and ``group``.

    A vial may hold one image: its group is named as it is.
    """
    return bool((particles["group"] == ALONE + particles["id"]).all())
