from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from svp_lightning.data.mix import check_training_rows, train_rows
from svp_lightning.data.rarity import only_classes
from svp_lightning.data.store import Store
from svp_lightning.errors import SettingsError

NAMES = ("protein", "silicone_oil", "air_bubble")


@pytest.fixture
def real(make_store: Callable[..., Store]) -> Store:
    blocks = [("air_bubble", "train", 4), ("protein", "train", 20), ("silicone_oil", "train", 7)]
    return make_store([*blocks, ("air_bubble", "val", 3)], NAMES)


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("names", [("air_bubble",), ("air_bubble", "silicone_oil")])
def test_rows_are_those_of_the_classes(real: Store, names: tuple[str, ...], balanced: bool) -> None:
    whole = train_rows(real, balanced)
    part = only_classes(whole, names)
    check_training_rows(part)
    assert part.class_names == names
    true_names = np.array(real.class_names)[real.labels[part.row]]
    assert np.array_equal(np.array(names)[part.label], true_names)
    assert len(part) == sum(whole.real[name] for name in names)
    assert part.real == {name: whole.real[name] for name in names}
    assert part.rare == names
    counts = np.array(list(part.real.values()))
    expected = np.ones(len(names)) if balanced else counts
    np.testing.assert_allclose(part.trained_shares, expected / expected.sum())


def test_plentiful_class_alone_counts_as_rare(real: Store) -> None:
    assert only_classes(train_rows(real), ("protein",)).rare == ("protein",)


@pytest.mark.parametrize(
    ("names", "message"),
    [((), "at least one"), (("air_bubble",) * 2, "each once"), (("dust",), r"dust.*protein")],
)
def test_impossible_choices_are_refused(real: Store, names: Any, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        only_classes(train_rows(real), names)
