"""Train the released classifier on simulated images of many FlowCam-like and MFI-like instruments.

    python experiments/released_classifiers/train_released.py

Renders the instruments, trains one classifier on all of them, links ``<work>/classifier`` to its
folder. Finished work is skipped; a stopped rendering or training resumes.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from instruments import BASES, SIZE, instrument

from svp_lightning.__main__ import configured
from svp_lightning.config import Config
from svp_lightning.data.mix import mix
from svp_lightning.evaluation.priors import class_shares
from svp_lightning.pipeline import Pipeline
from svp_lightning.runtime.terminal import counting
from svp_lightning.simulation.settings import SimulationSettings
from svp_lightning.simulation.simulated_store import simulate_instruments
from svp_lightning.stages.classifier_training import build_classifier
from svp_lightning.stages.settings import SimulatedData

WORK = Path("outputs/released_classifiers")
COUNTS = {
    "train": (
        (*range(8), *range(16, 40)),
        {"protein": 450, "silicone_oil": 300, "air_bubble": 300},
    ),
    "val": (range(8, 10), {"protein": 250, "silicone_oil": 80, "air_bubble": 80}),
    "test": (range(12, 15), {"protein": 800, "silicone_oil": 120, "air_bubble": 120}),
}
"""Split -> numbers of the instruments of each family, with an optics in one split only, and
images of each instrument."""
SESSIONS = 4
PREVALENCE = {"protein": 1000.0, "silicone_oil": 1.0, "air_bubble": 1.0}
RECIPE = [
    "trainer=cpu",
    "classifier=resnet18_quarter",
    "classifier.stem_stride=2",
    "classifier.steps=6000",
    "classifier.validate_every=1000",
    "classifier.batch_size=64",
    "augmentation=classical",
    "augmentation.sampling={protein:2,silicone_oil:1,air_bubble:1}",
]


def main() -> None:
    """Render, train, link."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=WORK)
    parser.add_argument("--families", nargs="+", choices=BASES, default=list(BASES))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    chosen = plan(arguments.work, arguments.families)
    total = sum(settings.num_images for settings in chosen.values())
    with counting("Simulating", total) as progress:
        store = simulate_instruments(arguments.work / "store", chosen, SIZE, progress=progress)
    pipeline = Pipeline(configuration(arguments.work, RECIPE), arguments.work)
    config, names = pipeline.config, store.class_names
    use = dict(zip(names, class_shares(PREVALENCE, names).tolist(), strict=True))
    rows = mix(store, None, config.augmentation, seed=0)
    path = build_classifier(
        config.classifier, config.augmentation, 0, rows, use, pipeline.cache, pipeline.trainers
    )
    link = arguments.work / "classifier"
    link.unlink(missing_ok=True)
    link.symlink_to(path.resolve())


def plan(work: Path, families: Sequence[str]) -> dict[str, SimulationSettings]:
    """The instruments of the families by their names, with what is rendered of each."""
    settings = {}
    for family in families:
        usual = configuration(work, [f"data/instrument={BASES[family]}"]).data
        assert isinstance(usual, SimulatedData)
        for split, (numbers, counts) in COUNTS.items():
            for number in numbers:
                values = instrument(family, usual.simulation, number).model_dump()
                sessions = dict.fromkeys(COUNTS, SESSIONS)
                values |= {"counts": {split: counts}, "sessions_per_split": sessions, "workers": 0}
                one = SimulationSettings.parse(values, "data.simulation")
                settings[f"{family}-{number:02d}"] = one
    return settings


def configuration(work: Path, changes: list[str]) -> Config:
    """The typed settings of a command line."""
    places = (f"paths.artifacts={work / 'artifacts'}", f"paths.outputs={work / 'outputs'}")
    return configured(*changes, *places)


if __name__ == "__main__":
    main()
