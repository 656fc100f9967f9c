"""What may name a class: folders and pictures are named by it, wherever it was read."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from svp_lightning.data.classes import PAPER_CLASSES, ClassName
from tests.examples import examples

CHECKED = TypeAdapter(ClassName)


@pytest.mark.parametrize("name", [*PAPER_CLASSES, "Gelée", "öl", "µm > 10", "7", "a..b", "x" * 100])
def test_usual_names_are_kept(name: str) -> None:
    assert CHECKED.validate_python(name) == name


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../../escaped", "/etc", "a/b", "a\\b", ".hidden", " a", "a\0", "a\n",
     "\x1b[2J", "x" * 101, "\ud800"],
)  # fmt: skip
def test_names_that_lead_elsewhere_are_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        CHECKED.validate_python(name)


@given(st.text(st.sampled_from("ab./\\~ \0\n:é"), max_size=8))
@examples(200)
def test_a_name_that_passes_is_one_part_of_a_path(name: str) -> None:
    try:
        CHECKED.validate_python(name)
    except ValidationError:
        return
    assert Path("root", f"figure_{name}.png").parent == Path("root") == Path("root", name).parent
    assert Path("root", name).name == name
