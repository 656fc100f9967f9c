"""The whole configuration as typed settings, the counterpart of ``conf/``; what names a run."""

from pathlib import Path
from textwrap import fill
from typing import Any, Literal

from pydantic import ConfigDict, Field

from svp_lightning.classifier.settings import ClassifierSettings, FeatureSettings
from svp_lightning.data.augmentation import AugmentationSettings
from svp_lightning.errors import SettingsError
from svp_lightning.generator.fitting_start import require_fitting_start
from svp_lightning.generator.sampler_settings import SamplerSettings, require_learnt
from svp_lightning.generator.settings import GeneratorSettings
from svp_lightning.runtime.artifacts import STAGE_VERSIONS
from svp_lightning.runtime.files import cached_hash, sha256_of_file, sha256_of_json
from svp_lightning.runtime.settings import FolderName, Seed, Settings, config_options, runtime
from svp_lightning.simulation.settings import SharedSettings
from svp_lightning.stages.input_files import input_hashes
from svp_lightning.stages.run_folder import evaluated_run, weights_of
from svp_lightning.stages.settings import (
    AssessSettings,
    AuditSettings,
    DataSettings,
    EvaluationSettings,
    ImportWeightsSettings,
    LabReportSettings,
    PretrainingSettings,
    SimulatedData,
    TrainerSettings,
    pretrained_settings,
    require_simulated,
)
from svp_lightning.web.settings import ServeSettings

HASH_LENGTH = 8
MEMORY = "fingerprints"
"""Folder of known hashes, below ``paths.artifacts``."""
WITH_RESULTS = ("evaluate", "assess", "predict")
"""Tasks whose run folders hold results of the data."""
CLASSIFYING = ("train_classifier", "evaluate", "audit")
"""Tasks that train classifiers of this configuration."""
OF_IMAGES = ("ingest", "train_generator", "sample", *CLASSIFYING, "assess")
"""Tasks that begin with the store of real images."""
TASKS = (
    *OF_IMAGES,
    *("predict", "prevalence", "export", "import_weights", "report", "verify", "serve", "doctor"),
)

HELP = """\
svp_lightning: diffusion-augmented classification of sub-visible particles

Usage: python -m svp_lightning +experiment=resnet18_aug_ratio_1x [group=option] [key=value]
       python -m svp_lightning -m +experiment=paper_grid seed=1,2,3

Groups and their options; --cfg job prints all keys and their values, --hydra-help more flags.
"""


def help_text() -> str:
    """What ``--help`` prints: usage, tasks, and the options of each group in ``conf/``.

    Hydra's own copies its store of configurations for each group, which takes a second.
    """
    groups = {"task": list(TASKS)} | config_options()
    lines = (f"{group}: {', '.join(options)}" for group, options in groups.items())
    return "\n".join([HELP, *(fill(line, 100, subsequent_indent="    ") for line in lines)])


class PathSettings(Settings):
    """Where things are kept; none of it changes a result."""

    artifacts: Path
    outputs: Path

    @property
    def own(self) -> tuple[Path, ...]:
        """Folders of results, which are no data where they lie among the user's images."""
        return self.artifacts, self.outputs


class ScaleSettings(Settings):
    """The numbers ``scale=...`` hands to the other groups, and the name of the scale."""

    model_config = ConfigDict(extra="allow")

    name: str


class PredictSettings(LabReportSettings):
    """What ``task=predict`` and ``task=prevalence`` read."""

    run: Path | None = runtime()
    """Folder of an evaluated run, or of a packaged classifier, whose classifier (or predictions)
    is used; None: the released classifier."""
    prevalence: Literal["estimated", "stated", "trained"]
    """Class shares that the new images are taken to have, where ``data.prevalence`` is not given.
    ``estimated``: from these images; ``stated``: those that the evaluated run is stated at;
    ``trained``: those of the classifier's training."""


