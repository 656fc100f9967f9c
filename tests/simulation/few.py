"""Settings of the simulator for tests: few images, few sessions, few source points."""

from tests.configured import simulation

COUNTS = {"protein": 6, "silicone_oil": 4, "air_bubble": 4}
FEW = simulation(
    counts={"train": COUNTS, "val": COUNTS, "test": COUNTS},
    sessions_per_split={"train": 2, "val": 1, "test": 2},
    source_points=9,
    chunk_size=10,
    workers=0,
)
