"""Images of one run share its camera and light, so random splits are optimistic."""

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from svp_lightning.simulation.simulator import Simulator
from tests.configured import simulation

RUNS, PER_RUN = 6, 40
SETTINGS = simulation(source_points=9)


def border_features(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """What an empty rim shows: level, gradients, noise, column pattern; no particle needed."""
    rim = images.astype(float)
    level = np.median(rim[:, [0, 1, -2, -1]], axis=(1, 2))
    across = rim[:, :, -3:].mean((1, 2)) - rim[:, :, :3].mean((1, 2))
    down = rim[:, -3:].mean((1, 2)) - rim[:, :3].mean((1, 2))
    edges = np.concatenate([rim[:, :3], rim[:, -3:]], axis=1)
    noise = np.diff(edges, axis=2).std((1, 2))
    columns = edges.mean(1) - edges.mean((1, 2))[:, None]
    return np.column_stack([level, across, down, noise, columns])


def test_a_run_is_recognised_by_its_background() -> None:
    """By a linear model on rims of images that it has not seen."""
    rows = np.arange(RUNS * PER_RUN)
    images, _ = Simulator(SETTINGS, 32, seed=4).render(["protein"] * rows.size, rows, rows % RUNS)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
    folds = StratifiedKFold(4, shuffle=True, random_state=0)
    features = border_features(images)
    # Chance is 1/6; of 240 guesses 0.24 would be three standard errors above it.
    assert cross_val_score(model, features, rows % RUNS, cv=folds).mean() > 0.4
