import subprocess
import sys
from typing import Any

import pytest

from svp_lightning.errors import SettingsError
from svp_lightning.simulation.settings import SimulationSettings
from tests.configured import simulation, simulation_values


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"counts": {"train": {"glass": 3}}}, "glass"),
        ({"counts": {"train": {"protein": -1}}}, "protein"),
        ({"counts": {"train": {"protein": 0}}}, "protein"),
        ({"counts": {"holdout": {"protein": 3}}}, "holdout"),
        ({"counts": {"train": {}}}, "counts"),
        ({"source_points": 10}, "source_points"),
        ({"sessions_per_split": {"train": 0}}, "train"),
        ({"optics": {"objective_na": [0.4, 0.3]}}, "objec"),
        ({"optics": {"condenser_na": [0.1, 0.3]}}, "conden"),
        ({"large_bubble_share": 1.5}, "large_bubble_share"),
        ({"workers": -2}, "workers"),
    ],
)
def test_bad_settings_are_refused_by_name(values: dict[str, Any], named: str) -> None:
    with pytest.raises(SettingsError) as caught:
        SimulationSettings.parse(simulation_values(**values), "data")
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


def test_workers_and_chunks_do_not_change_the_identity() -> None:
    a = simulation(workers=0, chunk_size=5)
    b = simulation(workers=8, chunk_size=500)
    c = simulation(source_points=9)
    assert a.identity() == b.identity() != c.identity()


def test_settings_come_without_torch_or_numpy() -> None:
    code = (
        "import sys, svp_lightning.simulation.settings; print({'torch', 'numpy'} & {*sys.modules})"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "set()"
