"""Arms, learning curves, pools and searches as whole runs."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

import svp_lightning.stages.pools as sampling
from svp_lightning.generator.checkpoint import load_generator
from svp_lightning.pipeline import Pipeline
from tests.conftest import Program, clean_environment, fresh_process, results, tiny


def test_generator_pool_and_classifier_learn_from_the_few_images_alone(svp: Program) -> None:
    svp("+experiment=learning_curve", "data.rare_images=5")
    found = results(svp.run)
    few = {"silicone_oil": 5, "air_bubble": 5}
    assert found["counts"]["train"] == {"protein": 60, **few}
    assert found["counts"]["synthetic"] == {"protein": 0, **few}
    assert found["counts"]["test"] == {"protein": 60, "silicone_oil": 12, "air_bubble": 12}
    assert found["provenance"]["rare_images"] == 5
    trained = [load_generator(file.parent) for file in svp.artifacts.glob("generator/*/*.json")
               if file.name == "artifact.json"]  # fmt: skip
    (few_seen,) = [g for g in trained if g.info.training["data"] == found["provenance"]["data"]]
    assert few_seen.info.training["images"] == few
    pools = [json.loads(f.read_text()) for f in svp.artifacts.glob("synthetic/*/manifest.json")]
    own = [p for p in pools if p["made_by"]["generator"] == found["provenance"]["generator"]]
    assert [p["counts"][""] for p in own] == [few]


def test_no_image_is_drawn_twice_whatever_the_order_of_the_ratios(
    svp: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn, totals = [], []
    sample = sampling.sample

    def counting(denoiser, labels, *rest, **options):
        drawn.append(len(labels))
        return sample(denoiser, labels, *rest, **options)

    monkeypatch.setattr(sampling, "sample", counting)
    for ratio in (2, 0.5, 1, 3):  # 12 real images of each of two rare classes
        svp("task=sample", f"augmentation.ratio={ratio}", "sampler.seed=11")
        totals.append(sum(drawn))
    assert totals == [48, 48, 48, 72]


@pytest.mark.parametrize(
    ("name", "seed"),
    [
        ("paper_grid", 0),
        ("controls", 0),
        ("paper_grid_generator_per_seed", 3),
        ("learning_curve", 3),
        ("where_images_pay", 3),
    ],
)
def test_each_seed_may_have_its_own_generator(
    svp_pipeline: Callable[..., Pipeline], name: str, seed: int
) -> None:
    config = svp_pipeline(f"+experiment={name}", "seed=3").config
    assert config.generator.seed == seed
    assert config.sampler.seed == seed  # the same noise would give related images


def test_a_search_that_is_stopped_resumes_with_its_trials(
    tmp_path: Path, shared_artifacts: Path
) -> None:
    """The sampler is seeded, so it proposes them again, and finished runs hand in their scores."""
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    overrides = tiny(shared_artifacts, "+experiment=search", "augmentation=none")
    overrides += ["hydra.sweeper.n_trials=2"]
    command = [sys.executable, "-m", "svp_lightning", "-m", *overrides]
    folder = tmp_path / "outputs" / "search"
    with subprocess.Popen(command, cwd=tmp_path, env=clean_environment()) as search:
        while search.poll() is None and not any(folder.glob("*/checksums.json")):
            time.sleep(0.1)
        search.terminate()
    (first,) = folder.glob("*/results.json")
    written = first.stat().st_mtime_ns
    done = fresh_process(tmp_path, "-m", *overrides)
    assert done.stdout.count("Already finished") == 1
    assert first.stat().st_mtime_ns == written
    scores = [results(file.parent)["validation_score"] for file in folder.glob("*/results.json")]
    best = yaml.safe_load((folder / "optimization_results.yaml").read_text())
    assert len(scores) == 2
    assert best["best_value"] == pytest.approx(max(scores))
    assert set(best["best_params"]) == {"classifier.learning_rate", "classifier.weight_decay"}