class ExportSettings(Settings):
    """What ``task=export`` writes."""

    classifier: Path | None
    """Folder of an evaluated run: its classifier is exported, and no generator."""
    generator: Path | None
    """Folder of a trained generator; None: this configuration's, trained if missing."""
    to: Path | None
    """The new directory; None: one named after the weights, in the study's outputs."""
    samples_per_class: int = Field(ge=1)
    """Images of each class in the sample data set that goes with it."""
    fidelity: Path | None
    """``fidelity.json`` of ``task=assess`` for the model card; None: looked for in the outputs."""
    onnx: Literal["auto"] | bool
    """Whether a classifier's folder gets a ``model.onnx``; ``auto``: where the extra ``onnx`` is
    installed."""
    licence: str | None
    """SPDX name; None: apache-2.0 for simulated data, ``other`` where images are yours."""


class Config(Settings):
    """One run: everything a task may need."""

    task: Literal[TASKS]  # type: ignore[valid-type]
    name: FolderName
    """Name of the run, shown in reports and part of its folder's name."""
    study: FolderName
    """Runs of one study share a folder under ``paths.outputs`` and a W&B group."""
    seed: Seed
    artifacts: Literal["check", "rebuild"]
    """What happens to a damaged stage output: it is refused, or set aside and made again."""
    scale: ScaleSettings
    data: DataSettings
    simulation: SharedSettings
    """What simulated microscopes have in common that are added to data no simulator made."""
    generator: GeneratorSettings
    sampler: SamplerSettings
    classifier: ClassifierSettings
    pretraining: PretrainingSettings | None
    """What the classifier starts from; None: ``classifier.pretrained_weights``, or at random."""
    features: FeatureSettings
    augmentation: AugmentationSettings
    evaluation: EvaluationSettings
    assess: AssessSettings
    audit: AuditSettings
    predict: PredictSettings
    export: ExportSettings
    serve: ServeSettings
    import_weights: ImportWeightsSettings
    trainer: TrainerSettings
    paths: PathSettings

    @property
    def prevalence_stated(self) -> bool:
        """Whether a setting gives the prevalence in use; else it is that of the test images."""
        return self.data.prevalence is not None or self.evaluation.prevalence != "test"

    @property
    def draws_images(self) -> bool:
        """Whether the task samples from this configuration's own generator."""
        if self.task in ("sample", "assess"):
            return True
        if self.task == "export":
            return self.export.generator is None and self.export.classifier is None
        return self.task in CLASSIFYING and self.augmentation.needs_generator

    @property
    def pretrains(self) -> bool:
        """Whether the task trains classifiers that start from one of simulated images."""
        return self.pretraining is not None and self.task in CLASSIFYING

    @property
    def needs_simulator(self) -> bool:
        """Whether simulated images are added, or generated ones start from them."""
        starts = self.draws_images and self.sampler.start_ratio is not None
        return self.augmentation.simulates or starts

    def identity(self) -> dict[str, Any]:
        """What decides the results of a run: not its name, its place or its devices.

        The classifier that ``task=predict`` uses is a file and counted elsewhere; this
        configuration's own has no part in it.
        """
        if self.task == "predict":
            return {
                "task": self.task,
                "data": self.data.identity(),
                "predict": self.predict.identity(),
            }
        parts = ("data", "generator", "sampler", "classifier", "augmentation", "evaluation")
        values: dict[str, Any] = {part: getattr(self, part).identity() for part in parts}
        values |= self.trainer.identity()
        if self.augmentation.needs_features or self.task == "assess":
            values |= {"features": self.features.identity()}
        if self.pretrains:
            values |= {"pretraining": self.pretraining and self.pretraining.identity()}
        if self.task in ("assess", "audit"):
            values |= {self.task: getattr(self, self.task).identity()}
        if self.task != "assess" and not self.augmentation.needs_generator:
            del values["generator"], values["sampler"]
        if self.draws_images and self.sampler.start_ratio is not None:
            arm = self.augmentation
            values["augmentation"] |= {"microscopes": arm.microscopes}
            if arm.candidates is not None:
                values["augmentation"] |= {"candidates": arm.candidates}
        if self.needs_simulator and not isinstance(self.data, SimulatedData):
            values |= {"simulation": self.simulation.identity()}
        if self.augmentation.simulates and "sampler" not in values:
            values |= {"sampler": {"seed": self.sampler.seed}}
        if self.trainer.accumulate > 1:  # batch normalisation then is another (build_classifier)
            values |= {"accumulate": self.trainer.accumulate}
        return values | {"task": self.task, "seed": self.seed}


