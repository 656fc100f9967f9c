"""Fresh images of the simulator that the real ones come from, or of other microscopes."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from svp_lightning.__main__ import configured
from svp_lightning.config import Config
from svp_lightning.data.augmentation import AugmentationSettings
from svp_lightning.data.mix import mix
from svp_lightning.data.store import Store
from svp_lightning.errors import SettingsError, StoreError
from svp_lightning.pipeline import Pipeline
from svp_lightning.runtime.artifacts import ArtifactCache
from svp_lightning.simulation.matching import COMPARED, background_level
from svp_lightning.stages import simulated_pools
from svp_lightning.stages.settings import SimulatedData, fresh_data
from svp_lightning.stages.simulated_pools import LOOKS, build_simulated_pool, choose_microscopes
from tests.configured import augmentation

Build = Callable[..., Pipeline]


def fresh(config: Config) -> SimulatedData:
    return fresh_data(config.data, config.simulation, 16, config.sampler.seed)


def matched(**changes: int) -> AugmentationSettings:
    return augmentation(method="simulated_matched", extra="simulated", ratio=1, **changes)


@pytest.fixture
def oracle(svp_pipeline: Build) -> Pipeline:
    return svp_pipeline("augmentation=oracle")


def images_of(store: Store, name: str) -> np.ndarray:
    return np.asarray(store.images[store.indices(label=store.class_names.index(name))])


def test_pool_is_simulated_has_the_rare_classes_and_serves_training_alone(oracle: Pipeline) -> None:
    pool = oracle.pool
    assert pool.class_names == oracle.store.class_names
    assert pool.counts("") == {"protein": 0, "silicone_oil": 12, "air_bubble": 12}
    assert set(pool.particles["origin"]) == {"simulated"}
    real = {image.tobytes() for image in np.asarray(oracle.store.images)}
    assert not real & {image.tobytes() for image in np.asarray(pool.images)}
    assert not set(pool.particles["group"]) & set(oracle.store.particles["group"])
    rows = oracle.rows
    assert rows.added == {"protein": 0, "silicone_oil": 12, "air_bubble": 12}
    assert rows.synthetic is not None


def test_more_images_begin_with_the_fewer_and_a_seed_gives_others(svp_pipeline: Build) -> None:
    fewer, more, other = (
        svp_pipeline("augmentation=oracle", *given).pool
        for given in ((), ("augmentation.ratio=2",), ("sampler.seed=1",))
    )
    for name in ("silicone_oil", "air_bubble"):
        few = images_of(fewer, name)
        assert np.array_equal(images_of(more, name)[: len(few)], few)
        assert not np.array_equal(images_of(other, name), few)


def test_labels_of_the_pool_are_right_where_those_of_real_images_are_not(oracle: Pipeline) -> None:
    data = fresh(configured("scale=tiny", "data.simulation.label_noise.rate=0.9"))
    counts = {"silicone_oil": 12, "air_bubble": 12}
    noisy = build_simulated_pool(data, (), counts, oracle.store.class_names, oracle.cache)
    assert noisy.sha256 == oracle.pool.sha256


def test_images_of_other_microscopes_take_turns(svp_pipeline: Build) -> None:
    arm = ("augmentation=simulated", "augmentation.microscopes=2")
    pool = svp_pipeline(*arm, "augmentation.ratio=0.25").pool
    assert pool.counts("") == {"protein": 0, "silicone_oil": 3, "air_bubble": 3}
    of_first = pool.particles["group"].str.startswith("pool-00-")
    assert of_first.sum() == 4
    sizes = pool.particles["pixel_um"]
    assert sizes[of_first].mean() != pytest.approx(sizes[~of_first].mean(), rel=0.05)
    rows = svp_pipeline(*arm, "augmentation.ratio=0.25").rows
    assert rows.added == {"protein": 0, "silicone_oil": 3, "air_bubble": 3}


def test_the_front_of_a_pool_is_of_all_microscopes(oracle: Pipeline) -> None:
    data, names = fresh(configured("scale=tiny")), oracle.store.class_names
    small, large = (
        build_simulated_pool(data, (0, 1, 2), {"silicone_oil": n}, names, oracle.cache)
        for n in (4, 6)
    )
    microscopes = small.particles["group"].str[:8].tolist()
    assert microscopes == ["pool-00-", "pool-01-", "pool-02-", "pool-00-"]
    assert np.array_equal(large.images[:4], small.images)


def test_a_pool_that_was_killed_while_it_tidied_up_is_finished(
    oracle: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pool() -> Store:
        data, names = fresh(oracle.config), oracle.store.class_names
        return build_simulated_pool(data, (), {"silicone_oil": 3}, names, ArtifactCache(tmp_path))

    def stopped(folder: Path) -> None:
        (folder / "images.npy").unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(simulated_pools, "shutil", SimpleNamespace(rmtree=stopped))
        with pytest.raises(KeyboardInterrupt):
            pool()
    finished = pool()
    assert len(finished) == 3
    assert not list(finished.path.glob("rendered*"))


def test_a_pool_without_images_is_refused(oracle: Pipeline) -> None:
    data, none = fresh(configured("scale=tiny")), {"silicone_oil": 0, "air_bubble": 0}
    with pytest.raises(SettingsError, match=r"silicone_oil, air_bubble is no image.*Raise"):
        build_simulated_pool(data, (), none, oracle.store.class_names, oracle.cache)


def test_a_black_background_is_refused_before_minutes_of_rendering(
    oracle: Pipeline, tmp_path: Path
) -> None:
    store = replace(oracle.store)
    store.__dict__["images"] = np.zeros_like(oracle.store.images)
    with pytest.raises(SettingsError, match="black background"):
        choose_microscopes(
            matched(microscopes=2, candidates=4), fresh(oracle.config), store,
            ArtifactCache(tmp_path),
        )  # fmt: skip
    assert not list(tmp_path.iterdir())


def test_each_microscope_sees_particles_of_its_own(svp_pipeline: Build) -> None:
    arm = ("augmentation=simulated", "augmentation.microscopes=2")
    particles = svp_pipeline(*arm, "augmentation.ratio=0.5").pool.particles
    oil = particles[particles["label"] == "silicone_oil"]
    of_first = oil["group"].str.startswith("pool-00-")
    radii = [oil["radius_um"][of].to_numpy() for of in (of_first, ~of_first)]
    assert len(radii[0]) == len(radii[1]) == 3
    ratios = (radii[0] / radii[1]).round(3)
    assert len(set(ratios)) == 3  # else some are the same droplets, magnified


def test_images_of_other_microscopes_get_the_background_asked_for(oracle: Pipeline) -> None:
    data = fresh(configured("scale=tiny"))
    counts, names = {"silicone_oil": 3, "air_bubble": 3}, oracle.store.class_names
    pool = build_simulated_pool(data, (0, 1), counts, names, oracle.cache, background=160)
    for microscope in ("pool-00-", "pool-01-"):
        of_it = np.flatnonzero(pool.particles["group"].str.startswith(microscope))
        assert background_level(pool.images[of_it]) == pytest.approx(160, abs=1)


def test_matched_images_are_of_the_microscopes_most_like_the_data(svp_pipeline: Build) -> None:
    pipeline = svp_pipeline("augmentation=simulated_matched", "augmentation.microscopes=1")
    (nearest,) = pipeline.microscopes.numbers
    arm = matched(microscopes=3, candidates=3)
    data = fresh(pipeline.config)
    everyone = choose_microscopes(arm, data, pipeline.store, pipeline.cache)
    assert sorted(everyone.numbers) == [0, 1, 2]
    assert everyone.numbers[0] == nearest
    looks = everyone.sources["looks"]
    assert pipeline.added_sources == {"looks": looks, "synthetic": pipeline.pool.path}
    assert len(np.load(looks / LOOKS)) == 3
    assert [file.name for file in looks.glob("*.npy")] == [LOOKS]
    wanted = {"silicone_oil": 12, "air_bubble": 12}
    own = build_simulated_pool(data, [nearest], wanted, pipeline.store.class_names, pipeline.cache)
    assert own.sha256 == pipeline.pool.sha256


def test_microscopes_are_compared_with_images_from_all_over_the_store(
    svp_pipeline: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: dict[str, np.ndarray] = {}

    def distances(looks: np.ndarray, real: dict[str, np.ndarray]) -> np.ndarray:
        compared.update(real)
        return np.zeros(len(looks))

    monkeypatch.setattr(simulated_pools, "MEASURED", 2)
    monkeypatch.setattr(simulated_pools, "distances", distances)
    pipeline = svp_pipeline("augmentation=simulated_matched")
    assert pipeline.microscopes.numbers == [0, 1]
    assert set(compared) == set(COMPARED)
    for name, images in compared.items():
        label = pipeline.store.class_names.index(name)
        own = np.asarray(pipeline.store.images[pipeline.store.indices("train", label)])
        assert np.array_equal(images, own[[0, -1]])


def test_other_data_are_compared_with_the_same_looks(svp_pipeline: Build) -> None:
    arm = ("augmentation=simulated_matched",)
    first, second = (svp_pipeline(*arm, f"data.seed={n}").microscopes.sources for n in (1, 2))
    assert first == second


def test_a_stopped_rendering_of_looks_resumes(
    oracle: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arm, data = matched(microscopes=2, candidates=4), fresh(oracle.config)

    def chosen(folder: str) -> Path:
        cache = ArtifactCache(tmp_path / folder)
        return choose_microscopes(arm, data, oracle.store, cache).sources["looks"] / LOOKS

    whole = chosen("whole").read_bytes()
    monkeypatch.setattr(simulated_pools, "PART", 1)
    asked: list[int] = []
    own = simulated_pools.looks_of

    def stopping(base: Any, size: int, numbers: list[int]) -> Iterator[Any]:
        for looks, number in zip(own(base, size, numbers), numbers, strict=True):
            if number == 2 and 2 not in asked:
                asked.append(number)
                raise KeyboardInterrupt
            asked.append(number)
            yield looks

    monkeypatch.setattr(simulated_pools, "looks_of", stopping)
    with pytest.raises(KeyboardInterrupt):
        chosen("stopped")
    assert chosen("stopped").read_bytes() == whole
    assert asked == [0, 1, 2, 2, 3]


def test_images_of_a_class_are_simulated_instead_of_generated(svp_pipeline: Build) -> None:
    arm = ("augmentation=diffusion", "augmentation.method=diffusion_simulated")
    pipeline = svp_pipeline(
        *arm, "augmentation.simulated_classes=[air_bubble,air_bubble]", "augmentation.microscopes=2"
    )
    assert pipeline.pool.counts("") == {"protein": 0, "silicone_oil": 12, "air_bubble": 12}
    origins = pipeline.pool.particles.groupby("label")["origin"].unique().to_dict()
    assert origins == {"silicone_oil": ["synthetic"], "air_bubble": ["simulated"]}
    assert set(pipeline.added_sources) == {"generator", "synthetic", "simulated"}
    assert pipeline.generated is not None
    assert set(pipeline.generated.particles["label"]) == {"silicone_oil"}
    first = pipeline.pool.particles["label"][:12]
    assert first.nunique() == 2  # the beginning of the pool is mixed, too


@pytest.mark.parametrize(
    ("classes", "complaint"),
    [("protein", "protein"), ("silicone_oil,air_bubble", "leaves no class to the generator")],
)
def test_simulated_classes_are_some_that_get_images(
    svp_pipeline: Build, classes: str, complaint: str
) -> None:
    arm = ("augmentation=diffusion", "augmentation.method=diffusion_simulated")
    with pytest.raises(SettingsError, match=complaint):
        svp_pipeline(*arm, f"augmentation.simulated_classes=[{classes}]").pool  # noqa: B018


def test_generated_images_start_from_simulated_ones(svp_pipeline: Build) -> None:
    arm = ("augmentation=diffusion", "augmentation.microscopes=2")
    pools = [
        svp_pipeline(*arm, *changes).pool
        for changes in ([], ["sampler.start_ratio=1"], ["sampler.start_ratio=1", arm[1] + "1"])
    ]
    assert len({pool.sha256 for pool in pools}) == 3
    for pool in pools:
        assert set(pool.particles["origin"]) == {"synthetic"}
        assert pool.counts("") == {"protein": 0, "silicone_oil": 12, "air_bubble": 12}


def test_images_of_the_real_store_are_no_pool(oracle: Pipeline) -> None:
    with pytest.raises(StoreError, match="split"):
        mix(
            oracle.store,
            oracle.store,
            augmentation(method="oracle", extra="oracle", ratio=0.5),
            seed=0,
        )


def test_seed_of_the_pool_decides_the_result(svp_pipeline: Build) -> None:
    first, second = (
        svp_pipeline("augmentation=oracle", f"sampler.seed={seed}").config.identity()
        for seed in (1, 2)
    )
    assert first != second
    assert "generator" not in first


def test_microscopes_decide_a_result_where_their_images_are_used() -> None:
    def changes(*arm: str) -> bool:
        first, second = (
            configured("scale=tiny", *arm, f"augmentation.microscopes={n}").identity()
            for n in (2, 3)
        )
        return first != second

    assert changes("augmentation=simulated")
    without = configured("scale=tiny", "augmentation=simulated").identity()
    assert "candidates" not in without["augmentation"]
    assert without != configured("scale=tiny", "augmentation=simulated_matched").identity()
    assert changes("augmentation=diffusion", "sampler.start_ratio=1")
    assert not changes("augmentation=diffusion")
    assert not changes("augmentation=none", "sampler.start_ratio=1")


def test_images_that_no_simulator_made_have_no_oracle(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="data=folder is not simulated"):
        configured("augmentation=oracle", "data=folder", f"data.root={tmp_path}")


def real_images(folder: Path, classes: tuple[str, ...]) -> tuple[str, ...]:
    """Overrides of a folder of such images."""
    rng = np.random.default_rng(0)
    for name in classes:
        (folder / name).mkdir(parents=True)
        for number in range(12):
            image = rng.integers(120, 200, (16, 16), dtype=np.uint8)
            Image.fromarray(image).save(folder / name / f"{number}.png")
    return "data=folder", f"data.root={folder}"


def test_real_images_get_simulated_ones_of_the_microscopes_most_like_theirs(
    svp_pipeline: Build, tmp_path: Path
) -> None:
    data = real_images(tmp_path / "images", ("protein", "silicone_oil"))
    arm = ("augmentation=simulated_matched", "augmentation.microscopes=1")
    plain, other = (
        svp_pipeline(*data, *arm, *more) for more in ((), ("simulation.neighbour_share=0.5",))
    )
    assert plain.pool.class_names == plain.store.class_names
    assert set(plain.pool.particles["origin"]) == {"simulated"}
    assert plain.rows.added["silicone_oil"] > 0
    assert plain.config.identity() != other.config.identity()
    simulated = [
        configured("augmentation=simulated", *more).identity()
        for more in ((), ("simulation.neighbour_share=0.5",))
    ]
    assert simulated[0] == simulated[1]  # simulated data have a simulator of their own


def test_classes_that_the_simulator_does_not_know_are_refused(
    svp_pipeline: Build, tmp_path: Path
) -> None:
    data = real_images(tmp_path / "images", ("fibre", "glass"))
    for arm, complaint in (("simulated", "added to"), ("simulated_matched", "compared by")):
        pipeline = svp_pipeline(*data, f"augmentation={arm}", f"paths.artifacts={tmp_path / 'own'}")
        with pytest.raises(SettingsError, match=complaint):
            pipeline.pool  # noqa: B018
        assert not (tmp_path / "own" / "looks").exists()  # refused before it takes minutes
