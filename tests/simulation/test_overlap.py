import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier

from svp_lightning.data.classes import PAPER_CLASSES
from svp_lightning.simulation.simulator import Simulator
from tests.configured import simulation


def images(
    difficulty: float, count: int, start: int, session: int
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    settings = simulation(difficulty=difficulty, source_points=9, large_bubble_share=0.0)
    simulator = Simulator(settings, 16, seed=3)
    numbers = np.arange(start, start + count)
    parts = [
        simulator.render([name] * count, numbers, session + numbers % 4)[0]
        for name in PAPER_CLASSES
    ]
    return np.concatenate(parts).reshape(3 * count, -1), np.repeat(np.arange(3), count)


def error_rate(difficulty: float) -> float:
    """Of a forest on the pixels, on images of other sessions."""
    forest = RandomForestClassifier(80, random_state=0)
    forest.fit(*images(difficulty, count=100, start=0, session=0))
    unseen, labels = images(difficulty, count=100, start=10**6, session=100)
    return float((forest.predict(unseen) != labels).mean())


def test_a_simple_classifier_errs_more_as_the_difficulty_rises() -> None:
    easy, harder, hardest = (error_rate(difficulty) for difficulty in (0.0, 0.5, 1.0))
    assert easy < harder < hardest
    assert hardest > 1.5 * easy


def test_difficulty_is_a_matter_of_radius_and_focus() -> None:
    settings = simulation(difficulty=1.0, large_bubble_share=0.0)
    simulator, n = Simulator(settings, 16, seed=1), 80
    rows, zero = np.arange(n), np.zeros(n, np.int64)
    draws = {name: simulator.draw([name] * n, rows, zero) for name in PAPER_CLASSES}
    protein, oil, air = ([draw.particle for draw in draws[name]] for name in PAPER_CLASSES)
    assert {particle.morphology for particle in protein} == {"compact"}
    assert all(particle.defocus_um > 0 for particle in air)
    dark = [particle for particle in oil if particle.defocus_um < 0]
    assert 0.4 < len(dark) / n < 0.75  # the others are bright, as protein then is
    radii = [np.mean([particle.radius_um for particle in group]) for group in (dark, air)]
    assert abs(radii[0] / radii[1] - 1) < 0.1
    # Each physics is its own: what overlaps is the look.
    assert {particle.refractive_index for particle in oil} == {1.403}
    assert all(particle.refractive_index <= 1.3 for particle in air)
