"""At which noise a generator loses the detail of real droplets.

    python lost_detail.py ../../outputs/where_images_pay ../../artifacts GENERATOR [GENERATOR ...]

Real droplets that no repetition of ``experiments/where_images_pay`` uses get noise of a ratio
sigma / alpha, and are brought back in two ways: in one step, where the error is set against that of
the best linear filter (Wiener's, of the spectrum of other droplets); and by the sampler from there
to the end, where a classifier separates them from real validation droplets. Then droplets are drawn
from noise alone, set against the unused ones as in ``guided.py``; those of the first two generators
are shown on ``sheet_drawn.png``. A ``GENERATOR`` is the folder of one trained on some of the other
droplets.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from guided import DROPLETS, Images, Judge
from guided import HEADER as DRAWN_HEADER
from numpy.typing import NDArray
from scipy.fft import dctn, idctn

from svp_lightning.data.store import Store
from svp_lightning.data.transforms import to_model_range
from svp_lightning.evaluation.fidelity.measures import frechet_distance, two_sample_auc
from svp_lightning.generator.checkpoint import Generator, load_generator
from svp_lightning.generator.drawing import sample
from svp_lightning.generator.noise import gaussian, image_seeds
from svp_lightning.report.figures.sheets import contact_sheet
from svp_lightning.report.style import save_figure
from svp_lightning.stages.generator_training import SAMPLER

RATIOS = (0.02, 0.05, 0.1, 0.3, 0.8, 2.0, 5.0)
COUNT = 280
HALF_RANGE = 127.5
"""Grey levels of 1 in [-1, 1]."""
STEPS, REDRAWN_STEPS, SHOWN = 12, 8, 48
HEADER = "| generator | sigma / alpha | noise | linear filter | generator | AUC | FD |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", type=Path)
    parser.add_argument("artifacts", type=Path)
    parser.add_argument("generators", nargs="+", type=Path)
    parser.add_argument("--seeds", nargs="+", type=int, default=[6, 7])
    parser.add_argument("--ratios", nargs="*", type=float, default=list(RATIOS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    store = Store.open(next((arguments.artifacts / "store").glob("*/manifest.json")).parent)
    judge = Judge(arguments.study, store, arguments.seeds)
    unused = np.asarray(judge.unused[:COUNT])
    heldout = judge.features(store.images[store.indices("val", judge.label)])
    print(HEADER + "\n" + "|---" * HEADER.count(" | ") + "|---|")
    print(f"| real (floor) | 0 | 0 | – | – | {likeness(judge, heldout, unused)} |", flush=True)
    for folder in arguments.generators:
        generator = load_generator(folder)
        for ratio in arguments.ratios:
            clean, noisy, answer = denoised(generator, unused, ratio)
            errors = (noisy - clean, filtered(noisy, ratio, judge.known) - clean, answer - clean)
            cells = [f"{HALF_RANGE * np.sqrt(np.mean(error**2)):.1f}" for error in errors]
            near = likeness(judge, heldout, drawn(generator, ratio, unused))
            print(f"| {folder.name} | {ratio:g} | {' | '.join(cells)} | {near} |", flush=True)
    print("\n" + DRAWN_HEADER + "\n" + "|---" * DRAWN_HEADER.count(" | ") + "|---|")
    panels = {"real": unused[:SHOWN]}
    for folder in arguments.generators:
        images = drawn(load_generator(folder))
        print(judge.row(images, folder.name), flush=True)
        panels[folder.name] = images[:SHOWN]
    sheet = contact_sheet(dict(list(panels.items())[:3]), columns=8, title="Silicone oil, 32 px")
    save_figure(sheet, Path(__file__).parent / "sheet_drawn.png")


def likeness(judge: Judge, heldout: NDArray[np.float32], images: Images) -> str:
    """Two-sample AUC and Fréchet distance of droplets from held-out ones, two cells."""
    made = judge.features(images)
    distance = frechet_distance(heldout[: len(made)], made)
    return f"{two_sample_auc(heldout, made):.2f} | {distance:.1f}"


@torch.inference_mode()
def denoised(generator: Generator, images: Images, ratio: float) -> tuple[NDArray[np.float32], ...]:
    """Images, the same with noise of a ratio, and the network's answer; (n, H, W) in [-1, 1]."""
    denoiser = generator.denoiser
    schedule, clean = denoiser.schedule, to_model_range(torch.from_numpy(images)[:, None])
    step = int(np.abs(np.log(np.array(schedule.noise_ratio) / ratio)).argmin())
    t = torch.full((len(clean),), step)
    seeds = torch.from_numpy(image_seeds(0, DROPLETS, 0, len(clean)))
    noisy = schedule.add_noise(clean, gaussian(seeds, 0, *images.shape[1:]), t)
    labels = torch.full_like(t, generator.label_of(DROPLETS))
    parts = zip(noisy.split(64), t.split(64), labels.split(64), strict=True)
    answer = torch.cat([schedule.x_0(denoiser(*part), part[0], part[1]) for part in parts])
    scaled = noisy / schedule.alpha[step]
    return clean[:, 0].numpy(), scaled[:, 0].numpy(), answer[:, 0].numpy()


def filtered(noisy: NDArray[np.float32], ratio: float, known: Images) -> NDArray[np.float32]:
    """The linear estimate of least error of images (n, H, W) from others of the same kind."""
    others = to_model_range(torch.from_numpy(np.asarray(known))).numpy()
    centre = others.mean()
    power = (dctn(others - centre, axes=(1, 2), norm="ortho") ** 2).mean(axis=0)
    kept = dctn(noisy - centre, axes=(1, 2), norm="ortho") * power / (power + ratio**2)
    found: NDArray[np.float32] = idctn(kept, axes=(1, 2), norm="ortho") + centre
    return found


def drawn(generator: Generator, ratio: float | None = None, starts: Images | None = None) -> Images:
    """Droplets from noise alone, or what the sampler makes of images noised to a ratio."""
    chosen = {
        "steps": STEPS if ratio is None else REDRAWN_STEPS,
        "start_ratio": ratio,
        "reorient": generator.info.settings.symmetry,
    }
    labels = np.full(COUNT, generator.label_of(DROPLETS))
    seeds = image_seeds(1, DROPLETS, 0, COUNT)
    sampler = SAMPLER.model_copy(update=chosen)
    return sample(generator.denoiser, labels, seeds, sampler, starts=starts)


if __name__ == "__main__":
    main()
