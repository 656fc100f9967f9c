"""Images of one run share its camera and light, so random splits are optimistic."""

from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from svp_lightning.simulation import simulator
from svp_lightning.simulation.session import draw_session
from svp_lightning.simulation.simulator import Simulator
from tests.configured import simulation

RUNS, PER_RUN = 6, 40
SETTINGS = simulation(source_points=9)


def border_features(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """What an empty rim tells: level, gradients, noise, column pattern; no particle needed."""
    rim = images.astype(float)
    level = np.median(rim[:, [0, 1, -2, -1]], axis=(1, 2))
    across = rim[:, :, -3:].mean((1, 2)) - rim[:, :, :3].mean((1, 2))
    down = rim[:, -3:].mean((1, 2)) - rim[:, :3].mean((1, 2))
    edges = np.concatenate([rim[:, :3], rim[:, -3:]], axis=1)
    noise = np.diff(edges, axis=2).std((1, 2))
    columns = edges.mean(1) - edges.mean((1, 2))[:, None]
    return np.column_stack([level, across, down, noise, columns])


@cache
def simulated(class_name: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images in runs of equal numbers."""
    rows = np.arange(RUNS * PER_RUN)
    images, _ = Simulator(SETTINGS, 32, seed=4).render([class_name] * rows.size, rows, rows % RUNS)
    return images, rows % RUNS


def run_accuracy(images: NDArray[np.uint8], runs: NDArray[np.int64]) -> float:
    """How often a linear model on rims names the run of an image it has not seen."""
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
    folds = StratifiedKFold(4, shuffle=True, random_state=0)
    return float(cross_val_score(model, border_features(images), runs, cv=folds).mean())


def test_a_run_is_recognised_by_its_background() -> None:
    # Chance is 1/6; of 240 guesses 0.24 would be three standard errors above it.
    assert run_accuracy(*simulated("protein")) > 0.4


def test_runs_that_share_one_session_are_not_distinguished(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        simulator,
        "draw_session",
        lambda settings, size, seed, number: draw_session(settings, size, seed, 0),
    )
    simulated.cache_clear()
    try:
        images, runs = simulated("protein")
    finally:
        simulated.cache_clear()
    assert run_accuracy(images, runs) < 0.24
