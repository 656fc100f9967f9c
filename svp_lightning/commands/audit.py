"""``task=audit``: every label compared with what classifiers that have not seen the image say."""

import pandas as pd

from svp_lightning.evaluation.label_issues import rank_labels
from svp_lightning.pipeline import Pipeline
from svp_lightning.report.gallery import write_gallery
from svp_lightning.runtime.distributed import is_main_process
from svp_lightning.runtime.files import write_csv
from svp_lightning.runtime.terminal import say
from svp_lightning.stages.label_audit import examine_labels

GALLERY, TABLE = "label_gallery.html", "label_issues.csv"


def run(pipeline: Pipeline) -> None:
    """Write ``label_issues.csv``, all labelled images, and a gallery of the most suspect ones."""
    config, store, folder = pipeline.config, pipeline.store, pipeline.run_dir
    rows, evidence = examine_labels(
        config.audit,
        store,
        pipeline.classifier_on,
        config.evaluation.batch_size,
        pipeline.device,
    )
    if not is_main_process():
        return
    issues = rank_labels(evidence, store.class_names)
    place = issues["row"].to_numpy()
    never = pd.Series(False, store.particles.index)
    flipped = store.particles.get("label_flipped", never).to_numpy(bool)[rows]
    particles = store.particles.iloc[rows[place]]
    table = issues.assign(
        row=rows[place],
        id=particles["id"].to_numpy(),
        split=particles["split"].to_numpy(),
        group=particles["group"].to_numpy(),
        label_flipped=flipped[place],
    )
    write_csv(folder / TABLE, table)
    top = place[: config.audit.shown]
    page = write_gallery(
        folder / GALLERY,
        store,
        table.head(config.audit.shown),
        evidence.probability[top],
        rows[evidence.neighbours[top]],
    )
    listed = int(issues["confident"].sum())
    say(
        f"{listed:,} of {len(rows):,} labels ({listed / len(rows):.1%}) look wrong. Have an expert "
        f"look before changing any: {page}"
    )
    if flipped.any():
        say(compare_with_truth(table))


def compare_with_truth(table: pd.DataFrame) -> str:
    """A line on how well the injected flips were found.

    Args:
        table: all audited images, the most suspect first, with ``label_flipped`` and ``confident``.
    """
    flipped, listed = table["label_flipped"].to_numpy(), table["confident"].to_numpy()
    first = 2 * int(flipped.sum())
    hits, early = int((flipped & listed).sum()), flipped[:first].sum() / flipped.sum()
    return (
        f"{flipped.sum():,} labels were flipped on purpose: {hits:,} of them are among the "
        f"{listed.sum():,} listed, and {early:.0%} among the first {first:,} suspects."
    )
