import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Files that two processes wrote, by name."""
    out = tmp_path_factory.mktemp("two_processes")
    script = Path(__file__).with_name("two_processes.py")
    # A process of its own: forking is safe only before this one has started threads.
    done = subprocess.run(
        [sys.executable, script, out],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(script.parents[2])},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return {path.stem: dict(np.load(path)) for path in out.glob("*.npz")}


@pytest.mark.parametrize("num_images", [1, 5])
def test_every_process_has_every_image_once_even_if_it_tested_none(found, num_images):
    first, second = (found[f"test-{num_images}-{rank}"] for rank in (0, 1))
    np.testing.assert_array_equal(first["index"], np.arange(num_images))
    np.testing.assert_array_equal(first["label"], np.arange(num_images) % 3)
    assert first["probability"].shape == (num_images, 3)
    for name, values in first.items():
        np.testing.assert_array_equal(values, second[name])


def test_score_does_not_depend_on_the_number_of_processes(found):
    first, second, alone = (found[f"validated-{run}"] for run in ("2-0", "2-1", "1-0"))
    np.testing.assert_array_equal(first["weights"], second["weights"])
    np.testing.assert_array_equal(first["weights"], alone["weights"])
    assert first["score"] == second["score"] == pytest.approx(float(alone["score"]), abs=1e-6)


@pytest.mark.parametrize(
    ("one", "two", "rounding"),
    [("alone-1-0", "validated-2-0", 2e-4), ("alone_parts-1-0", "both_parts-2-0", 2e-3)],
)
def test_a_global_batch_trains_alike_on_any_number_of_processes(found, one, two, rounding):
    """Weights and running statistics: each process normalises by the batches, or parts, of both."""
    alone, together = (found[run]["weights"] for run in (one, two))
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=rounding)


def test_a_batch_in_parts_is_normalised_by_its_parts(found):
    whole, parts = (found[f"{name}-1-0"]["weights"] for name in ("alone", "alone_parts"))
    assert abs(whole - parts).max() > 1


@pytest.mark.parametrize("name", ["generator", "in_parts"])
def test_a_generator_learns_from_both_processes_as_from_one(found, name):
    """Weights and their average: noise is that of each rank, gradients are those of both.

    Also where each process divides its share of a batch, which the one does not.
    """
    first, second, alone = (found[f"{name}-{run}"] for run in ("2-0", "2-1", "1-0"))
    np.testing.assert_array_equal(first["weights"], second["weights"])
    np.testing.assert_allclose(first["weights"], alone["weights"], rtol=1e-3, atol=1e-4)
    assert abs(alone["weights"] - alone["start"]).max() > 0.003
