"""What an evaluated run shows: its pictures, values for its loggers, lines for the terminal."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pytorch_lightning.loggers import Logger

from svp_lightning.data.mix import Mixture
from svp_lightning.data.store import Store
from svp_lightning.evaluation.counting import metric_names
from svp_lightning.evaluation.predictions import Predictions
from svp_lightning.evaluation.schema import Results
from svp_lightning.report.figures.diagnostics import training_curves
from svp_lightning.report.figures.sheets import contact_sheet, worst_mistakes
from svp_lightning.report.run_findings import brevity, prevalence_sentence
from svp_lightning.report.style import save_figure
from svp_lightning.stages.measuring import Split
from svp_lightning.stages.run_folder import FIGURES, METRICS

SHEET_IMAGES = 48
MISTAKES = 24
TITLES = {"synthetic": "Generated", "simulated": "Simulated"}
"""Origin of added images -> what they are called."""


def write_figures(
    run_dir: Path, rows: Mixture, tested: Split, prevalence: Mapping[str, float]
) -> None:
    """Write what the report cannot draw: training, mistakes at a prevalence, training images.

    The run's folder holds ``metrics.csv`` already.
    """
    folder, store = run_dir / FIGURES, rows.stores[0]
    metrics = pd.read_csv(run_dir / METRICS)
    save_figure(training_curves(metrics), folder / "training_curves.png")
    _mistakes(folder, store, tested.found.at(prevalence), tested.rows)
    _sheets(folder, store, rows)


def _mistakes(folder: Path, store: Store, found: Predictions, rows: NDArray[np.int64]) -> None:
    """The wrong answers given with the highest probability."""
    predicted = found.probabilities.argmax(axis=1)
    confidence = found.probabilities.max(axis=1)
    wrong = np.flatnonzero(predicted != found.labels)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:MISTAKES]
    if len(worst):
        names = store.class_names
        given, called = ([names[k] for k in of[worst]] for of in (found.labels, predicted))
        images = np.asarray(store.images[rows[worst]])
        figure = worst_mistakes(images, given, called, confidence[worst], names)
        save_figure(figure, folder / "worst_mistakes.png")


def _sheets(folder: Path, store: Store, rows: Mixture) -> None:
    """Real training images of each class, next to the synthetic ones where there are any."""
    for label, name in enumerate(store.class_names):
        panels = {"Real": np.asarray(store.images[store.indices("train", label)[:SHEET_IMAGES]])}
        if pool := rows.synthetic:
            drawn = np.asarray(pool.images[pool.indices(label=label)[:SHEET_IMAGES]])
            origins = set(pool.particles["origin"])
            title = TITLES[origins.pop()] if len(origins) == 1 else "Added"
            panels |= {title: drawn} if len(drawn) else {}
        figure = contact_sheet(panels, title=name, pixel_size_um=store.image_pixel_um)
        save_figure(figure, folder / f"contact_sheet_{name}.png")


def log_results(loggers: Sequence[Logger], results: Results, figures: Path) -> None:
    """Log test metrics, and images and a table where a logger takes them (W&B does)."""
    table = results.metrics.model_dump()["per_class"]
    found = {name: results.estimate(name) for name in metric_names(results.class_names)}
    flat: dict[str, Any] = {f"test/{name}": one.value for name, one in found.items()}
    for name, one in found.items():
        flat |= {f"ci95/{name}/low": one.low, f"ci95/{name}/high": one.high}
    facts = results.model_dump(
        mode="json", exclude={"schema_version", "metrics", "ci95", "metrics_as_trained"}
    )
    # Also at the top, where W&B can group by them.
    facts |= {name: facts["augmentation"][name] for name in ("method", "ratio")}
    facts["rare_images"] = facts["provenance"]["rare_images"]
    for logger in loggers:
        logger.log_hyperparams(facts)
        logger.log_metrics(flat)
        if hasattr(logger, "log_image"):
            for picture in sorted(figures.glob("*.png")):
                logger.log_image(f"figures/{picture.stem}", [str(picture)])
        if hasattr(logger, "log_table"):
            columns = ["class", *next(iter(table.values()))]
            rows = [[name, *values.values()] for name, values in table.items()]
            logger.log_table("test/per_class", columns=columns, data=rows)


def summary(results: Results, report: Path) -> str:
    """The lines that an evaluation ends with."""

    def line(label: str, name: str) -> str:
        one = results.estimate(name)
        return f"  {label:<16} {one.value:.4f}  [{one.low:.4f}, {one.high:.4f}]"

    tested = ", ".join(f"{n:,} {name}" for name, n in results.counts.test.items())
    return "\n".join(
        [
            f"Tested on {sum(results.counts.test.values()):,} images ({tested}).",
            f"{prevalence_sentence(results)} 95 % intervals:",
            line("macro precision", "macro_precision"),
            line("macro AUPRC", "macro_auprc"),
            *brevity(results),
            f"Report: {report}",
        ]
    )
