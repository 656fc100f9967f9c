"""Write a generator as a diffusers pipeline directory.

======================  ==========================================================
``model_index.json``    the pipeline and its parts
``pipeline.py``         its code, with the ``particle_*.py`` files it imports
``unet/``               weights in safetensors, shape, and its source
``scheduler/``          noise levels, sampler and its source
``generator.json``      how the generator was made
======================  ==========================================================
"""

import re
from pathlib import Path
from types import ModuleType
from typing import Any

import diffusers
import numpy as np
import torch
from diffusers import ModelMixin

from svp_lightning.errors import CheckpointError
from svp_lightning.generator import noise, paper_unet, radial, spacing, unet
from svp_lightning.generator.checkpoint import INFO, Generator
from svp_lightning.generator.denoiser import Denoiser
from svp_lightning.generator.network import PatchUNet
from svp_lightning.generator.noise import image_seeds
from svp_lightning.generator.paper_unet import PaperUNet
from svp_lightning.generator.release import paper_model, pipeline, scheduler
from svp_lightning.generator.release.paper_model import PaperUNetModel
from svp_lightning.generator.release.pipeline import ParticlePipeline
from svp_lightning.generator.release.scheduler import ParticleScheduler
from svp_lightning.generator.sampler import sample
from svp_lightning.generator.settings import SamplerSettings
from svp_lightning.generator.unet import ParticleUNet
from svp_lightning.runtime.files import write_json

TRAVELLING: dict[str, tuple[ModuleType, ...]] = {
    "": (pipeline, noise, radial),
    "scheduler": (scheduler, spacing),
}
"""Folder of the export -> modules whose source goes there, the importing one first."""
NETWORKS: dict[type[ModelMixin], tuple[ModuleType, ...]] = {
    ParticleUNet: (unet,),
    PaperUNetModel: (paper_model, paper_unet),
}
"""Network as a diffusers model -> the same for the folder ``unet``."""
CHECKED_STEPS = 4
OWN_IMPORT = re.compile(r"from svp_lightning\.generator\.(\w+) import")


def write_pipeline(folder: Path, generator: Generator, sampler: SamplerSettings) -> None:
    """Write ``generator`` with ``sampler``'s settings as its defaults into ``folder``.

    Raises:
        CheckpointError: the pipeline does not draw the images that the generator draws.
    """
    folder.mkdir(parents=True, exist_ok=True)
    network = _network(generator)
    network.save_pretrained(folder / "unet", safe_serialization=True)
    write_json(folder / "scheduler" / "scheduler_config.json", _scheduler(generator, sampler))
    sources = NETWORKS[type(network)]
    for name, modules in {**TRAVELLING, "unet": sources}.items():
        _write_sources(folder / name, modules)
    index = {
        "_class_name": ["pipeline", "ParticlePipeline"],
        "_diffusers_version": diffusers.__version__,
        "unet": [_file_of(sources[0]), type(network).__name__],
        "scheduler": [_file_of(scheduler), "ParticleScheduler"],
        **_defaults(generator, sampler),
    }
    write_json(folder / "model_index.json", index)
    write_json(folder / INFO, generator.info.model_dump(mode="json"))
    check_pipeline(folder, type(network), generator, sampler)


def check_pipeline(
    folder: Path, kind: type[ModelMixin], generator: Generator, sampler: SamplerSettings
) -> None:
    """Refuse an export that draws other images than the generator: one per class is compared.

    Raises:
        CheckpointError: a pixel differs by more than one grey level.
    """
    names = generator.info.class_names
    settings = sampler.model_copy(
        update={"steps": min(CHECKED_STEPS, sampler.steps), "precision": "float32"}
    )
    seeds = np.concatenate([image_seeds(settings.seed, name, 0, 1) for name in names])
    expected = sample(generator.denoiser, np.arange(len(names)), seeds, settings)
    exported = open_pipeline(folder, kind, generator, sampler)
    exported.set_progress_bar_config(disable=True)
    drawn = exported(
        list(names), settings.steps, settings.guidance, settings.seed, output_type="np"
    ).images
    worst = int(np.abs(drawn.astype(int) - expected.astype(int)).max())
    if worst > 1:
        raise CheckpointError(
            f"The exported pipeline draws other images than the generator (by {worst} grey "
            "levels): this kind of generator cannot be exported.",
            "Please report it with the generator's settings.",
        )


