"""``task=prevalence``: the metrics of a finished run at other mixtures of the classes."""

from rich.table import Table

from svp_lightning.data.classes import commonest, display_name
from svp_lightning.errors import SettingsError
from svp_lightning.evaluation.predictions import PREDICTIONS, prevalence_table, read_predictions
from svp_lightning.evaluation.schema import RESULTS, read_results
from svp_lightning.pipeline import Pipeline
from svp_lightning.report.run import run_report
from svp_lightning.runtime.files import write_csv
from svp_lightning.runtime.terminal import print_table, say
from svp_lightning.stages.run_folder import PREVALENCE

FIGURE = "prevalence.png"


def run(pipeline: Pipeline) -> None:
    """Correct the stored predictions to every ratio asked for, and count them there."""
    config, folder = pipeline.config, pipeline.config.predict.run
    if folder is None:
        raise SettingsError("predict.run is not set.", "Give the folder of a finished evaluation.")
    stored = read_predictions(folder / PREDICTIONS, with_ids=False).labelled()
    found = read_results(folder / RESULTS)
    common = commonest(found.counts.train, found.prevalence if found.prevalence_stated else None)
    table = prevalence_table(stored, common, config.evaluation.prevalence_ratios)
    write_csv(folder / PREVALENCE, table, lineterminator="\n")
    (folder / "figures" / FIGURE).unlink(missing_ok=True)  # of the ratios before
    page = run_report(folder)
    shown = Table(
        title=f"{len(stored.labels):,} images, {display_name(common).lower()} : each other class"
    )
    for name in ("ratio", "macro precision", "macro AUPRC"):
        shown.add_column(name, justify="right")
    for row in table.to_dict("records"):
        values = (f"{row[name]:.4f}" for name in ("macro_precision", "macro_auprc"))
        shown.add_row(f"{row['ratio']:,.10g} : 1", *values)
    print_table(shown)
    say(f"Every metric: {folder / PREVALENCE}\nReport: {page}")
