"""Results to loggers beside metrics.csv, through what those loggers offer."""

from pathlib import Path
from typing import Any

from svp_lightning.evaluation.results import Results
from svp_lightning.tasks.session import Session


def log_results(session: Session, results: Results, figures: Path) -> None:
    """Log test metrics, and images and a table where a logger takes them (W&B does)."""
    metrics = results.metrics.model_dump()
    table = metrics.pop("per_class")
    flat = {f"test/{name}": value for name, value in metrics.items()}
    for class_name, values in table.items():
        flat |= {f"test/{class_name}/{name}": value for name, value in values.items()}
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


def _facts(results: Results) -> dict[str, Any]:
    return results.model_dump(mode="json", exclude={"schema_version", "metrics", "ci95"})
