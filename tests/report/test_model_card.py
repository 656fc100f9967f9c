from pathlib import Path
from typing import Any

import pytest
import yaml

from svp_lightning.generator.checkpoint import GeneratorInfo
from svp_lightning.generator.settings import GeneratorSettings, SamplerSettings
from svp_lightning.report.model_card import Card, measures, write_model_card

FIDELITY = {
    "classes": {
        "air_bubble": {
            "compared": 100,
            "features": {
                "kid": {
                    "generated": {"value": 0.0123, "low": 0.01, "high": 0.015},
                    "floor": {"value": 0.002, "low": 0.001, "high": 0.003},
                },
                "recall": {"generated": {"value": 0.5, "low": None, "high": None}, "floor": None},
            },
            "memorisation": {"verdict": "novel", "share": {"value": 0.0}},
        }
    },
    "provenance": {"generator": "f00d"},
}


def card(**changes: Any) -> Card:
    info = GeneratorInfo(
        settings=GeneratorSettings(),
        class_names=("protein", "air_bubble"),
        image_size=32,
        pixel_size_um=0.5,
        training={
            "data": "abc", "images": {"protein": 3000, "air_bubble": 300}, "processes": 1,
            "torch": "2.14", "machine": "x86_64",
        },
    )  # fmt: skip
    values: dict[str, Any] = {
        "generator": info.model_dump(mode="json"),
        "sampler": SamplerSettings().model_dump(mode="json"),
        "origin": "Simulated images.",
        "parameters": 4_100_000,
        "samples_per_class": 8,
        "fidelity": None,
        "licence": "apache-2.0",
        "weights_sha256": "f00d",
        "seconds": 12.0,
    }
    return Card(**values | changes)


def text_of(tmp_path: Path, card: Card) -> str:
    write_model_card(tmp_path / "README.md", card)
    return (tmp_path / "README.md").read_text(encoding="utf-8")


def test_front_matter_is_yaml(tmp_path: Path) -> None:
    text = text_of(tmp_path, card())
    front = yaml.safe_load(text.split("---")[1])
    assert text.startswith("---\n")
    assert front["license"] == "apache-2.0"
    assert front["library_name"] == "diffusers"


def test_sizes_and_hashes_are_told(tmp_path: Path) -> None:
    text = text_of(tmp_path, card())
    for fact in ("3,000", "4.1 M", "32 × 32 px", "0.5 µm/px", "f00d", "abc"):
        assert fact in text


def test_unmeasured_fidelity_is_said(tmp_path: Path) -> None:
    assert "Not measured" in text_of(tmp_path, card())
    measured = text_of(tmp_path, card(fidelity=FIDELITY))
    assert "Not measured" not in measured
    assert "| Air bubble, Features | Kid | 0.0123 | 0.01 to 0.015 | 0.002 |" in measured
    assert "- Air bubble: no sign of copies of training images\n" in measured


def test_copies_are_told_with_what_could_have_been_noticed(tmp_path: Path) -> None:
    excess = {
        "count": 9, "total": 300, "share": {"value": 0.03, "low": 0.01, "high": 0.05},
        "expected": 0.046, "p_value": 0.9, "threshold": 4.0,
    }  # fmt: skip
    finds = {"count": 0, "total": 300, "heldout_count": 0, "heldout_total": 150, "p_value": 1.0}
    space = {
        "closer": excess, "singular": excess, "copies": excess["share"], "median_distance": 1.0,
        "heldout_median_distance": 1.0, "verdict": "novel",
        "both": finds | {"smallest_share": 0.05}, "identical": finds | {"smallest_share": 0.04},
    }  # fmt: skip
    found = {"verdict": "novel", "pixel": space, "feature": space, "duplicates": excess}
    fidelity = {"classes": {"air_bubble": {"memorisation": found}}}
    assert (
        "- Air bubble: no sign of copies of training images. None of 300 generated images equals a "
        "training image. Copies that differ a little would be noticed only from 5.0 % of the "
        "images on.\n"
    ) in text_of(tmp_path, card(fidelity=fidelity))


def test_every_measure_is_listed() -> None:
    found = {(m.of, m.name): (m.value, m.interval, m.floor) for m in measures(FIDELITY)}
    assert found["Air bubble, Features", "Recall"] == ("0.5", "", "")
    assert len(found) == 3


@pytest.mark.parametrize(("licence", "said"), [("other", "Not chosen yet"), ("mit", "mit. The")])
def test_licence_of_own_images_is_left_open(tmp_path: Path, licence: str, said: str) -> None:
    assert said in text_of(tmp_path, card(licence=licence))
