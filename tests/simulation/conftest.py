import pytest

from svp_lightning.simulation.settings import SimulationSettings
from tests.configured import simulation


@pytest.fixture(scope="session")
def settings() -> SimulationSettings:
    """All classes in all splits, few images, few sessions, few source points."""
    counts = {"protein": 6, "silicone_oil": 4, "air_bubble": 4}
    return simulation(
        counts={"train": counts, "val": counts, "test": counts},
        sessions_per_split={"train": 2, "val": 1, "test": 2},
        source_points=9,
        chunk_size=10,
        workers=0,
    )
