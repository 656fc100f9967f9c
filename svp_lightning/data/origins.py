"""Where images may come from: real ones are split, those of a pool serve training alone."""

from svp_lightning.data.store import Store
from svp_lightning.errors import StoreError

POOL_ORIGINS = ("synthetic", "simulated")
"""Origins of images that may be added: a generator's and the simulator's."""


def check_pool(real: Store, synthetic: Store | None, extra: str) -> Store:
    """The pool, if its images may be added to those of ``real``.

    Raises:
        StoreError: it is missing, of other classes or another size, or holds real or held-out
            images.
    """
    if synthetic is None:
        raise StoreError(
            f"augmentation.extra={extra} with a ratio above 0 needs a pool of images.",
            "Run task=sample first, or let +experiment=... build it.",
        )
    if synthetic.class_names != real.class_names:
        raise StoreError(
            f"The synthetic store {synthetic.path} has the classes "
            f"{', '.join(synthetic.class_names)}; the real one {', '.join(real.class_names)}.",
            "Sample from a generator trained on this data.",
        )
    if synthetic.image_size != real.image_size:
        raise StoreError(
            f"The synthetic store {synthetic.path} has {synthetic.image_size} px images, "
            f"the real one {real.image_size} px.",
            "Sample from a generator trained on this data.",
        )
    refuse_held_out(synthetic)
    return synthetic


def refuse_generated(store: Store) -> None:
    """Raise StoreError where a store of real images holds generated ones."""
    wrong = store.column("origin") == "synthetic"
    if wrong.any():
        splits = sorted(set(store.column("split")[wrong])) or ["?"]
        raise StoreError(
            f"{store.path} holds {int(wrong.sum())} synthetic images (splits: "
            f"{', '.join(s or 'none' for s in splits)}) where only real ones may be.",
            "Keep generated images in a synthetic store of their own.",
        )


def refuse_held_out(store: Store) -> None:
    """Raise StoreError where a pool holds real images, or images of a split."""
    wrong = ~store.column("origin").isin(POOL_ORIGINS)
    if wrong.any():
        raise StoreError(
            f"{store.path} is used as a pool but {int(wrong.sum())} of its images are "
            f"{store.column('origin')[wrong].iloc[0]}.",
            "Give the store that task=sample wrote.",
        )
    if (split := store.column("split") != "").any():
        raise StoreError(
            f"{store.path} is used as a pool but {int(split.sum())} of its images belong to a "
            "split.",
            "Give a pool of images that serve training alone.",
        )
