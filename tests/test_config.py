"""What the parts of a configuration may not say together."""

from collections.abc import Callable
from typing import Any

import pytest

from svp_lightning.__main__ import configured
from svp_lightning.config import Config
from svp_lightning.errors import SettingsError

Composed = Callable[..., Config]
UNGUIDABLE = ("generator=paper", "sampler.guidance=2", "scale=tiny")


@pytest.fixture
def composed() -> Composed:
    def build(*overrides: str) -> Any:
        return configured(*overrides)

    return build


@pytest.mark.parametrize("task", ["sample", "evaluate", "train_classifier", "assess", "export"])
def test_guidance_of_a_generator_that_hid_no_class_is_refused_at_once(
    composed: Composed, task: str
) -> None:
    with pytest.raises(SettingsError, match=r"sampler\.guidance=2"):
        composed(*UNGUIDABLE, f"task={task}", "augmentation.ratio=1")


@pytest.mark.parametrize(
    "overrides",
    [
        ("augmentation=none",),
        ("task=train_generator",),
        ("task=export", "export.generator=/another"),
    ],
)
def test_guidance_does_not_matter_where_nothing_is_drawn(
    composed: Composed, overrides: tuple[str, ...]
) -> None:
    composed(*UNGUIDABLE, *overrides)
