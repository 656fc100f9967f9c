"""``task=evaluate``: one cell of a study, from data to report; builds what is missing upstream."""

import json
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from svp_lightning.classifier.module import load_classifier
from svp_lightning.classifier.validation import BEST, Collected
from svp_lightning.config import Config
from svp_lightning.data.loading import ParticleDataModule
from svp_lightning.data.mix import Mixture
from svp_lightning.data.store import Store
from svp_lightning.data.transforms import TrainTransform
from svp_lightning.evaluation.intervals import confidence_intervals
from svp_lightning.evaluation.results import SCHEMA, Results, write_results
from svp_lightning.evaluation.tally import Tally
from svp_lightning.report.html import run_report
from svp_lightning.runtime.artifacts import Clock
from svp_lightning.runtime.distributed import is_main_process
from svp_lightning.runtime.files import replacing, sha256_of_json
from svp_lightning.tasks.assess import attach_finished
from svp_lightning.tasks.cell import RESULTS, report_objective
from svp_lightning.tasks.evaluation_figures import copy_noise_to_image, write_figures
from svp_lightning.tasks.features import feature_stages
from svp_lightning.tasks.filter import filter_stages, rejections
from svp_lightning.tasks.fit_classifier import RECORD, ensure_classifier, prevalence_of
from svp_lightning.tasks.ingest import ensure_store
from svp_lightning.tasks.logging import log_results
from svp_lightning.tasks.measure import costs, measured_parts, redraw, write_tables
from svp_lightning.tasks.preparation import KEY as PREPARATION
from svp_lightning.tasks.preparation import Preparation
from svp_lightning.tasks.provenance import git_revision, package_versions
from svp_lightning.tasks.session import Session, say
from svp_lightning.tasks.train_classifier import training_rows
from svp_lightning.tasks.train_generator import ensure_generator
from svp_lightning.tasks.training import build_trainer, device_name, newest_metrics

CLASSIFIER = "classifier.ckpt"
SPLIT_NAMES = {"val": "Validation", "test": "Test"}


def run(config: Config, session: Session) -> None:
    """Train what is missing, test it, and write results, predictions, figures and report."""
    start = time.monotonic()
    store = ensure_store(config, session)
    rows = training_rows(config, session, store)
    classifier = ensure_classifier(config, session, store, rows)
    clock = Clock()
    validated, _ = test(config, session, store, classifier / BEST, "val")
    tested, device = test(config, session, store, classifier / BEST, "test")
    if not is_main_process():
        return
    prevalence = prevalence_of(config, store)
    tally = Tally(tested.label, tested.probability, store.class_names)
    redrawn = redraw(config, store, tested, tally, prevalence)
    _link(classifier / BEST, session.run_dir / CLASSIFIER)
    _link(newest_metrics(classifier), session.run_dir / "metrics.csv")
    trained = json.loads((classifier / RECORD).read_text(encoding="utf-8"))
    seconds = time.monotonic() - start
    generated = len(rows.stores) > 1
    spent = costs(
        {
            **(_generated_stages(config, session, store, rows.stores[1]) if generated else {}),
            "classifier": classifier,
            "test": clock,
        }
    )
    parts = {
        "metrics": tally.metrics(prevalence),
        "ci95": confidence_intervals(redrawn[0], tally.confusion, store.class_names, prevalence),
        "costs": spent,
        **measured_parts(store, validated, tested, prevalence),
    }
    results = measure(config, store, rows, tested, trained, device, seconds, parts)
    write_tables(config, session.run_dir, store, validated, tested, tally, redrawn)
    write_figures(session, store, rows, tested, prevalence)
    if generated:
        copy_noise_to_image(session, ensure_generator(config, session, store))
        attach_finished(session, rows.stores[1])
    # Last: a run folder that holds results.json is a finished run.
    write_results(session.run_dir / RESULTS, results)
    report = run_report(session.run_dir)
    log_results(session, results, session.run_dir / "figures")
    report_objective(session.run_dir)
    say(_summary(results, report))


