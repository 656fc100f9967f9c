from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from svp_lightning.data.classes import PAPER_CLASSES
from svp_lightning.data.store import Store
from svp_lightning.simulation.label_noise import ambiguity, with_label_noise
from svp_lightning.simulation.settings import LabelNoiseSettings
from svp_lightning.simulation.simulated_store import simulate_store
from tests.configured import simulation

N = 3000
LIKE_ANOTHER = {("silicone_oil", "air_bubble"), ("air_bubble", "silicone_oil")}


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    label = rng.choice(PAPER_CLASSES, N)
    shapes = {"protein": ["compact", "film"], "air_bubble": ["sphere", "large_bubble"]}
    return pd.DataFrame(
        {
            "id": [f"p{i}" for i in range(N)],
            "label": label,
            "split": rng.choice(["train", "val", "test"], N),
            "morphology": [rng.choice(shapes.get(name, ["sphere"])) for name in label],
            "radius_um": rng.uniform(1, 5, N),
            "defocus_um": rng.uniform(-40, 40, N),
        }
    )


def noisy(table: pd.DataFrame, kind: str, rate: float, seed: int = 1) -> pd.DataFrame:
    noise = LabelNoiseSettings.parse({"kind": kind, "rate": rate}, "label_noise")
    return with_label_noise(table, noise, PAPER_CLASSES, 1.0, seed)


@pytest.mark.parametrize("kind", ["uniform", "confusion", "ambiguity"])
def test_the_truth_is_kept_and_the_test_images_stay_right(table: pd.DataFrame, kind: str) -> None:
    result = noisy(table, kind, 0.5)
    assert (result["true_label"] == table["label"]).all()
    assert ((result["label"] != result["true_label"]) == result["label_flipped"]).all()
    assert not result.loc[result["split"] == "test", "label_flipped"].any()
    assert result.loc[result["split"] == "train", "label_flipped"].any()
    assert result.loc[result["split"] == "val", "label_flipped"].any()


def test_uniform_flips_reach_every_class_at_the_rate(table: pd.DataFrame) -> None:
    train = noisy(table, "uniform", 0.2).query("split == 'train'")
    assert train["label_flipped"].mean() == pytest.approx(0.2, abs=0.04)
    assert len(set(zip(train["true_label"], train["label"], strict=True))) == 9


def test_confusions_are_those_people_make(table: pd.DataFrame) -> None:
    flips = noisy(table, "confusion", 0.5).query("label_flipped")
    pairs = set(zip(flips["true_label"], flips["label"], strict=True))
    assert pairs == {*LIKE_ANOTHER, ("protein", "silicone_oil")}
    assert set(flips.query("true_label == 'protein'")["morphology"]) == {"compact"}


def test_ambiguous_images_are_flipped_more_often(table: pd.DataFrame) -> None:
    train = noisy(table, "ambiguity", 0.8).query("split == 'train'")
    doubt = ambiguity(table).loc[train.index]
    assert doubt.between(0, 1).all()
    assert not train.loc[doubt == 0, "label_flipped"].any()
    clear, unclear = (doubt > 0) & (doubt < 0.4), doubt > 0.7
    assert train.loc[unclear, "label_flipped"].mean() > 2 * train.loc[clear, "label_flipped"].mean()


def test_flips_follow_the_image_not_its_place(table: pd.DataFrame) -> None:
    whole = noisy(table, "uniform", 0.3)
    part = noisy(table.iloc[500:700], "uniform", 0.3)
    assert part.equals(whole.iloc[500:700])
    assert (noisy(table, "uniform", 0.3, seed=2)["label"] != whole["label"]).any()
    assert not noisy(table, "uniform", 0.0)["label_flipped"].any()


def test_a_store_labels_its_images_with_the_noisy_label(tmp_path: Path) -> None:
    counts = {"protein": 8, "silicone_oil": 8, "air_bubble": 8}
    settings = simulation(
        counts={"train": counts, "test": counts},
        source_points=9,
        large_bubble_share=0.0,
        label_noise={"rate": 0.5},
        workers=0,
    )
    simulate_store(tmp_path / "store", settings, 16, 5, lambda done: None)
    store = Store.open(tmp_path / "store")
    given = np.array(store.class_names)[store.labels]
    flipped = store.particles["label_flipped"].to_numpy()
    assert 4 <= flipped.sum() <= 20
    assert ((given != store.particles["true_label"]) == flipped).all()
    assert store.counts("test") == counts