def parse_config(values: dict[str, Any]) -> Config:
    """Check the composed configuration, given as plain containers.

    Raises:
        SettingsError: naming the first setting that is wrong.
    """
    if values.get("task") not in TASKS:
        raise SettingsError(
            f"task={values.get('task')} is not a task.", f"Choose one of {', '.join(TASKS)}."
        )
    config = Config.parse(values, "")
    if config.augmentation.extra == "oracle" and config.augmentation.needs_pool:
        require_simulated(config.data)
    if config.draws_images:
        require_learnt(config.sampler, config.generator)
    if config.draws_images or config.task == "train_generator":
        require_fitting_start(config.generator, config.data.image_size)
    if config.task == "audit" and config.data.rare_images is not None:
        what = "data.rare_images limits a training; task=audit judges and trains on all images."
        raise SettingsError(what, "Set data.rare_images=null.")
    if config.pretraining is not None:
        pretrained_settings(config.pretraining, config.classifier)
    return config


def run_folder(config: Config) -> Path:
    """``<outputs>/<study>/<name>_seed<seed>_<hash>``: stable, so that a rerun resumes.

    Predictions are named after the run whose classifier they use, imports after their source.
    """
    key = sha256_of_json(run_identity(config))[:HASH_LENGTH]
    task = "" if config.task == "evaluate" else f"{config.task}_"
    name = f"{config.name}_seed{config.seed}"
    if config.task == "predict":
        name = evaluated_run(config.predict.run).name
    elif config.task == "ingest":
        name = config.data.source
    return config.paths.outputs / config.study / f"{task}{name}_{key}"


def run_identity(config: Config) -> dict[str, Any]:
    """As :meth:`Config.identity`, where the contents of files count and not their place.

    The versions of the stages count, too: a finished run of an earlier one is not taken for this.

    Raises:
        DataError: ``data.root`` is not there.
        SvpError: there is no classifier to predict with.
    """
    identity, data = config.identity() | {"versions": _versions(config)}, config.data
    memory = config.paths.artifacts / MEMORY
    if "generator" in identity and (initial := config.generator.initial_weights) is not None:
        identity["generator"] |= {"initial": cached_hash(initial, sha256_of_file, memory)}
    if config.task == "predict":
        weights = weights_of(evaluated_run(config.predict.run))
        identity |= {"classifier": cached_hash(weights, sha256_of_file, memory)}
    if config.task not in WITH_RESULTS or isinstance(data, SimulatedData):
        return identity
    counted = {"labelled": False} if config.task == "predict" else {}
    hashes = input_hashes(data.model_copy(update=counted), config.paths.own, memory)
    return identity | {"data": identity["data"] | hashes}


def _versions(config: Config) -> dict[str, int]:
    arm, task = config.augmentation, config.task
    used = {
        "store": True,
        "import": not isinstance(config.data, SimulatedData),
        "generator": config.draws_images,
        "synthetic": config.draws_images,
        "looks": config.needs_simulator and arm.candidates is not None,
        "simulated": config.needs_simulator,
        "joined": config.needs_simulator,
        "classifier": task != "predict",
        "features": arm.needs_features or task == "assess",
        "filtered": arm.filters,
        "hardest": arm.needs_features,
        "fidelity": task == "assess",
        "evaluation": task == "evaluate",
    }
    return {stage: STAGE_VERSIONS[stage] for stage, counts in used.items() if counts}
