import json

import numpy as np
import pytest

from svp_lightning.errors import ArtifactError
from svp_lightning.evaluation.schema import Results, read_results, write_results
from svp_lightning.evaluation.tally import Tally, percentile_intervals

NAMES = ("protein", "silicone_oil", "air_bubble")


@pytest.fixture(scope="module")
def values():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [60, 20, 20])
    probabilities = rng.dirichlet([1, 1, 1], 100)
    tally = Tally(labels, probabilities, NAMES)
    counts = dict(zip(NAMES, (60, 20, 20), strict=True))
    return {
        "schema": 2,
        "task": "evaluate",
        "seed": 1,
        "backbone": "resnet50",
        "augmentation": {"method": "diffusion", "ratio": 1.0},
        "counts": {
            "train": counts,
            "synthetic": {"silicone_oil": 20},
            "test": counts,
            "validation": {},
        },
        "metrics": tally.metrics(),
        "ci95": percentile_intervals(tally.redrawn(resamples=20), NAMES),
        "provenance": {
            "data": "ab",
            "generator": None,
            "synthetic": None,
            "config": "cd",
            "git": None,
            "packages": {"torch": "2"},
            "device": "cpu",
            "wall_seconds": 1.5,
            "host": "kept",
        },
    }


def test_round_trip_keeps_the_contract(tmp_path, values):
    path = tmp_path / "results.json"
    write_results(path, Results.model_validate(values))
    # Every value given is kept as it is; fields with defaults may join them.
    assert json.loads(path.read_text()).items() >= values.items()
    results = read_results(path)
    assert results.class_names == NAMES
    assert results.metrics.macro_f1 == values["metrics"]["macro_f1"]
    again = tmp_path / "again.json"
    write_results(again, results)
    assert again.read_bytes() == path.read_bytes()
    low, high = results.ci95.per_class["air_bubble"].auprc
    assert low <= results.metrics.per_class["air_bubble"].auprc <= high


def test_what_version_1_wrote_is_read(tmp_path, values):
    path = tmp_path / "results.json"
    path.write_text(json.dumps(values | {"schema": 1}))
    results = read_results(path)
    assert (results.schema_version, results.calibration, results.slices) == (1, None, ())


def edit(values, path, new):
    copied = json.loads(json.dumps(values))
    *parents, last = path
    part = copied
    for key in parents:
        part = part[key]
    if new is None:
        del part[last]
    else:
        part[last] = new
    return copied


@pytest.mark.parametrize(
    ("path", "new", "named"),
    [
        (("schema",), 3, "schema 3"),
        (("metrics", "macro_f1"), None, r"metrics\.macro_f1"),
        (("metrics", "accuracy"), 1.2, r"metrics\.accuracy"),
        (("ci95", "accuracy"), [0.9, 0.2], r"ci95\.accuracy"),
        (("ci95", "per_class", "protein"), None, "intervals of"),
        (("counts", "test", "protein"), None, r"counts\.test"),
        (("surprise",), 1, "surprise"),
    ],
)
def test_wrong_files_are_named_with_the_place(tmp_path, values, path, new, named):
    file = tmp_path / "results.json"
    file.write_text(json.dumps(edit(values, path, new)))
    with pytest.raises(ArtifactError, match=named) as caught:
        read_results(file)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("content", ["", "[1]", "{", "null"])
def test_broken_files_are_refused(tmp_path, content):
    file = tmp_path / "results.json"
    file.write_text(content)
    with pytest.raises(ArtifactError, match=r"results\.json"):
        read_results(file)
    with pytest.raises(ArtifactError, match="cannot be read"):
        read_results(tmp_path / "missing.json")
