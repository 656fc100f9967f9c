"""How many flipped labels are among the first suspects of ``task=audit``?

    python audits.py --plain 101 102 --oracle 101 --generated 101 102 > table.md

Labels are flipped in a view of simulated images, and audited as the task does it. Resumable:
classifiers are kept in ``--artifacts``, the evidence on each cell's labels in ``--outputs``.
"""

import argparse
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from svp_lightning.__main__ import configured
from svp_lightning.evaluation.label_issues import Evidence, rank_labels
from svp_lightning.pipeline import Pipeline
from svp_lightning.stages.label_audit import examine_labels

PARTS = {"train": (2100, 420, 420), "val": (450, 90, 90), "test": (450, 90, 90)}
NAMES = ("protein", "silicone_oil", "air_bubble")
COUNTS = {split: dict(zip(NAMES, n, strict=True)) for split, n in PARTS.items()}
SETTINGS = (
    *("task=audit", "scale=study", "trainer=cpu", "evaluation.prevalence=test"),
    *("classifier=resnet18_quarter", "classifier.steps=300", "classifier.batch_size=64"),
    "classifier.validate_every=100",
    f"data.simulation.counts={str(COUNTS).replace(' ', '').replace(chr(39), '')}",
)
ARMS = {
    "plain": ("augmentation=none",),
    "oracle": ("augmentation=oracle", "augmentation.ratio=3"),
    "generated": ("augmentation=diffusion_physics", "augmentation.ratio=3"),
}
KINDS = ("uniform", "oil and air")
FLIPPED, LOOKED_AT, SMALL_UM = 0.02, 0.04, 3.0
RESAMPLES = 2000
RANKINGS = {
    "as shipped": "score",
    "classifier alone": "self_confidence",
    "neighbours alone": "neighbours_agree",
}


@dataclass(frozen=True)
class Cell:
    """One audit, of all N images.

    Attributes:
        truth: (N,) class indices, of which 2 % are flipped in ``evidence.label``.
        diameter: (N,) µm.
    """

    evidence: Evidence
    truth: NDArray[np.int64]
    diameter: NDArray[np.float64]

    @property
    def flipped(self) -> NDArray[np.int64]:
        """Positions of the flipped labels."""
        return np.flatnonzero(self.evidence.label != self.truth)

    @property
    def hidden(self) -> NDArray[np.bool_]:
        """(F,) which flips the classifiers agree with: they take the wrong label for right."""
        taken = self.evidence.probability[self.flipped].argmax(axis=1)
        return np.asarray(taken == self.evidence.label[self.flipped])

    def seen_by(self, other: "Cell") -> "Cell":
        """The same labels, with the evidence of classifiers trained on others."""
        return replace(self, evidence=replace(other.evidence, label=self.evidence.label))

    def found(self, ranking: str) -> NDArray[np.bool_]:
        """(F,) which flips are among the first suspects."""
        table = rank_labels(self.evidence, NAMES)
        if ranking != "score":
            table = table.sort_values([ranking, "rank"])
        first = table["row"][: round(LOOKED_AT * len(self.truth))]
        return np.isin(self.flipped, first)


Rows = dict[tuple[str, str], dict[int, Cell]]
"""(kind of flips, arm) -> seed -> audit."""


def flips(truth: NDArray[np.int64], kind: str, seed: int) -> NDArray[np.int64]:
    """The labels with :data:`FLIPPED` of all of them wrong; (N,) to (N,)."""
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    label = truth.copy()
    rare = np.flatnonzero(truth > 0)
    chosen = rng.choice(
        len(truth) if kind == "uniform" else rare, round(FLIPPED * len(truth)), replace=False
    )
    step = rng.integers(1, 3, len(chosen))
    label[chosen] = (truth[chosen] + step) % 3 if kind == "uniform" else 3 - truth[chosen]
    return label


