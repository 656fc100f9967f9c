"""``task=audit``: held-out images whose label the classifier contradicts, worst first."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from svp_lightning.classifier.validation import BEST
from svp_lightning.data.store import Store
from svp_lightning.evaluation.label_issues import find_label_issues
from svp_lightning.pipeline import Pipeline
from svp_lightning.report.figures.sheets import worst_mistakes
from svp_lightning.report.style import save_figure
from svp_lightning.runtime.distributed import is_main_process
from svp_lightning.runtime.files import explaining_write_errors, replacing
from svp_lightning.runtime.terminal import say
from svp_lightning.stages.measuring import predict_splits

SHOWN = 24


def run(pipeline: Pipeline) -> None:
    """Write ``label_issues.csv`` and a gallery; the classifier has not trained on these images.

    Test labels are audited. Where wrong labels were injected into a simulated store (the test
    images' stay right), its validation labels are, and what was found is compared with them.
    """
    store, best = pipeline.store, pipeline.classifier / BEST
    flipped = injected(store)
    split = "val" if flipped[store.indices(split="val")].any() else "test"
    batch = pipeline.config.evaluation.batch_size
    (tested,), _ = predict_splits(best, store, (split,), batch, pipeline.trainers)
    if not is_main_process():
        return
    issues = find_label_issues(tested.label, tested.probability, store.class_names)
    issues["id"] = store.particles["id"].to_numpy(dtype=object)[tested.index[issues["row"]]]
    issues["row"] = tested.index[issues["row"]]
    issues["label_flipped"] = flipped[issues["row"]]
    _write(pipeline.run_dir, issues)
    share = len(issues) / len(tested.label)
    say(
        f"{len(issues):,} of {len(tested.label):,} {split} labels ({share:.1%}) look wrong to this "
        f"classifier. Have an expert look before changing any: {pipeline.run_dir}"
    )
    if flipped.any():
        say(compare_with_truth(issues["label_flipped"].to_numpy(), flipped[tested.index]))
    if len(issues):
        top = issues.head(SHOWN)
        gallery = worst_mistakes(
            np.asarray(store.images[top["row"].to_numpy()]),
            top["given"].tolist(),
            top["suggested"].tolist(),
            top["suggested_probability"].to_numpy(),
            store.class_names,
        )
        save_figure(gallery, pipeline.run_dir / "label_issues.png")


def injected(store: Store) -> NDArray[np.bool_]:
    """(N,) which labels were flipped on purpose; nowhere in a store that does not say."""
    if "label_flipped" not in store.particles:
        return np.zeros(len(store), dtype=bool)
    return store.particles["label_flipped"].to_numpy(dtype=bool)


def compare_with_truth(found: NDArray[np.bool_], flipped: NDArray[np.bool_]) -> str:
    """One line on how well an audit found the injected flips.

    Args:
        found: (issues,) whether each issue found is a flip.
        flipped: (N,) whether each audited label is one.
    """
    hits, issues, flips = int(found.sum()), len(found), int(flipped.sum())
    precision = hits / issues if issues else math.nan
    recall = hits / flips if flips else math.nan
    return (
        f"{hits:,} of them are among the {flips:,} labels that were flipped on purpose "
        f"(precision {precision:.1%}, recall {recall:.1%})."
    )


def _write(folder: Path, issues: pd.DataFrame) -> None:
    columns = ["rank", "id", "row", "given", "suggested", "self_confidence"]
    columns += ["suggested_probability", "label_flipped"]
    with explaining_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / "label_issues.csv") as temporary:
        issues[columns].to_csv(temporary, index=False)