def _generated_stages(
    config: Config, session: Session, store: Store, added: Store
) -> dict[str, Path]:
    """Stage -> artifact behind the added images: all that was trained or drawn for them.

    A filter and a generator's selection judge by the same network, so it stands here once.
    """
    stages = {"generator": ensure_generator(config, session, store)}
    if config.generator.selection.method == "fidelity":
        stages |= feature_stages(config, session, store)
    return stages | filter_stages(config, session, store, added)


def test(
    config: Config, session: Session, store: Store, checkpoint: Path, split: str
) -> tuple[Collected, str]:
    """Predict every image of a held-out split exactly once, on any number of processes.

    Returns:
        The predictions, the same on every process, and the device's name.
    """
    module = load_classifier(checkpoint)
    trainer = build_trainer(config, session, None, SPLIT_NAMES[split])
    datamodule = ParticleDataModule(
        None,
        heldout=store,
        batch_size=config.evaluation.batch_size,
        steps_per_epoch=1,
        seed=config.seed,
        transform=TrainTransform(),
        num_workers=config.trainer.num_workers,
        tested_split=split,
    )
    trainer.test(module, datamodule=datamodule, verbose=False)
    assert module.test_predictions is not None
    return module.test_predictions, device_name(trainer)


def measure(
    config: Config,
    store: Store,
    rows: Mixture,
    tested: Collected,
    trained: dict[str, Any],
    device: str,
    seconds: float,
    parts: Mapping[str, Any],
) -> Results:
    """The metrics at the stated prevalence, what else was measured, where it comes from.

    ``trained`` is the classifier's ``training.json``.
    """
    prevalence = prevalence_of(config, store)
    synthetic = rows.stores[1] if len(rows.stores) > 1 else None
    return Results.model_validate(
        {
            **parts,
            "schema": SCHEMA,
            "task": "evaluate",
            "experiment": config.name,
            "study": config.study,
            "scale": config.scale.name,
            "seed": config.seed,
            "backbone": config.classifier.backbone,
            "augmentation": {
                "method": config.augmentation.method,
                "ratio": config.augmentation.ratio,
            },
            "prevalence": prevalence,
            "prevalence_stated": config.data.prevalence is not None,
            "rare_classes": list(rows.rare),
            "counts": {
                "train": rows.real,
                "synthetic": rows.added if synthetic is not None else {},
                "test": _counts(store, tested.label),
                "validation": store.counts("val"),
            },
            "rejected": rejections(synthetic) if synthetic is not None else {},
            "validation_score": trained["validation_score"],
            "provenance": {
                "data": store.sha256,
                "generator": synthetic.manifest.made_by["generator"] if synthetic else None,
                "generator_seed": config.generator.seed if synthetic else None,
                "synthetic": synthetic.sha256 if synthetic else None,
                "rare_images": config.data.rare_images,
                PREPARATION: Preparation.of(config.data, store).model_dump(),
                "optimizer_steps": trained["optimizer_steps"],
                "training_images_drawn": trained["optimizer_steps"] * config.classifier.batch_size,
                "config": sha256_of_json(config.identity()),
                "git": git_revision(),
                "packages": package_versions(),
                "device": device,
                "wall_seconds": round(seconds, 1),
            },
        }
    )


def _counts(store: Store, labels: NDArray[np.int64]) -> dict[str, int]:
    counts = np.bincount(labels, minlength=len(store.class_names)).tolist()
    return dict(zip(store.class_names, counts, strict=True))


def _link(source: Path, target: Path) -> None:
    """Put the classifier into the run's folder without taking space twice where possible."""
    with replacing(target) as temporary:
        try:
            os.link(source, temporary)
        except OSError:  # another disk, or a file system without links
            shutil.copyfile(source, temporary)


def _summary(results: Results, report: Path) -> str:
    def line(label: str, name: str) -> str:
        low, high = getattr(results.ci95, name)
        return f"  {label:<16} {getattr(results.metrics, name):.4f}  [{low:.4f}, {high:.4f}]"

    tested = ", ".join(f"{n:,} {name}" for name, n in results.counts.test.items())
    return "\n".join(
        [
            f"Tested on {sum(results.counts.test.values()):,} images ({tested}), 95 % intervals:",
            line("macro precision", "macro_precision"),
            line("macro AUPRC", "macro_auprc"),
            f"Report: {report}",
        ]
    )