def audited(arm: str, kind: str, seed: int, artifacts: Path, outputs: Path) -> Cell:
    """One cell; ``kind`` none: the labels are right while the classifiers train."""
    overrides = (*SETTINGS, *ARMS[arm], f"data.seed={seed}", f"paths.artifacts={artifacts}")
    clean = Pipeline(configured(*overrides), outputs).store
    file = outputs / f"{arm}_{kind.replace(' ', '_')}_{seed}.npz"
    if not file.is_file():
        outputs.mkdir(parents=True, exist_ok=True)
        if kind != "none":
            label = flips(clean.labels, kind, seed)
            wrong = np.flatnonzero(label != clean.labels)
            ids, names = clean.particles["id"].to_numpy()[wrong], np.array(NAMES)[label[wrong]]
            csv = file.with_suffix(".csv")
            pd.DataFrame({"id": ids, "label": names}).to_csv(csv, index=False)
            overrides += (f"data.label_overrides={csv}",)
        pipeline = Pipeline(configured(*overrides), outputs)
        settings, device = pipeline.config.audit, pipeline.device
        _, seen = examine_labels(settings, pipeline.store, pipeline.classifier_on, 512, device)
        np.savez(file, **vars(seen))
    diameter = clean.particles["ecd_um"].to_numpy(float)
    return Cell(Evidence(**np.load(file)), clean.labels, diameter)


def percent(found: Sequence[NDArray[np.floating] | NDArray[np.bool_]]) -> str:
    """Mean over the flips of all seeds, %, with a 95 % interval: flips redrawn in each seed."""
    rng = np.random.default_rng(0)
    drawn = [f[rng.integers(len(f), size=(RESAMPLES, len(f)))].sum(axis=1) for f in found]
    low, high = np.quantile(sum(drawn) / sum(map(len, found)), (0.025, 0.975))
    return f"{100 * np.concatenate(found).mean():.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def main() -> None:
    """Audit what is missing, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plain", type=int, nargs="+", required=True, help="seeds of the images")
    parser.add_argument("--oracle", type=int, nargs="*", default=[], help="some of them")
    parser.add_argument("--generated", type=int, nargs="*", default=[], help="some of them")
    parser.add_argument("--right-labels", type=int, nargs="*", default=[], help="some of them")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--artifacts", type=Path, default=Path("artifacts"))
    parser.add_argument("--outputs", type=Path, default=Path("outputs/label_audit"))
    options = parser.parse_args()
    audit = partial(audited, artifacts=options.artifacts, outputs=options.outputs)
    rows: Rows = {}
    with redirect_stdout(sys.stderr):  # what the task says; the tables alone are printed
        for kind in options.kinds:
            plain = {seed: audit("plain", kind, seed) for seed in options.plain}
            right = {s: plain[s].seen_by(audit("plain", "none", s)) for s in options.right_labels}
            rows[kind, "plain"] = plain
            rows[kind, "oracle"] = {seed: audit("oracle", kind, seed) for seed in options.oracle}
            rows[kind, "generated"] = {s: audit("generated", kind, s) for s in options.generated}
            rows[kind, "plain, trained on right labels"] = right
    rows = {key: cells for key, cells in rows.items() if cells}
    print_found(rows)
    print_missed(rows)


def print_found(rows: Rows) -> None:
    """A row for each kind of flip, arm and ranking."""
    print("| flips | classifiers | ranking | each seed | found, % | minus plain, points |")
    print("|---|---|---|---|---|---|")
    for (kind, arm), cells in rows.items():
        for name, column in RANKINGS.items():
            found = {seed: cell.found(column) for seed, cell in cells.items()}
            each = ", ".join(f"{seed}: {100 * f.mean():.1f}" for seed, f in found.items())
            gain = [f * 1.0 - rows[kind, "plain"][s].found(column) for s, f in found.items()]
            more = "" if arm == "plain" else percent(gain)
            print(
                f"| {kind} | {arm} | {name} | {each} | {percent(list(found.values()))} | {more} |"
            )


def print_missed(rows: Rows) -> None:
    """What the missed flips are."""
    print("\n| flips | classifiers | flips | missed | of them taken for right | below "
          f"{SMALL_UM:g} µm | all flips below {SMALL_UM:g} µm |")  # fmt: skip
    print("|---|---|---|---|---|---|---|")
    for (kind, arm), cells in rows.items():
        each = cells.values()
        missed = np.concatenate([~cell.found("score") for cell in each])
        hidden = np.concatenate([cell.hidden for cell in each])
        small = np.concatenate([cell.diameter[cell.flipped] < SMALL_UM for cell in each])
        print(f"| {kind} | {arm} | {len(missed)} | {missed.sum()} | {(missed & hidden).sum()} | "
              f"{(missed & small).sum()} | {small.sum()} |")  # fmt: skip


if __name__ == "__main__":
    main()
