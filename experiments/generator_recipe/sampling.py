"""Steps against quality against time, for every sampler, and a sweep of the guidance.

    python experiments/generator_recipe/sampling.py --recipe base

Draws from a generator that ``train.py`` has trained, and writes ``sampling.csv``, ``sampling.md``
and ``sampling.png`` next to this file. Every setting's result is kept in ``<work>/sampling``.
"""

import argparse
import json
import math
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from recipes import overrides
from score import Judge, is_large
from train import JUDGED, configuration, draw

from svp_lightning.__main__ import configured
from svp_lightning.generator.checkpoint import Generator, load_generator
from svp_lightning.generator.settings import SamplerSettings
from svp_lightning.pipeline import Pipeline
from svp_lightning.report.style import figure_style, new_figure, save_figure
from svp_lightning.runtime.files import sha256_of_json, write_json

HERE = Path(__file__).parent
STEPS: dict[str, tuple[int, ...]] = {
    "dpm_solver": (5, 8, 12, 20, 30),
    "ddim": (5, 8, 12, 20, 50),
    "ddpm": (20, 50, 100),
}
STEPS_64 = {"dpm_solver": (8, 12, 20, 30, 50), "ddim": (20, 50)}
GUIDANCE: tuple[dict[str, Any], ...] = (
    {"guidance": 1.0},
    {"guidance": 1.0, "spacing": "uniform"},
    {"guidance": 1.5},
    {"guidance": 2.0},
    {"guidance": 3.0},
    {"guidance": 2.0, "guidance_interval": (0.2, 2.0)},
    {"guidance": 3.0, "guidance_interval": (0.2, 2.0)},
)
GUIDANCE_64: tuple[dict[str, Any], ...] = (
    {"guidance": 1.0, "spacing": "uniform"},
    {"guidance": 1.5},
    {"guidance": 1.5, "guidance_interval": (0.2, 2.0)},
    {"guidance": 2.0, "guidance_interval": (0.2, 2.0)},
)
GUIDANCE_STEPS = 12
MARKERS = {
    "dpm_solver": ("o", "#332288"),
    "ddim": ("s", "#CC6677"),
    "ddpm": ("^", "#44AA99"),
}


def main() -> None:
    """Draw, score, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, choices=(32, 64), default=32, help="px")
    parser.add_argument("--recipe", default="base")
    parser.add_argument("--samplers", nargs="+", choices=STEPS, help="default: all")
    parser.add_argument("--images", type=int, default=100, help="of each class")
    parser.add_argument("--work", type=Path, default=Path("outputs/generator_recipe"))
    parser.add_argument("--out", type=Path, default=HERE)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    size, work = arguments.size, arguments.work / f"{arguments.size}px"
    config = configuration(work, overrides(arguments.recipe, 0, size))
    judge = Judge(work, size)
    generator = load_generator(Pipeline(config, work).generator)
    tried, sweep, tag = (STEPS, GUIDANCE, "") if size == 32 else (STEPS_64, GUIDANCE_64, "64")
    samplers = arguments.samplers or list(tried)
    steps = [
        configured(f"sampler={name}", f"sampler.steps={count}").sampler
        for name in samplers
        for count in tried[name]
    ]
    sweep = sweep if "dpm_solver" in samplers else ()
    guided = [
        config.sampler.model_copy(update={"steps": GUIDANCE_STEPS} | changes) for changes in sweep
    ]
    folder = work / "sampling" / arguments.recipe
    rows = [measured(s, generator, judge, folder, arguments.images) for s in [*steps, *guided]]
    table = pd.DataFrame(rows)
    table.to_csv(arguments.out / f"sampling{tag}.csv", index=False, float_format="%.4g")
    real = float(is_large(judge.real("val", "air_bubble")).mean())
    write_markdown(table, real, arguments.out / f"sampling{tag}.md")
    save_figure(figure(table[: len(steps)]), arguments.out / f"sampling{tag}.png")


def measured(
    settings: SamplerSettings, generator: Generator, judge: Judge, folder: Path, images: int
) -> dict[str, Any]:
    """KID and speed of one setting, from its file where it was measured before."""
    identity = {"sampler": settings.identity(), "images": images}
    file = folder / f"{sha256_of_json(identity)[:16]}.json"
    if not file.is_file():
        drawn, seconds = draw(generator, settings, images)
        distances = {k: v for k, v in judge.distances(drawn).items() if not math.isnan(v)}
        found = {"images_per_second": images / seconds, **distances}
        folder.mkdir(parents=True, exist_ok=True)
        write_json(file, identity | found)
    values: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    sampler = values.pop("sampler")
    interval = sampler["guidance_interval"]
    return {
        "sampler": sampler["name"],
        "steps": sampler["steps"],
        "spacing": sampler["spacing"] if sampler["name"] == "dpm_solver" else "uniform",
        "guidance": sampler["guidance"],
        "interval": "" if interval is None else f"{interval[0]:g} to {interval[1]:g}",
        **values,
    }


def write_markdown(table: pd.DataFrame, real: float, path: Path) -> None:
    """One line per setting; ``real``: the share of large bubbles among held-out real ones."""
    lines = [
        "| sampler | steps | guidance | KID × 1000, mean | silicone oil | air bubble "
        f"| taken for their class | large bubbles (real: {100 * real:.0f} %) | images/s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in table.to_dict("records"):
        guidance = f"{row['guidance']:g}" + (f" in {row['interval']}" if row["interval"] else "")
        cells = [
            f"{row['sampler']}, {row['spacing']}",
            str(row["steps"]),
            guidance,
            f"{row['kid']:,.0f} ± {row['kid_half']:,.0f}",
            *(f"{row[name]:,.0f} ± {row[f'{name}_half']:,.0f}" for name in JUDGED),
            " / ".join(f"{100 * row[f'{name}_recognised']:.0f}" for name in JUDGED) + " %",
            f"{100 * row['large']:.0f} %",
            f"{row['images_per_second']:.1f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def figure(table: pd.DataFrame) -> Figure:
    """KID against steps, and against images per second."""
    with figure_style():
        drawn = new_figure(7.2, 3.0)
        by_steps, by_speed = drawn.subplots(1, 2, sharey=True)
        for name, part in table.groupby("sampler", sort=False):
            marker, colour = MARKERS[str(name)]
            for axes, column in ((by_steps, "steps"), (by_speed, "images_per_second")):
                axes.errorbar(
                    part[column],
                    part["kid"],
                    yerr=part["kid_half"],
                    marker=marker,
                    markersize=4,
                    color=colour,
                    label=str(name),
                )
        for axes, label in ((by_steps, "steps"), (by_speed, "images per second")):
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_major_formatter("{x:g}")
            axes.xaxis.set_minor_formatter(NullFormatter())
            axes.set_xlabel(label)
        by_steps.set_ylabel("KID × 1000, held-out real images")
        by_steps.legend()
    return drawn


if __name__ == "__main__":
    main()
