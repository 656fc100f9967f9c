"""Every experiment file composes, and those that differ in kind leave what a run promises."""

from collections.abc import Callable
from pathlib import Path

import pytest

from svp_lightning.evaluation.predictions import read_predictions
from svp_lightning.evaluation.schema import read_results
from svp_lightning.pipeline import Pipeline
from svp_lightning.runtime.settings import config_folder
from tests.conftest import Program
from tests.stages.test_methods import NARROW

EXPERIMENTS = sorted(file.stem for file in (config_folder() / "experiment").glob("*.yaml"))
RUN = ("resnet18_aug_ratio_0x", "resnet50_aug_ratio_0_5x", "demo", "controls")
"""Runs of the others (learning_curve, paper_grid, search, …) are in test_controls.py."""
# The filter's network knows nothing at this scale: test_filtering.py and test_methods.py run these
# arms with another.
ELSEWHERE = ("base", "diffusion_filtered")
METHODS = sorted(
    file.stem
    for file in (config_folder() / "augmentation").glob("*.yaml")
    if file.stem not in ELSEWHERE
)


def test_the_promised_experiments_exist() -> None:
    ratios = ("0", "0_5", "1", "2", "5", "10")
    cells = {f"resnet{depth}_aug_ratio_{ratio}x" for depth in (18, 50) for ratio in ratios}
    assert cells | {"paper_grid", "demo"} <= set(EXPERIMENTS)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiment_composes_and_each_repetition_keeps_real_images_of_its_own(
    svp_pipeline: Callable[..., Pipeline], name: str
) -> None:
    config = svp_pipeline(f"+experiment={name}", "data.rare_images=5", "seed=7").config
    assert (config.data.rare_images, config.data.rare_seed) == (5, 7)
    if "aug_ratio" in name:
        backbone, _, _, ratio = name.split("_", maxsplit=3)
        assert config.classifier.backbone == backbone
        assert config.augmentation.ratio == float(ratio.removesuffix("x").replace("_", "."))


@pytest.mark.draws
@pytest.mark.parametrize("name", RUN)
def test_experiment_runs(svp: Program, name: str) -> None:
    svp(f"+experiment={name}")
    folder = svp.run
    found = read_results(folder / "results.json")
    if "aug_ratio" in name:
        added = int(found.augmentation.ratio * 12)  # 12 real images of each rare class
        expected = {"protein": 0, "silicone_oil": added, "air_bubble": added}
        assert found.counts.synthetic == (expected if added else {})
    assert len(read_predictions(folder / "predictions.parquet").ids) == sum(
        found.counts.test.values()
    )
    for file in ("config.yaml", "command.txt", "report.html", "metrics.csv", "classifier.ckpt"):
        assert (folder / file).is_file(), file


@pytest.mark.parametrize("method", METHODS)
def test_every_arm_runs(svp: Program, method: str) -> None:
    learnt = "all" if "all_classes" in method else "rare"
    short = (f"generator.classes={learnt}", "generator.initial=null", "generator.steps=6", *NARROW)
    svp(f"augmentation={method}", *short)
    found = read_results(svp.run / "results.json")
    assert found.augmentation.method == method
    adds = {"duplicate", "diffusion", "oracle", "simulated"} & {*found.augmentation.parts}
    assert any(found.counts.synthetic.values()) == bool(found.counts.synthetic) == bool(adds)
    seeds = found.provenance.generator_seed, found.provenance.sampler_seed
    assert seeds == ((0, 0) if "diffusion" in found.augmentation.parts else (None, None))
    # 4 steps at scale=tiny, whatever the arm adds.
    assert found.provenance.model_extra["optimizer_steps"] == 4
    assert found.provenance.training_images_drawn == 4 * 16


@pytest.mark.parametrize(
    "overrides", [("sampler=ddim",), ("sampler=ddpm",), ("generator=paper", "sampler=ddpm")]
)
def test_every_sampler_and_the_papers_generator_run(
    svp: Program, overrides: tuple[str, ...]
) -> None:
    svp("task=sample", *overrides)


def test_a_finished_run_is_not_done_again(svp: Program) -> None:
    svp("augmentation=none")
    written = (svp.run / "results.json").stat().st_mtime_ns
    assert (svp.run / "classifier.ckpt").stat().st_nlink == 1  # a change leaves the artifact alone
    svp.said()
    svp("augmentation=none")
    assert "Already finished" in svp.said()
    assert (svp.run / "results.json").stat().st_mtime_ns == written


def test_what_does_not_matter_rebuilds_nothing(svp: Program, tmp_path: Path) -> None:
    svp("+experiment=resnet18_aug_ratio_1x")
    svp.said()
    svp(
        "+experiment=resnet18_aug_ratio_1x",
        "sampler.batch_size=5",
        "evaluation.batch_size=7",
        f"paths.outputs={tmp_path / 'elsewhere'}",
        "data.simulation.chunk_size=9",
    )
    assert "Building" not in svp.said()
    svp("+experiment=resnet18_aug_ratio_1x", "sampler.guidance=2", "study=other")
    out = svp.said()
    assert "Building synthetic" in out
    assert "Building classifier" in out
    assert "Building generator" not in out