def open_pipeline(
    folder: Path, kind: type[ModelMixin], generator: Generator, sampler: SamplerSettings
) -> ParticlePipeline:
    """The pipeline from the files of ``folder``, with this package's code."""
    return ParticlePipeline(
        unet=kind.from_pretrained(folder / "unet", low_cpu_mem_usage=False).eval(),
        scheduler=ParticleScheduler.from_pretrained(folder / "scheduler"),
        **_defaults(generator, sampler),
    )


def _network(generator: Generator) -> ModelMixin:
    """The network alone, as a diffusers model."""
    network = generator.denoiser.network
    if isinstance(network, PatchUNet):
        # What only training needs (the embedding of augmentations) stays behind.
        model: Any = ParticleUNet.from_config(network.unet.config)
        weights = network.unet.state_dict()
        model.load_state_dict({name: weights[name] for name in model.state_dict()})
        return model
    if isinstance(network, PaperUNet):
        settings = generator.info.settings.network
        labels = generator.denoiser.num_classes + 1
        paper = PaperUNetModel(settings.block_channels, labels, settings.dropout)
        paper.network.load_state_dict(network.state_dict())
        return paper
    raise CheckpointError(
        f"A generator whose network is a {type(network).__name__} cannot be exported.",
        "Export one with generator=unet or generator=paper.",
    )


def _defaults(generator: Generator, sampler: SamplerSettings) -> dict[str, Any]:
    network, info = generator.denoiser.network, generator.info
    folded, interval = isinstance(network, PatchUNet), sampler.guidance_interval
    return {
        "class_names": list(info.class_names),
        "image_size": info.image_size,
        "patch": network.patch if folded else 1,
        "radial": folded,
        "guidance_scale": sampler.guidance,
        "guidance_interval": interval and list(interval),
        "num_inference_steps": sampler.steps,
        "pixel_size_um": info.pixel_size_um,
    }


def _scheduler(generator: Generator, sampler: SamplerSettings) -> dict[str, Any]:
    """The noise levels, and how each turns a prediction into a clean image."""
    skip, out, ratio = _tables(generator.denoiser)
    karras = sampler.name == "dpm_solver" and sampler.spacing == "karras"
    return {
        "_class_name": "ParticleScheduler",
        "_diffusers_version": diffusers.__version__,
        "noise_ratio": ratio,
        "clean_skip": skip,
        "clean_out": out,
        "sampler": sampler.name,
        "spacing": "karras" if karras else "uniform",
    }


def _tables(denoiser: Denoiser) -> tuple[list[float], list[float], list[float]]:
    schedule = denoiser.schedule
    t = torch.arange(schedule.timesteps)
    zeros = torch.zeros(schedule.timesteps, 1, 1, 1)
    skip = schedule.x_0(zeros, zeros + 1, t).flatten().tolist()
    out = schedule.x_0(zeros + 1, zeros, t).flatten().tolist()
    ratio = (schedule.sigma.cpu().double() / schedule.alpha.cpu().double()).tolist()
    return skip, out, ratio


def _write_sources(folder: Path, modules: tuple[ModuleType, ...]) -> None:
    """Copy source files; their imports of one another become relative."""
    folder.mkdir(parents=True, exist_ok=True)
    for module in modules:
        assert module.__file__ is not None
        source = Path(module.__file__).read_text(encoding="utf-8")
        source = OWN_IMPORT.sub(r"from .particle_\1 import", source)
        (folder / f"{_file_of(module)}.py").write_text(source, encoding="utf-8")


def _file_of(module: ModuleType) -> str:
    """Name in the export; diffusers copies all local code into one folder, so not ``noise``."""
    name = module.__name__.rpartition(".")[2]
    return name if module is pipeline else f"particle_{name}"
