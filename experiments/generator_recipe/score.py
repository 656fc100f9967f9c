"""Distance of every recipe's images to held-out real ones: table, figure and picture sheet.

    python experiments/generator_recipe/score.py
    python experiments/generator_recipe/score.py --size 64

Reads what ``train.py`` has made and writes ``table.csv``, ``table.md``, ``recipes.png`` and
a sheet of pictures of each class next to this file, at 64 px ``table64.csv`` and so on. The
features are those of ``task=assess``: of a network trained on the real training images. The
validation split is the held-out set; nothing is chosen on the test split.
"""

import argparse
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from recipes import setting
from train import JUDGED, configuration, load_facts

from svp_lightning.classifier.features import FeatureNetwork, describe, load_features
from svp_lightning.data.classes import display_name
from svp_lightning.data.store import Store
from svp_lightning.evaluation.fidelity.measures import frechet_distance, kernel_distance
from svp_lightning.evaluation.intervals import with_half_sample_intervals
from svp_lightning.evaluation.schema import Estimate
from svp_lightning.pipeline import Pipeline
from svp_lightning.report.figures.sheets import contact_sheet
from svp_lightning.report.style import figure_style, new_figure, save_figure

HERE = Path(__file__).parent
KILO = 1000
"""KID is printed in thousandths, as usual."""
DRAWS = 20
LIMIT = 1000
"""Values beyond it are written at the edge of the figure."""
SHOWN = {
    32: {
        "default": "ours",
        "default_long": "ours, long",
        "paper_rare_only_long": "paper's, long",
    },
    64: {"base": "base", "rare_only": "rare classes only", "default": "Muon"},
}
"""Recipes on the picture sheets and what they are called there."""
DARK, DARK_SHARE = 60, 0.25
"""A large bubble: more than this share of the window is darker than this grey level."""
FD_IMAGES = 300
"""FD depends on the number of images; runs with fewer get none."""
Images = Mapping[str, NDArray[np.uint8]]
Features = NDArray[np.float32]


