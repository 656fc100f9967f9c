"""How real are the simulated images? Compares them with labelled real crops.

    python experiments/simulator_realism/realism.py --crops FOLDER --work FOLDER \
        [--part development|held_out|even] [--out FOLDER]

``--crops`` holds ``real_silicone_oil/NN.png`` and ``real_air_bubble/NN.png`` (64 px, grey). They
are read, never copied; figures show distributions and averages of them only. ``--work`` keeps
rendered images and trained networks, so that a second call resumes; take
a fresh one after changing the simulator. Settings are chosen on crops of odd numbers.
"""

import argparse
import json
import math
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from crop_network import predict, small_network, train
from crops import Part, as_printed, read_real
from figures import distributions, sheet
from numpy.typing import NDArray
from simple_features import feature_table, single_feature_aucs, two_sample_auc

from svp_lightning.__main__ import configured
from svp_lightning.data.classes import AIR_BUBBLE, PAPER_CLASSES
from svp_lightning.simulation.simulator import Simulator
from svp_lightning.stages.settings import SimulatedData

VARIANTS: dict[str, dict[str, tuple[float, ...]]] = {
    "pure physics": {"air_indices": (1.0,), "air_halo_gain": (1.0, 1.0)},
    "discrepancy model": {},
}
"""Small air bubbles as physics has them, and as the simulator's defaults change them."""
SESSIONS = 40
COMPARED = 400
"""Simulated images per class in the two-sample test."""

Images = dict[str, NDArray[np.uint8]]


def simulated(variant: str, count: int, work: Path) -> Images:
    """Class name -> uint8 (count, 64, 64) as printed; image i belongs to run i % SESSIONS."""
    found = {}
    for name in PAPER_CLASSES:
        part = f"_{variant.replace(' ', '_')}" if name == AIR_BUBBLE else ""
        path = work / f"images_{name}_{count}{part}.npy"
        if not path.exists():
            print(f"rendering {count} of {name}, {variant}", flush=True)
            data = configured("data.simulation.crop=box").data
            assert isinstance(data, SimulatedData)
            settings = data.simulation.model_copy(update=VARIANTS[variant])
            rows = np.arange(count)
            images, _ = Simulator(settings, 64, seed=11).render(
                [name] * count, rows, rows % SESSIONS
            )
            unfinished = path.with_suffix(".part.npy")
            np.save(unfinished, as_printed(images))
            unfinished.rename(path)
        found[name] = np.load(path)
    return found


def trained(variant: str, images: Images, epochs: int, seed: int, work: Path) -> torch.nn.Module:
    """The network of one seed, from ``work`` if it is there."""
    path = work / f"network_{variant.replace(' ', '_')}_{seed}.pt"
    if not path.exists():
        labels = np.repeat(np.arange(3), [len(images[name]) for name in PAPER_CLASSES])
        stacked = np.concatenate([images[name] for name in PAPER_CLASSES])
        torch.save(train(stacked, labels, epochs, seed).state_dict(), path)
    network = small_network(3)
    network.load_state_dict(torch.load(path, weights_only=True))
    return network.eval()


def wilson(share: float, n: int, z: float = 1.96) -> list[float]:
    """95 % score interval of a share that may be a mean over seeds (Wilson 1927)."""
    centre, shrink = share + z * z / (2 * n), 1 + z * z / n
    width = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return [round((centre - width) / shrink, 3), round((centre + width) / shrink, 3)]


def accuracy(networks: list[torch.nn.Module], real: Images) -> dict[str, object]:
    """Share of real crops right, three-way; the interval counts crops, not crops times seeds."""
    right, mistaken = [], []
    for name, images in real.items():
        probabilities = np.stack([predict(network, images) for network in networks])
        truth, chosen = PAPER_CLASSES.index(name), probabilities.argmax(-1)
        right.append(chosen == truth)
        for crop in np.flatnonzero((chosen != truth).any(0)):
            said = [PAPER_CLASSES[c] for c in chosen[:, crop]]
            mistaken.append(f"{name} {crop}: {', '.join(said)}")
    every = np.concatenate(right, axis=1)
    crops = every.shape[1]
    return {
        "crops": crops,
        "each seed": [round(float(seed), 3) for seed in every.mean(1)],
        "mean": round(float(every.mean()), 3),
        "interval": wilson(float(every.mean()), crops),
        "by class": {n: round(float(r.mean()), 3) for n, r in zip(real, right, strict=True)},
        "mistaken": mistaken,
    }


def telling_apart(real: Images, other: Images | None, fake: Images) -> dict[str, object]:
    """Two-sample AUC per class and what tells; with ``other``, the development half, a floor."""
    groups = np.arange(COMPARED) % SESSIONS
    found: dict[str, object] = {}
    for name, images in real.items():
        ours, theirs = feature_table(images), feature_table(fake[name][:COMPARED])
        single = list(single_feature_aucs(ours, theirs).items())[:6]
        result: dict[str, object] = {
            "real vs simulated": two_sample_auc(ours, theirs, groups),
            "most telling (AUC, real, simulated)": {n: np.round(v, 3).tolist() for n, v in single},
        }
        if other:
            rest = feature_table(other[name])
            both = np.concatenate([ours, rest])
            result["with the development half vs simulated"] = two_sample_auc(both, theirs, groups)
            result["vs development half, real"] = two_sample_auc(ours, rest, np.arange(len(rest)))
        found[name] = result
    return found


def main() -> None:
    """Render, train, score and draw; prints and writes ``results_<part>.json``."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--crops", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--part", choices=get_args(Part), default="development")
    parser.add_argument("--out", type=Path, default=None, help="results and figures (--work)")
    parser.add_argument("--images", type=int, default=2000, help="training images per class")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=3, help="0 trains nothing")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    part: Part = arguments.part
    out = arguments.out or arguments.work
    arguments.work.mkdir(parents=True, exist_ok=True)
    out.mkdir(parents=True, exist_ok=True)
    real = read_real(arguments.crops, part)
    other = read_real(arguments.crops, "development") if part != "development" else None
    results: dict[str, object] = {"part": part}
    for variant in VARIANTS:
        images = simulated(variant, arguments.images, arguments.work)
        networks = [
            trained(variant, images, arguments.epochs, seed, arguments.work)
            for seed in range(arguments.seeds)
        ]
        results[variant] = {
            "accuracy": accuracy(networks, real) if networks else None,
            "two-sample AUC": telling_apart(real, other, images),
        }
        tables = [
            {name: feature_table(group[name][:COMPARED]) for name in real}
            for group in (real, images)
        ]
        name = f"distributions_{part}_{variant.replace(' ', '_')}.png"
        distributions(real, images, tables[0], tables[1], out / name)
    sheet(images["protein"][:96], 16, out / "protein_simulated.png")
    (out / f"results_{part}.json").write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
