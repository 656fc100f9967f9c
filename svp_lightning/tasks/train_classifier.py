"""``task=train_classifier``: a classifier on real images and what the mix adds to them."""

from svp_lightning.classifier.validation import BEST
from svp_lightning.config import Config
from svp_lightning.data.mix import Mixture, mix
from svp_lightning.data.store import Store
from svp_lightning.tasks.filter import ensure_filtered
from svp_lightning.tasks.fit_classifier import ensure_classifier
from svp_lightning.tasks.ingest import ensure_store
from svp_lightning.tasks.sample import ensure_synthetic
from svp_lightning.tasks.session import Session, say


def run(config: Config, session: Session) -> None:
    """Train the classifier and say where it is."""
    store = ensure_store(config, session)
    path = ensure_classifier(config, session, store, training_rows(config, session, store))
    say(f"Classifier: {path / BEST}")


def training_rows(config: Config, session: Session, store: Store) -> Mixture:
    """The rows of this configuration's mix; synthetic images are drawn where it needs any."""
    augmentation = config.augmentation
    synthetic = synthetic_images(config, session, store) if augmentation.needs_generator else None
    return mix(store, synthetic, augmentation, config.seed)


def synthetic_images(config: Config, session: Session, store: Store) -> Store:
    """The pool this configuration trains on, filtered if it says so."""
    filters = config.augmentation.filter is not None
    return (ensure_filtered if filters else ensure_synthetic)(config, session, store)
