import ast
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from svp_lightning.evaluation.fidelity.stored import Fidelity
from svp_lightning.generator.checkpoint import GeneratorInfo
from svp_lightning.report.model_card import Card, measures, write_model_card
from tests import configured

from .made_up import made_up_fidelity

FIDELITY = Fidelity.model_validate(made_up_fidelity())


def card(**changes: Any) -> Card:
    info = GeneratorInfo(
        settings=configured.generator(),
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
        "sampler": configured.sampler().model_dump(mode="json"),
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


def test_sizes_and_hashes_are_stated(tmp_path: Path) -> None:
    text = text_of(tmp_path, card())
    for fact in ("3,000", "4.1 M", "32 × 32 px", "0.5 µm/px", "f00d", "abc"):
        assert fact in text


def test_names_of_classes_are_no_markup_and_no_code(tmp_path: Path) -> None:
    name = '<img src=x onerror=f()> ![a](https://b.c/d) | "]); quit() #'
    info = card().generator
    training = info["training"] | {"images": {name: 300}}
    hostile = card(generator={**info, "class_names": [name], "training": training})
    before, code, after = re.split(r"```python\n|```", text_of(tmp_path, hostile))
    assert not re.search(r"<img|\]\(https://b", before + after)
    assert (before + after).count(r"onerror=f()> ![a]\(https://b.c/d) \| ") >= 2
    labels = [node.value for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Constant)]
    assert labels.count(name) == 3


def test_unmeasured_fidelity_is_said(tmp_path: Path) -> None:
    assert "Not measured" in text_of(tmp_path, card())
    measured = text_of(tmp_path, card(fidelity=FIDELITY))
    assert "Not measured" not in measured
    assert "| Air bubble, Features | Kid | 0.0123 | 0.01 to 0.015 | 0.002 |" in measured
    assert "- Air bubble: no sign of copying. None of 300" in measured
    assert "noticed only from 5.0 %" in measured


def test_every_measure_is_listed_once() -> None:
    found = [(one.of, one.name) for one in measures(FIDELITY)]
    assert len(found) == len(set(found)) == 7 + 1 + 2 * 7 + 2 * 3 + 1


@pytest.mark.parametrize(("licence", "said"), [("other", "Not chosen yet"), ("mit", "mit. The")])
def test_licence_of_own_images_is_left_open(tmp_path: Path, licence: str, said: str) -> None:
    assert said in text_of(tmp_path, card(licence=licence))
