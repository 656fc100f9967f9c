"""Which class do generated images show? What a well-trained classifier takes them for.

    python experiments/learning_curve/recognised.py --run outputs/oracle/RUN

``--run`` is a finished run that has learnt from far more real images than the generators. Prints a
Markdown table: the share taken for each class, of held-out real images and of every pool of
generated images below ``--artifacts`` with at least ``--least`` images.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from svp_lightning.classifier.module import ClassifierModule, load_classifier
from svp_lightning.data.store import Store
from svp_lightning.data.transforms import to_model_range

BATCH = 512


def main() -> None:
    """Read the command line and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--artifacts", type=Path, default=Path("artifacts"))
    parser.add_argument("--least", type=int, default=500, help="images of a pool")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    module = load_classifier(arguments.run / "classifier.ckpt")
    data = json.loads((arguments.run / "results.json").read_text())["provenance"]["data"]
    stores = [Store.open(f.parent) for f in arguments.artifacts.glob("store/*/manifest.json")]
    real = next(store for store in stores if store.sha256 == data)
    print(f"| images | shown as | {' | '.join(real.class_names)} |")
    print("|---|---|" + "---|" * len(real.class_names))
    for label, name in enumerate(real.class_names):
        row("real, test split", name, module, real, real.indices("test", label))
    for folder in sorted(arguments.artifacts.glob("synthetic/*/manifest.json")):
        pool = Store.open(folder.parent)
        if len(pool.images) < arguments.least:
            continue
        made_by = pool.manifest.made_by
        source = (
            f"generator {made_by['generator'][:8]}, guidance {made_by['sampler']['guidance']:g}"
        )
        for label, name in enumerate(pool.class_names):
            if len(rows := pool.indices(label=label)):
                row(source, name, module, pool, rows)


def row(
    source: str, name: str, module: ClassifierModule, store: Store, rows: NDArray[np.int64]
) -> None:
    """One line: the shares of the images at ``rows`` taken for each class."""
    taken = np.zeros(len(store.class_names))
    with torch.inference_mode():
        for start in range(0, len(rows), BATCH):
            images = torch.from_numpy(np.asarray(store.images[rows[start : start + BATCH]]))
            chosen = module(to_model_range(images.unsqueeze(1))).argmax(dim=1).numpy()
            taken += np.bincount(chosen, minlength=len(taken))
    shares = " | ".join(f"{100 * share:.1f} %" for share in taken / len(rows))
    print(f"| {source} | {name}, {len(rows):,} | {shares} |")


if __name__ == "__main__":
    main()
