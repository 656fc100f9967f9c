import json

import pytest

from svp_lightning.errors import ArtifactError
from svp_lightning.evaluation.fidelity.stored import Fidelity, read_fidelity
from svp_lightning.evaluation.schema import Results, read_results
from svp_lightning.runtime.files import write_json
from tests.report.made_up import made_up_fidelity, made_up_results

NAMES = ("protein", "silicone_oil", "air_bubble")
SLICE = {"column": "ecd_um", "slice": "5 to 10", "class": "protein", "images": 3, "recall": 0.5,
         "ci95": [0.1, 0.9]}  # fmt: skip


@pytest.fixture
def values():
    return made_up_results() | {"slices": [SLICE]}


def test_round_trip_keeps_the_contract(tmp_path, values):
    path = tmp_path / "results.json"
    write_json(path, Results.model_validate(values).model_dump(mode="json"))
    stored = json.loads(path.read_text())
    for part in ("metrics", "ci95", "slices", "prevalence", "counts"):
        assert stored[part] == values[part]
    results = read_results(path)
    assert results.class_names == NAMES
    assert results.metrics.macro_f1 == values["metrics"]["macro_f1"]
    again = tmp_path / "again.json"
    write_json(again, results.model_dump(mode="json"))
    assert again.read_bytes() == path.read_bytes()
    low, high = results.ci95.per_class["air_bubble"].auprc
    assert low <= results.metrics.per_class["air_bubble"].auprc <= high


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
        (("schema",), 2, "schema 2"),
        (("metrics", "macro_f1"), None, r"metrics\.macro_f1"),
        (("metrics", "accuracy"), 1.2, r"metrics\.accuracy"),
        (("ci95", "accuracy"), [0.9, 0.2], r"ci95\.accuracy"),
        (("ci95", "per_class", "protein"), None, "intervals of"),
        (("counts", "test", "protein"), None, r"counts\.test"),
        (("counts", "test", "protein"), -1, r"counts\.test\.protein"),
        (("prevalence",), {"dust": 1.0}, "prevalence"),
        (("rare_classes",), ["dust"], "rare_classes"),
        (("ci95", "accuracy"), [0.1, 0.2, 0.3], r"ci95\.accuracy"),
        (("surprise",), 1, "surprise"),
    ],
)
def test_wrong_files_are_named_with_the_place(tmp_path, values, path, new, named):
    file = tmp_path / "results.json"
    file.write_text(json.dumps(edit(values, path, new)))
    with pytest.raises(ArtifactError, match=named) as caught:
        read_results(file)
    assert str(file) in str(caught.value)


def test_names_of_classes_that_lead_elsewhere_are_refused(tmp_path):
    for name, read, values in (
        ("results.json", read_results, made_up_results()),
        ("fidelity.json", read_fidelity, made_up_fidelity()),
    ):
        file = tmp_path / name
        file.write_text(json.dumps(values).replace("air_bubble", "../../air_bubble"))
        with pytest.raises(ArtifactError, match=r"'\.\./\.\./air_bubble' cannot name a class"):
            read(file)


@pytest.mark.parametrize("content", ["", "[1]", "{", "null"])
def test_broken_files_are_refused(tmp_path, content):
    file = tmp_path / "results.json"
    file.write_text(content)
    with pytest.raises(ArtifactError, match=r"results\.json"):
        read_results(file)
    with pytest.raises(ArtifactError, match="cannot be read"):
        read_results(tmp_path / "missing.json")


def test_fidelity_survives_its_file(tmp_path):
    path, values = tmp_path / "fidelity.json", made_up_fidelity()
    write_json(path, Fidelity.model_validate(values).model_dump(mode="json"))
    assert json.loads(path.read_text()) == values
    assert not read_fidelity(path).classes["air_bubble"].memorisation.pixel.both.significant
    del values["classes"]["air_bubble"]["memorisation"]["pixel"]["both"]
    path.write_text(json.dumps(values))
    with pytest.raises(ArtifactError, match=r"memorisation\.pixel\.both"):
        read_fidelity(path)
