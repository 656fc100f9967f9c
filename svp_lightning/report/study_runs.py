"""The runs of a study: read from disk, put into groups, and what each group is compared with."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from svp_lightning.errors import DataError
from svp_lightning.evaluation.comparison import over_seeds
from svp_lightning.evaluation.predictions import (
    PREDICTIONS,
    RESAMPLES,
    Predictions,
    Resamples,
    read_predictions,
    read_resamples,
)
from svp_lightning.evaluation.schema import PRIMARY_METRIC, RESULTS, Estimate, Results, read_results
from svp_lightning.report.arms import Cell
from svp_lightning.report.text import PRETRAINED

CONFIG, COMMAND = "config.yaml", "command.txt"


@dataclass(frozen=True)
class Run:
    """One evaluated run on disk."""

    folder: Path
    results: Results
    cell: Cell

    @cached_property
    def resamples(self) -> Resamples | None:
        """Its metrics on redrawn test sets, None where it kept none."""
        return read_resamples(self.folder / RESAMPLES)

    def predictions(self) -> Predictions | None:
        """Its labelled predictions at the stated prevalence, None where it has none.

        Raises:
            ArtifactError: the file is broken or no table of predictions.
            DataError: it is of other classes.
        """
        path = self.folder / PREDICTIONS
        if not path.is_file():
            return None
        found = read_predictions(path, with_ids=False).labelled()
        if found.class_names != self.results.class_names:
            raise DataError(
                f"{path} is of the classes {', '.join(found.class_names)}.",
                "Run task=evaluate again to rewrite it.",
            )
        return found.at(self.results.prevalence)

    @property
    def command(self) -> str:
        """The command line that made the run, empty where it was not kept."""
        return command_of(self.folder)


def command_of(folder: Path) -> str:
    """The command line kept in a run's folder, or an empty string."""
    file = folder / COMMAND
    return file.read_text(encoding="utf-8").strip() if file.is_file() else ""


def read_run(folder: Path) -> Run:
    """A run by its folder.

    Raises:
        DataError: the folder is missing, or no evaluation has finished in it.
        ArtifactError: its ``results.json`` is malformed.
    """
    if not folder.is_dir():
        raise DataError(f"There is no folder {folder}.", "Give the output folder of a run.")
    if not (folder / RESULTS).is_file():
        raise DataError(
            f"{folder} has no {RESULTS}.", "Give the output folder of a finished evaluation."
        )
    results = read_results(folder / RESULTS)
    done = results.augmentation
    # Another start is another network, with a control and an oracle of its own.
    backbone = results.backbone + (PRETRAINED if "pretraining" in results.costs else "")
    cell = Cell(backbone, done.method, done.ratio, results.seed, done.parts)
    return Run(folder, results, cell if cell.adds_images else replace(cell, ratio=0.0))


def read_study(folder: Path) -> tuple[Run, ...]:
    """Every run below ``folder``, ordered by backbone, method, ratio and seed.

    Raises:
        DataError: the folder is missing, holds no result, or results of several scales or twice
            of one cell.
        ArtifactError: a ``results.json`` is malformed.
    """
    if not folder.is_dir():
        raise DataError(
            f"There is no folder {folder}.",
            "Name a study (study=…, or +experiment=…), or run its cells first (-m).",
        )
    runs = [read_run(file.parent) for file in sorted(folder.rglob(RESULTS))]
    if not runs:
        raise DataError(
            f"There is no {RESULTS} anywhere below {folder}.",
            "Run the study first, or give the folder that holds its runs.",
        )
    of_scale = {run.results.scale: run.folder.name for run in runs}
    if len(of_scale) > 1:  # a trial at a small scale would count as a seed of a real run
        named = " and ".join(f"{name} (scale={scale})" for scale, name in of_scale.items())
        raise DataError(
            f"{folder} holds runs of several scales: {named}.",
            "Move those of one scale to another folder (study=…), and report again.",
        )
    return tuple(sorted(_distinct(runs), key=_study_order))


def _distinct(runs: list[Run]) -> list[Run]:
    """Name real images and variants where they differ; refuse two results of one cell."""
    runs = _with_real_images(runs)
    if len({run.cell for run in runs}) < len(runs):
        runs = [replace(r, cell=replace(r.cell, variant=r.results.experiment)) for r in runs]
    cell, times = Counter(run.cell for run in runs).most_common(1)[0]
    if times > 1:
        folders = [str(run.folder) for run in runs if run.cell == cell]
        raise DataError(
            f"{' and '.join(folders[:2])} hold results of the same cell ({cell.backbone}, "
            f"{cell.method}, ratio {cell.ratio:g}, seed {cell.seed}).",
            "Keep one of them, report on a folder that holds only one, or name the runs (name=…).",
        )
    return runs


