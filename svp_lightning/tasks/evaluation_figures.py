"""The pictures of a run: curves, confusion, mistakes, and the images it trained on."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from svp_lightning.classifier.validation import Collected
from svp_lightning.data.mix import Mixture
from svp_lightning.data.store import Store
from svp_lightning.evaluation.priors import prevalence_weights
from svp_lightning.report.figures.curves import confusion, precision_recall
from svp_lightning.report.figures.mistakes import worst_mistakes
from svp_lightning.report.figures.sheets import contact_sheet
from svp_lightning.report.figures.training import training_curves
from svp_lightning.report.style import save_figure
from svp_lightning.tasks.session import Session

SHEET_IMAGES = 48
MISTAKES = 24


def write_figures(
    session: Session,
    store: Store,
    rows: Mixture,
    tested: Collected,
    prevalence: Mapping[str, float],
) -> None:
    """Write the figures of a run into its folder, which holds ``metrics.csv`` already."""
    folder = session.run_dir / "figures"
    names = store.class_names
    weights = prevalence_weights(tested.label, prevalence, names)
    curves = precision_recall(tested.label, tested.probability, names, weights=weights)
    save_figure(curves, folder / "precision_recall.png")
    predicted = tested.probability.argmax(axis=1)
    matrix = np.zeros((len(names), len(names)), dtype=np.int64)
    np.add.at(matrix, (tested.label, predicted), 1)
    save_figure(confusion(matrix, names), folder / "confusion.png")
    metrics = pd.read_csv(session.run_dir / "metrics.csv")
    save_figure(training_curves(metrics), folder / "training_curves.png")
    _mistakes(session, store, tested)
    _sheets(session, store, rows)


def _mistakes(session: Session, store: Store, tested: Collected) -> None:
    """The wrong answers given with the highest probability."""
    predicted = tested.probability.argmax(axis=1)
    confidence = tested.probability.max(axis=1)
    wrong = np.flatnonzero(predicted != tested.label)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:MISTAKES]
    if len(worst) == 0:
        return
    figure = worst_mistakes(
        np.asarray(store.images[tested.index[worst]]),
        [store.class_names[k] for k in tested.label[worst]],
        [store.class_names[k] for k in predicted[worst]],
        confidence[worst],
        store.class_names,
    )
    save_figure(figure, session.run_dir / "figures" / "worst_mistakes.png")


def _sheets(session: Session, store: Store, rows: Mixture) -> None:
    """Real training images of each class, beside the synthetic ones where there are any."""
    folder = session.run_dir / "figures"
    for label, name in enumerate(store.class_names):
        panels = {"Real": np.asarray(store.images[store.indices("train", label)[:SHEET_IMAGES]])}
        if len(rows.stores) > 1:
            pool = rows.stores[1]
            drawn = np.asarray(pool.images[pool.indices(label=label)[:SHEET_IMAGES]])
            panels |= {"Generated": drawn} if len(drawn) else {}
        figure = contact_sheet(panels, title=name, pixel_size_um=store.pixel_size_um)
        save_figure(figure, folder / f"contact_sheet_{name}.png")


def copy_noise_to_image(session: Session, generator_folder: Path) -> None:
    """Take over the generator's picture of the way from noise to image."""
    source = generator_folder / "figures" / "noise_to_image.png"
    if source.is_file():
        shutil.copyfile(source, session.run_dir / "figures" / source.name)
