"""``augmentation=diffusion_filtered``: matched counts, recorded rejections, nested pools."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from svp_lightning.__main__ import configured
from svp_lightning.classifier.features import Described
from svp_lightning.commands import evaluate
from svp_lightning.data.store import Store
from svp_lightning.errors import DataError, SettingsError, StoreError
from svp_lightning.evaluation.fidelity.measures import ClassFilter, Rejection
from svp_lightning.pipeline import Pipeline
from svp_lightning.runtime.artifacts import ArtifactCache
from svp_lightning.runtime.clock import Clock
from svp_lightning.stages import filtering
from svp_lightning.stages.filtering import build_filtered, build_hardest
from tests.configured import changed
from tests.conftest import Program, results

Build = Callable[..., Pipeline]
# A quantile of their own keeps what these tests fake out of other tests' shared artifacts.
FILTERED = ("augmentation=diffusion_filtered", "augmentation.filter.quantile=0.5")


def test_filter_keeps_its_share_of_new_real_images() -> None:
    generator = np.random.default_rng(0)
    train, val, new = (generator.normal(size=(n, 4)) for n in (400, 300, 4000))
    chosen = ClassFilter(1, train, val, quantile=0.9, neighbours=5)
    sure = np.tile([0.0, 1.0, 0.0], (4000, 1))
    assert chosen(new, sure).far.mean() == pytest.approx(0.1, abs=0.04)
    assert not chosen(new, sure).wrong_class.any()
    assert chosen(new + 30, sure).far.all()
    mistaken = sure.copy()
    mistaken[:7] = [0.6, 0.4, 0.0]
    verdict = chosen(new, mistaken)
    assert verdict.wrong_class.sum() == 7
    np.testing.assert_array_equal(verdict.rejected, verdict.wrong_class | verdict.far)
    assert not ClassFilter(1, train, val, 1.0, 5)(val, sure[:300]).far.any()


class EveryThird:
    """Rejects two of three images, whatever they show."""

    def __call__(self, features: np.ndarray, probabilities: np.ndarray) -> Rejection:
        rejected = np.arange(len(features)) % 3 > 0
        return Rejection(rejected, np.zeros(len(features), dtype=bool))


@pytest.fixture
def every_third(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filtering, "ClassFilter", lambda *_: EveryThird())


@pytest.mark.usefixtures("every_third")
def test_count_is_matched_and_rejections_are_reported(
    svp: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = []  # when the clock of the test begins

    def clock() -> Clock:
        trained.append(len(list(svp.artifacts.glob("classifier/*/artifact.json"))))
        return Clock()

    monkeypatch.setattr(evaluate, "Clock", clock)
    svp(*FILTERED, "seed=77")
    assert trained == [len(list(svp.artifacts.glob("classifier/*/artifact.json")))]
    assert "Filter rejected" in svp.said()
    run = svp.run
    found = results(run)
    assert found["augmentation"]["method"] == "diffusion_filtered"
    assert found["counts"]["synthetic"] == {"protein": 0, "silicone_oil": 12, "air_bubble": 12}
    for tally in found["rejected"].values():
        assert tally == {"looked_at": 34, "wrong_class": 22, "far": 0, "rejected": 22}
    stages = {"network", "features", "generator", "synthetic", "filter", "classifier", "test"}
    assert stages == set(found["costs"])
    named = [cost["artifact"] for cost in found["costs"].values() if cost["artifact"]]
    assert len(set(named)) == len(named) == 6
    page = (run / "report.html").read_text(encoding="utf-8")
    assert all(f"<td>{n}</td>" in page for n in (34, 22, 0))
    assert "iffusion, filtered 1×" in page


@pytest.mark.usefixtures("every_third")
def test_smaller_ratio_is_a_subset_and_kept_images_are_the_pools(svp_pipeline: Build) -> None:
    stores = []
    for ratio in (0.5, 1):
        stores.append(svp_pipeline(*FILTERED, f"augmentation.ratio={ratio}").pool)
    small, large = stores
    for label in (1, 2):
        a, b = (s.particles["id"].to_numpy()[s.indices(label=label)] for s in stores)
        assert a.tolist() == b[: len(a)].tolist()
        assert [int(name.rsplit("-")[-1]) for name in b] == list(range(0, 36, 3))
        rows = large.indices(label=label)[: len(a)]
        np.testing.assert_array_equal(small.images[small.indices(label=label)], large.images[rows])


@pytest.mark.usefixtures("every_third")
def test_kept_images_have_the_pixels_of_the_real_images_at_hand(svp_pipeline: Build) -> None:
    pipeline = svp_pipeline(*FILTERED)
    before = pipeline.images(1.0)
    manifest = pipeline.store.manifest.model_copy(update={"pixel_size_um": 9.9})
    pipeline.__dict__["store"] = replace(pipeline.store, manifest=manifest)
    after = pipeline.images(1.0)
    assert after.pixel_size_um == 9.9 != before.pixel_size_um
    assert after.sha256 == before.sha256


def test_counts_that_no_generator_meets_are_refused_before_the_judge_is_trained(
    svp_pipeline: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pipeline, "features", property(lambda _: pytest.fail("trained")))
    pipeline = svp_pipeline(*FILTERED, "generator.classes=[silicone_oil]")
    with pytest.raises(SettingsError, match="air_bubble"):
        _ = pipeline.pool


def test_a_damaged_pool_of_another_generator_does_not_matter(
    svp_pipeline: Build, tmp_path: Path
) -> None:
    store = svp_pipeline().store
    whole, damaged = (Path(shutil.copytree(store.path, tmp_path / name)) for name in "ba")
    (damaged / "images.npy").write_bytes(b"other")
    cache: Any = SimpleNamespace(finished=lambda _: iter([(damaged, {}), (whole, {})]))
    made_by = {"pool": store.sha256}
    filtered: Any = SimpleNamespace(path=tmp_path, manifest=SimpleNamespace(made_by=made_by))
    assert filtering.unfiltered(filtered, cache) == whole
    made_by["pool"] = "gone"
    with pytest.raises(StoreError, match="is not there"):
        filtering.unfiltered(filtered, cache)


def test_no_class_is_loaded_whole_and_each_network_judges_for_itself(
    svp_pipeline: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at: list[int] = []

    def judged(_network: Any, images: Any, _device: Any, rows: np.ndarray) -> Described:
        assert isinstance(images, np.memmap)
        looked_at.append(len(rows))
        sure = np.tile([0.0, 1.0, 0.0], (len(rows), 1))
        return Described(rows[:, None].astype(np.float32), sure.astype(np.float32))

    monkeypatch.setattr(filtering, "describe", judged)
    monkeypatch.setattr(filtering, "load_features", lambda _folder: None)
    monkeypatch.setattr(filtering, "ClassFilter", lambda *_: EveryThird())
    store, cache, cpu = svp_pipeline().store, ArtifactCache(tmp_path), torch.device("cpu")
    rare = {"silicone_oil", "air_bubble"}
    for network in ("network", "another"):
        build_hardest(Path(network), store, rare, cache, cpu)
    settings = svp_pipeline(*FILTERED).config.augmentation.filter
    assert settings is not None
    wanted = {"silicone_oil": 2}
    kept = {
        build_filtered(settings, Path(network), store, wanted, lambda _: store, cache, cpu).path
        for network in ("network", "another")
    }
    assert len(kept) == len(list(tmp_path.glob("hardest/*/"))) == 2
    assert looked_at[0] == store.counts("train")["protein"]


def test_a_pool_is_judged_once(svp_pipeline: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline, judged = svp_pipeline(*FILTERED), []

    def drawn(*given: Any) -> Store:
        judged.append(given)
        return pipeline.store

    monkeypatch.setattr(filtering, "build_filtered", drawn)
    pipeline.features = Path("network")
    assert pipeline.pool is pipeline.generated is pipeline.store
    assert len(judged) == 1


def test_hopeless_generator_is_refused(
    svp_pipeline: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Nothing(EveryThird):
        def __call__(self, features: np.ndarray, probabilities: np.ndarray) -> Rejection:
            all_of_them = np.ones(len(features), dtype=bool)
            return Rejection(all_of_them, all_of_them)

    monkeypatch.setattr(filtering, "ClassFilter", lambda *_: Nothing())
    pipeline = svp_pipeline(*FILTERED, "augmentation.filter.max_draws=2")
    with pytest.raises(DataError, match=r"rejects too many.*0 of 12 wanted"):
        _ = pipeline.pool


def test_filter_is_part_of_the_arm_only_where_it_acts() -> None:
    filtered = configured("augmentation=diffusion_filtered").augmentation
    plain = changed(filtered, {"method": "diffusion", "filter": None})
    assert filtered.filters
    assert not plain.filters
    assert plain.identity() != filtered.identity()
    nothing = filtered.model_copy(update={"ratio": 0.0})
    assert nothing.identity() == plain.model_copy(update={"ratio": 0.0}).identity()
    with pytest.raises(ValueError, match=r"augmentation\.method=diffusion_filtered"):
        changed(filtered, {"method": "diffusion"})
