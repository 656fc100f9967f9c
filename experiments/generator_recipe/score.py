"""How near every recipe's images are to held-out real ones: a table, and sheets to look at.

    python experiments/generator_recipe/score.py

Reads what ``train_recipes.py`` has made and writes ``table.md`` and ``sheet_<class>.png`` here.
Features are those of ``task=assess``, of a network trained on the real training images. A generator
can only learn the instrument runs that it is shown: its images are compared with others of these
runs that no network has seen, and in one column with the validation split, which is of other runs.
Small and large bubbles are measured apart.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from recipes import RECIPES, setting
from train_recipes import JUDGED, WORK, configuration

from svp_lightning.classifier.features import FeatureNetwork, describe, load_features
from svp_lightning.data.classes import display_name
from svp_lightning.data.store import Store
from svp_lightning.evaluation.fidelity.copies import pixel_closeness
from svp_lightning.evaluation.fidelity.measures import (
    frechet_distance,
    kernel_distance,
    manifold_coverage,
    two_sample_auc,
)
from svp_lightning.pipeline import Pipeline
from svp_lightning.report.figures.sheets import contact_sheet
from svp_lightning.report.style import save_figure
from svp_lightning.simulation.simulated_store import plan_images
from svp_lightning.simulation.simulator import Simulator
from svp_lightning.stages.settings import SimulatedData

HERE = Path(__file__).parent
DARK, DARK_SHARE = 60, 0.25
"""A large bubble: more than this share of the window is darker than this grey level."""
KINDS = {
    "small bubbles": "air_bubble",
    "large bubbles": "air_bubble",
    "droplets": "silicone_oil",
}
SHOWN = {"physics": "physics, 500 steps", "physics_8000": "physics, 8,000 steps"}
"""Recipes on the sheets."""
UNSEEN, SETS = 1200, 6
"""Further real images of each class and of the training runs in a set, and sets of them to compare
generated ones with; measures are means over the sets."""
FINE_WAVES = 11, 15
"""Waves across the image."""
HEADER = (
    "| recipe | kind | AUC | AUC, other runs | KID × 1000 | FD | recall | recognised | power | "
    "copies | training, processor s |"
)
Images = Mapping[str, NDArray[np.uint8]]
Features = NDArray[np.float32]


class Real(NamedTuple):
    """Images of one kind (n, H, W) and their features (n, D)."""

    images: NDArray[np.uint8]
    features: Features


class Judge:
    """The real images and the network whose features they are compared in."""

    def __init__(self, work: Path, size: int = 64) -> None:
        self.config = configuration(work, setting(size))
        pipeline = Pipeline(self.config, work)
        self.store: Store = pipeline.store
        self.network: FeatureNetwork = load_features(pipeline.features)
        self.train, self.heldout = (
            self._described({name: self.real(split, name) for name in JUDGED})
            for split in ("train", "val")
        )

    def real(self, split: str, name: str) -> NDArray[np.uint8]:
        """The real images of a class."""
        label = self.store.class_names.index(name)
        return np.asarray(self.store.images[self.store.indices(split, label)])

    def unseen(self) -> tuple[dict[str, Real], Images]:
        """Images of the training runs that come after the training images.

        Kind of particle -> ``SETS`` sets to compare with, and one that is compared (the floor).
        """
        data = self.config.data
        assert isinstance(data, SimulatedData)
        known = data.simulation.counts["train"]
        counts = {name: known[name] + (SETS + 1) * UNSEEN for name in JUDGED}
        simulation = data.simulation.model_copy(update={"counts": {"train": counts}})
        plan = plan_images(simulation)
        simulator = Simulator(simulation, data.image_size, data.seed)
        rendered: dict[str, NDArray[np.uint8]] = {}
        for name, rows in plan.groupby("label"):
            new = rows[known[str(name)] :]
            rendered[str(name)], _ = simulator.render(
                new["label"].tolist(), new["index"].to_numpy(), new["session"].to_numpy()
            )
        compared_with = {name: images[:-UNSEEN] for name, images in rendered.items()}
        floor = by_kind({name: images[-UNSEEN:] for name, images in rendered.items()})
        return self._described(compared_with), floor

    def measures(self, kind: str, images: NDArray[np.uint8], real: Real) -> dict[str, float]:
        """Of images of one kind against real ones that the network has not seen, in equal sets.

        KID (in thousandths) is of features standardised on the real training images of the kind:
        else a few large bubbles, far from the common centre, outweigh everything in its kernel.
        """
        size = min(len(real.images), len(images))
        described = describe(self.network, images[:size])
        known, label = self.train[kind].features, self.store.class_names.index(KINDS[kind])
        ends = range(size, len(real.images) + 1, size)
        sets = [compare(real.features[end - size : end], described.features, known) for end in ends]
        return {name: float(np.mean([one[name] for one in sets])) for name in sets[0]} | {
            "recognised": float((described.probabilities.argmax(axis=1) == label).mean()),
            "power": fine_power(images) / fine_power(real.images),
        }

    def copies(self, images: Images) -> str:
        """The verdict on copies of training images, the worse of both classes."""
        found = [
            pixel_closeness(self.real("train", n), self.real("val", n), images[n]).found.verdict
            for n in JUDGED
        ]
        return next(v for v in ("copies", "close", "novel") if v in found)

    def _described(self, images: Images) -> dict[str, Real]:
        """Kind of particle -> images and features."""
        kinds = by_kind(images).items()
        return {kind: Real(part, describe(self.network, part).features) for kind, part in kinds}


def compare(there: Features, made: Features, known: Features) -> dict[str, float]:
    """Measures of one set of images against as many real ones; ``known`` gives the units of KID."""
    centre, scale = known.mean(axis=0), known.std(axis=0)
    return {
        "auc": two_sample_auc(there, made),
        "kid": 1000 * kernel_distance((there - centre) / scale, (made - centre) / scale),
        "fd": frechet_distance(there, made),
        "recall": manifold_coverage(there, made)["recall"],
    }


def fine_power(images: NDArray[np.uint8]) -> float:
    """Median power of images (n, N, N) at ``FINE_WAVES``, where real ones lose their detail."""
    size = images.shape[-1]
    window = np.outer(np.hanning(size), np.hanning(size))
    grey = images - images.mean(axis=(1, 2), keepdims=True)
    power = np.abs(np.fft.rfft2(grey * window)) ** 2
    waves = np.hypot(np.fft.fftfreq(size, 1 / size)[:, None], np.arange(size // 2 + 1))
    fine = (waves >= FINE_WAVES[0]) & (waves < FINE_WAVES[1])
    return float(np.median(power, axis=0)[fine].mean())


def by_kind(images: Images) -> dict[str, NDArray[np.uint8]]:
    """Class name -> images to kind of particle -> images."""
    air = images["air_bubble"]
    large = (air < DARK).mean(axis=(1, 2)) > DARK_SHARE
    return dict(zip(KINDS, (air[~large], air[large], images["silicone_oil"]), strict=True))


def main() -> None:
    """Score every finished run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=WORK)
    parser.add_argument("--out", type=Path, default=HERE)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    judge = Judge(arguments.work)
    runs = [
        path.parent
        for recipe in RECIPES
        for path in sorted(arguments.work.glob(f"{recipe}_seed*/facts.json"))
    ]
    lines = [HEADER, "|---" * HEADER.count(" | ") + "|---|"]
    real, others = judge.unseen()

    def add(name: str, images: Images, facts: Any = None) -> None:
        for kind, part in images.items():
            found = judge.measures(kind, part, real[kind])
            found["other_runs"] = judge.measures(kind, part, judge.heldout[kind])["auc"]
            lines.append(row(name, kind, found, facts))
            print(lines[-1], flush=True)

    add("real images (floor)", others)
    made = {}
    for run in runs:
        facts = json.loads((run / "facts.json").read_text(encoding="utf-8"))
        made[run.name] = images = load_images(run)
        facts["copies"] = judge.copies(images)
        add(run.name.replace("_seed", ", seed "), by_kind(images), facts)
    (arguments.out / "table.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for name in JUDGED:
        panels = {"real, held out": judge.real("val", name)[:32]}
        for recipe, title in SHOWN.items():
            if f"{recipe}_seed0" in made:
                panels[title] = made[f"{recipe}_seed0"][name][:32]
        sheet = contact_sheet(panels, columns=8, title=f"{display_name(name)}, 64 px")
        save_figure(sheet, arguments.out / f"sheet_{name}.png")


def load_images(run: Path) -> dict[str, NDArray[np.uint8]]:
    """Class name -> images of a run."""
    with np.load(run / "images.npz") as held:
        return {name: held[name] for name in held.files}


def row(
    name: str, kind: str, found: Mapping[str, float], facts: Mapping[str, Any] | None = None
) -> str:
    """One line of the table."""
    cells = [
        name,
        kind,
        f"{found['auc']:.3f}",
        f"{found['other_runs']:.2f}",
        f"{found['kid']:.0f}",
        f"{found['fd']:.1f}",
        f"{100 * found['recall']:.0f} %",
        f"{100 * found['recognised']:.1f} %",
        f"{found['power']:.1f}",
        str(facts["copies"]) if facts else "–",
        f"{facts['training_seconds']:.0f}" if facts else "–",
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