def _with_real_images(runs: list[Run]) -> list[Run]:
    """Name the real images of cells where a study limits them differently.

    Counts alone do not decide: each seed of a random split has a few more or fewer. For the same
    reason runs without a limit are one place on the axis, that of the fewest images.
    """
    limits = [run.results.provenance.rare_images for run in runs]
    if len(set(limits)) == 1:
        return runs
    whole = [
        min(run.results.counts.train[name] for name in run.results.rare_classes)
        for run, limit in zip(runs, limits, strict=True)
        if limit is None
    ]
    fewest = min(whole, default=None)
    return [
        replace(run, cell=replace(run.cell, real_images=limit or fewest))
        for run, limit in zip(runs, limits, strict=True)
    ]


def _study_order(run: Run) -> tuple[str, int, bool, str, float, int, str]:
    cell = run.cell
    key = (cell.backbone, cell.real_images or 0, not cell.is_control, cell.method, cell.ratio)
    return (*key, cell.seed, cell.variant)


def unfinished_cells(folder: Path) -> tuple[Path, ...]:
    """Cells below ``folder`` that were started but have no result.

    Folders of other tasks (``assess``, ``predict``) are no cells.
    """
    started = {file.parent for name in (CONFIG, COMMAND) for file in folder.rglob(name)}
    # Hydra keeps a config.yaml of its own in a hidden folder of the run.
    runs = {run for run in started if not run.name.startswith(".")} - {folder}
    return tuple(sorted(run for run in runs if not (run / RESULTS).is_file() and _evaluates(run)))


def _evaluates(run: Path) -> bool:
    """Whether the settings kept with a run name no other task than ``evaluate``."""
    file = run / CONFIG
    if not file.is_file():
        return True
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    tasks = [line.split(":", 1)[1].strip() for line in lines if line.startswith("task:")]
    return not tasks or tasks[0] == "evaluate"


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seed only, by ascending seed; the cell is that of the first run."""

    cell: Cell
    runs: tuple[Run, ...]

    @property
    def seeds(self) -> tuple[int, ...]:
        """Of the runs."""
        return tuple(run.cell.seed for run in self.runs)

    def estimate(self, metric: str) -> Estimate:
        """Mean over the seeds."""
        return over_seeds([run.results.estimate(metric) for run in self.runs])


def group_runs(runs: Sequence[Run]) -> tuple[Group, ...]:
    """Groups in the order of ``runs``; a control is a group whatever its method's name.

    Of controls with one seed (nothing added, and 0 × generated images: the same training) the
    first counts: twice the same is not two seeds. Variants, needed to separate treated cells,
    separate controls only where they are different trainings.
    """
    apart = _places_of_several_controls(runs)
    groups: dict[Cell, dict[int, Run]] = {}
    for run in runs:
        cell = replace(run.cell, seed=0)
        if cell.is_control:
            variant = cell.variant if cell.place in apart else ""
            cell = replace(cell, method="none", ratio=0.0, parts=(), variant=variant)
        groups.setdefault(cell, {}).setdefault(run.cell.seed, run)
    return tuple(
        Group(cell, tuple(of_seed[seed] for seed in sorted(of_seed)))
        for cell, of_seed in groups.items()
    )


def _places_of_several_controls(runs: Sequence[Run]) -> set[tuple[str, int | None]]:
    """Where controls of one seed are not one training (another learning rate, say)."""
    first: dict[tuple[object, int], Run] = {}
    controls = [run for run in runs if run.cell.is_control]
    return {
        run.cell.place
        for run in controls
        if not _same_training(first.setdefault((run.cell.place, run.cell.seed), run), run)
    }


def _same_training(run: Run, other: Run) -> bool:
    """Whether two runs of one seed tested one classifier, or two that answer the same."""
    costs = (one.results.costs.get("classifier") for one in (run, other))
    a, b = (None if cost is None else cost.artifact for cost in costs)
    return (a is not None and a == b) or run.results.metrics == other.results.metrics


def control_of(group: Group, groups: Sequence[Group]) -> Group | None:
    """The control of the same backbone and real images (and variant, where controls have one)."""
    controls = [g for g in groups if g.cell.is_control and g.cell.place == group.cell.place]
    same = [other for other in controls if other.cell.variant == group.cell.variant]
    if same:
        return same[0]
    return controls[0] if len(controls) == 1 else None


def remedies_of(group: Group, groups: Sequence[Group]) -> list[Group]:
    """What else could have been done: the treated groups without generator and oracle.

    Of the same backbone and number of real images; of those that add images, the ones that
    add as many to each rare class (duplicates).
    """
    return [
        other
        for other in groups
        if not (other.cell.is_control or other.cell.is_generative or other.cell.is_oracle)
        and other.cell.place == group.cell.place
        and other.cell.ratio in (0, group.cell.ratio)
    ]


def oracle_of(group: Group, groups: Sequence[Group]) -> Group | None:
    """The best oracle of the place with as many images as ``group`` adds, else of any number.

    Oracles differ where one is combined with other remedies; the bound is what the best one gives.
    """
    found = [g for g in groups if g.cell.is_oracle and g.cell.place == group.cell.place]
    same = [other for other in found if other.cell.ratio == group.cell.ratio]
    return max(same or found, key=lambda g: g.estimate(PRIMARY_METRIC).value or 0.0, default=None)
