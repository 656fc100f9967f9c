"""``task=audit``: held-out images whose label the classifier contradicts, worst first."""

from pathlib import Path

import numpy as np
import pandas as pd

from svp_lightning.classifier.callbacks import BEST
from svp_lightning.config import Config
from svp_lightning.distributed import is_main_process
from svp_lightning.evaluation.label_issues import find_label_issues
from svp_lightning.files import explaining_write_errors, replacing
from svp_lightning.report.figures.mistakes import worst_mistakes
from svp_lightning.report.style import save_figure
from svp_lightning.tasks.evaluate import test
from svp_lightning.tasks.ingest import ensure_store
from svp_lightning.tasks.session import Session, say
from svp_lightning.tasks.train_classifier import ensure_classifier, training_rows

SHOWN = 24


def run(config: Config, session: Session) -> None:
    """Write ``label_issues.csv`` and a gallery; the classifier has not trained on these images."""
    store = ensure_store(config, session)
    classifier = ensure_classifier(config, session, store, training_rows(config, session, store))
    tested, _ = test(config, session, store, classifier / BEST)
    if not is_main_process():
        return
    issues = find_label_issues(tested.label, tested.probability, store.class_names)
    issues["id"] = store.particles["id"].to_numpy(dtype=object)[tested.index[issues["row"]]]
    issues["row"] = tested.index[issues["row"]]
    _write(session.run_dir, issues)
    share = len(issues) / len(tested.label)
    say(
        f"{len(issues):,} of {len(tested.label):,} test labels ({share:.1%}) look wrong to this "
        f"classifier. Have an expert look before changing any: {session.run_dir}"
    )
    if len(issues):
        top = issues.head(SHOWN)
        gallery = worst_mistakes(
            np.asarray(store.images[top["row"].to_numpy()]),
            top["given"].tolist(),
            top["suggested"].tolist(),
            1 - top["self_confidence"].to_numpy(),
            store.class_names,
        )
        save_figure(gallery, session.run_dir / "label_issues.png")


def _write(folder: Path, issues: pd.DataFrame) -> None:
    columns = ["rank", "id", "row", "given", "suggested", "self_confidence"]
    with explaining_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / "label_issues.csv") as temporary:
        issues[columns].to_csv(temporary, index=False)
