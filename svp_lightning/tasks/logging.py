"""Results to loggers beside metrics.csv, through what those loggers offer."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from svp_lightning.evaluation.results import Results
from svp_lightning.tasks.session import Session


def log_results(session: Session, results: Results, figures: Path) -> None:
    """Log test metrics, and images and a table where a logger takes them (W&B does)."""
    table = results.metrics.model_dump()["per_class"]
    flat = {f"test/{name}": value for name, value in _flat(results.metrics.model_dump())}
    for name, bounds in _flat(results.ci95.model_dump()):
        flat |= {f"ci95/{name}/{end}": bounds[k] for k, end in enumerate(("low", "high"))}
    for logger in session.loggers():
        logger.log_hyperparams(_facts(results))
        logger.log_metrics(flat)
        if hasattr(logger, "log_image"):
            for picture in sorted(figures.glob("*.png")):
                logger.log_image(f"figures/{picture.stem}", [str(picture)])
        if hasattr(logger, "log_table"):
            columns = ["class", *next(iter(table.values()))]
            rows = [[name, *values.values()] for name, values in table.items()]
            logger.log_table("test/per_class", columns=columns, data=rows)


def _flat(metrics: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """``macro_auprc`` and ``air_bubble/auprc`` with their values."""
    for name, value in metrics.items():
        if name != "per_class":
            yield name, value
    for class_name, values in metrics["per_class"].items():
        yield from ((f"{class_name}/{name}", value) for name, value in values.items())


def _facts(results: Results) -> dict[str, Any]:
    facts = results.model_dump(mode="json", exclude={"schema_version", "metrics", "ci95"})
    # Also at the top, where W&B can group by them.
    return facts | {name: facts["augmentation"][name] for name in ("method", "ratio")}