class Judge:
    """The held-out real images and the network whose features they are compared in."""

    def __init__(self, work: Path, size: int = 32) -> None:
        pipeline = Pipeline(configuration(work, setting(size)), work)
        self.store: Store = pipeline.store
        self.network: FeatureNetwork = load_features(pipeline.features)
        train = {name: self._described(self.real("train", name)) for name in JUDGED}
        self._centre = {name: found.mean(axis=0) for name, found in train.items()}
        self._scale = {name: found.std(axis=0) for name, found in train.items()}
        self.heldout = {name: self.features(self.real("val", name), name) for name in JUDGED}

    def real(self, split: str, name: str) -> NDArray[np.uint8]:
        """The real images of a class."""
        label = self.store.class_names.index(name)
        return np.asarray(self.store.images[self.store.indices(split, label)])

    def features(self, images: NDArray[np.uint8], name: str) -> NDArray[np.float32]:
        """(n, H, W) -> (n, D), each feature standardised on the real training images of the class.

        The network's own scale is that of all classes together. On it, the cubic kernel lets a
        few large bubbles, far from the common centre, outweigh everything else.
        """
        features: NDArray[np.float32] = self._described(images) - self._centre[name]
        return features / self._scale[name]

    def _described(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return describe(self.network, images).features

    def distances(self, images: Images) -> dict[str, float]:
        """What the table holds of one run, each class and the mean of both.

        KID in thousandths with 95 % half-widths (``_half``), the same on feature vectors of equal
        length, which no outlier can sway (``direction``), of 300 images FD (``fd``), the share
        that is taken for its class (``recognised``), and that of large bubbles (``large``).
        """
        found: dict[str, float] = {}
        for name in JUDGED:
            made = self.features(images[name], name)
            estimate = kid(self.heldout[name], made)
            found |= {name: estimate.value, f"{name}_half": estimate.high - estimate.value}
            found[f"{name}_recognised"] = self.recognised(images[name], name)
            found[f"{name}_direction"] = kid(directions(self.heldout[name]), directions(made)).value
            enough = len(made) >= FD_IMAGES
            real, made = self.heldout[name][:FD_IMAGES], made[:FD_IMAGES]
            found[f"{name}_fd"] = frechet_distance(real, made) if enough else np.nan
        means = {
            kind: float(np.mean([found[name + kind] for name in JUDGED]))
            for kind in ("", "_direction", "_fd", "_recognised")
        }
        found["large"] = float(is_large(images["air_bubble"]).mean())
        halves = float(np.hypot(*(found[f"{name}_half"] for name in JUDGED))) / len(JUDGED)
        named = {"kid": means[""], "kid_half": halves, "kid_direction": means["_direction"]}
        return named | {"fd": means["_fd"], "recognised": means["_recognised"]} | found

    def recognised(self, images: NDArray[np.uint8], name: str) -> float:
        """Share of the images that the network takes for this class."""
        label = self.store.class_names.index(name)
        return float((describe(self.network, images).probabilities.argmax(axis=1) == label).mean())


def is_large(images: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """(n, H, W) -> (n,): bubbles that darken a good part of their window."""
    large: NDArray[np.bool_] = (images < DARK).mean(axis=(1, 2)) > DARK_SHARE
    return large


def kid(real: Features, made: Features) -> Estimate:
    """KID in thousandths with its interval."""
    return with_half_sample_intervals(
        lambda real, made: {"kid": kernel_distance(real, made) * KILO},
        real,
        made,
        DRAWS,
        seed=0,
        limits={"kid": (-math.inf, math.inf)},
    )["kid"]


def directions(features: Features) -> Features:
    """Feature vectors brought to one length, the root of their dimension."""
    length = np.linalg.norm(features, axis=1, keepdims=True)
    scaled: Features = features / length * features.shape[1] ** 0.5
    return scaled


def main() -> None:
    """Score every finished run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("outputs/generator_recipe"))
    parser.add_argument("--size", type=int, choices=(32, 64), default=32, help="px")
    parser.add_argument("--out", type=Path, default=HERE)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(arguments.threads)
    size, tag = arguments.size, "" if arguments.size == 32 else str(arguments.size)
    work = arguments.work / f"{size}px"
    judge = Judge(work, size)
    floor = {name: judge.real("train", name)[:300] for name in JUDGED}
    rows = [{"run": "real training images (floor)", "images": 300, **judge.distances(floor)}]
    # Training images are known to the network: the floor of this share is that of held-out ones.
    heldout = [judge.recognised(judge.real("val", name), name) for name in JUDGED]
    rows[0] |= {"recognised": float(np.mean(heldout))}
    rows[0] |= {f"{name}_recognised": x for name, x in zip(JUDGED, heldout, strict=True)}
    for run, known in load_facts(work).items():
        images = load_images(work, run)
        rows.append(
            {
                "run": run,
                "images": len(images[JUDGED[0]]),
                **judge.distances(images),
                "training_images": known["training_images"],
                "training_seconds": known["training_seconds"],
                "images_per_second": known["images_per_second"],
                "weights": known["weights"],
            }
        )
    table = pd.DataFrame(rows).sort_values("kid", ignore_index=True)
    write_table(table, arguments.out, tag)
    save_figure(figure(table), arguments.out / f"recipes{tag}.png")
    for name in JUDGED:
        save_figure(sheet(judge, work, size, name), arguments.out / f"sheet{tag}_{name}.png")


def load_images(work: Path, run: str) -> Images:
    """Class name -> images of a run."""
    with np.load(work / "runs" / run / "images.npz") as held:
        return {name: held[name] for name in held.files}


def write_table(table: pd.DataFrame, folder: Path, tag: str = "") -> None:
    """All numbers as CSV, the ones to read as Markdown."""
    table.to_csv(folder / f"table{tag}.csv", index=False, float_format="%.4g")
    lines = [
        "| recipe | KID × 1000, mean | silicone oil | air bubble | of directions | FD "
        "| taken for their class | training, s | images/s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in table.to_dict("records"):
        cells = [
            str(row["run"]).replace("_seed", ", seed "),
            f"{row['kid']:,.0f} ± {row['kid_half']:,.0f}",
            *(f"{row[name]:,.0f} ± {row[f'{name}_half']:,.0f}" for name in JUDGED),
            f"{row['kid_direction']:,.0f}",
            "–" if pd.isna(row["fd"]) else f"{row['fd']:.3g}",
            " / ".join(f"{100 * row[f'{name}_recognised']:.0f}" for name in JUDGED) + " %",
            *("–" if pd.isna(row[k]) else f"{row[k]:.3g}" for k in TIMES),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    (folder / f"table{tag}.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


TIMES = ("training_seconds", "images_per_second")


def figure(table: pd.DataFrame) -> Figure:
    """KID of every run with its interval, the best on top."""
    with figure_style():
        drawn = new_figure(6.4, 0.28 * len(table) + 1.0)
        axes = drawn.subplots()
        places = np.arange(len(table))[::-1]
        inside = (table["kid"] < LIMIT).to_numpy()
        shown = table[inside]
        axes.errorbar(
            shown["kid"],
            places[inside],
            xerr=shown["kid_half"],
            fmt="o",
            color="#332288",
            markersize=4,
        )
        for place, value in zip(places[~inside], table["kid"][~inside], strict=True):
            axes.text(LIMIT, place, f"{value:,.0f} →", ha="right", va="center")
        names = table["run"].str.replace("_seed", ", seed ").str.replace("_", " ")
        axes.set_yticks(places, names)
        axes.set_xlim(right=LIMIT)
        axes.set_ylim(-0.7, len(table) - 0.3)
        axes.set_xlabel("KID × 1000 against held-out real images (mean of both rare classes)")
    return drawn


def sheet(judge: Judge, work: Path, size: int, name: str) -> Figure:
    """Real images of a class and those of some recipes."""
    known = load_facts(work)
    panels = {"real, held out": judge.real("val", name)[:32]}
    for recipe, title in SHOWN[size].items():
        if f"{recipe}_seed0" in known:
            panels[title] = load_images(work, f"{recipe}_seed0")[name][:32]
    return contact_sheet(panels, columns=8, title=f"{display_name(name)}, {size} px")


if __name__ == "__main__":
    main()
