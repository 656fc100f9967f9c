"""Write a generator as a diffusers pipeline directory, which needs torch and diffusers only.

==================================  ================================================
``model_index.json``                the pipeline, its defaults and its parts
``particle_sampling_<hash>.py``     its code, with what it imports of ours
``unet/``                           weights in safetensors, shape, and its source
``scheduler/``                      noise levels, sampler and its source
``generator.json``                  how the generator was made
==================================  ================================================

diffusers copies all local code into one folder and module: the hash of the sources in the names
keeps exports of different versions apart in one process.
"""

import hashlib
import json
import re
import sys
from pathlib import Path
from types import ModuleType

from svp_lightning.generator import sampling, solver
from svp_lightning.generator.checkpoint import Generator
from svp_lightning.generator.drawing import build_pipeline
from svp_lightning.generator.sampler_settings import SamplerSettings
from svp_lightning.generator.settings import INFO
from svp_lightning.runtime.files import write_json

OWN_MODULE = re.compile(r"svp_lightning\.generator\.(\w+)")
IMPORTED = re.compile(r"^from (svp_lightning\.generator\.\w+) import", re.MULTILINE)


def write_pipeline(folder: Path, generator: Generator, sampler: SamplerSettings) -> None:
    """Write ``generator`` with ``sampler``'s settings as its defaults into ``folder``.

    Raises:
        SettingsError: the generator has fewer time steps than the sampler.
    """
    info = generator.info
    pipeline = build_pipeline(
        generator.denoiser,
        sampler,
        class_names=list(info.class_names),
        pixel_size_um=info.pixel_size_um,
    )
    pipeline.save_pretrained(folder)
    write_json(folder / INFO, info.model_dump(mode="json"))
    network = sys.modules[type(generator.denoiser.network).__module__]
    modules_of = {"": sampling, "unet": network, "scheduler": solver}
    needed = {place: with_imports(module) for place, module in modules_of.items()}
    sources = needed["unet"] | needed[""]
    digest = hashlib.sha256("".join(sources.values()).encode()).hexdigest()[:12]
    for place, modules in needed.items():
        for name, source in modules.items():
            file = f"particle_{name.rpartition('.')[2]}_{digest}.py"
            local = OWN_MODULE.sub(rf".particle_\1_{digest}", source)
            (folder / place / file).write_text(local, encoding="utf-8")
    index_file = folder / "model_index.json"
    index = OWN_MODULE.sub(rf"particle_\1_{digest}", index_file.read_text(encoding="utf-8"))
    of_pipeline = [f"particle_sampling_{digest}", type(pipeline).__name__]
    write_json(index_file, json.loads(index) | {"_class_name": of_pipeline})


def with_imports(module: ModuleType) -> dict[str, str]:
    """Name -> code, of a module and of what it imports from ours."""
    source = source_of(module)
    imported = {name: source_of(sys.modules[name]) for name in IMPORTED.findall(source)}
    return {module.__name__: source} | imported


def source_of(module: ModuleType) -> str:
    """The code of a module."""
    return Path(str(module.__file__)).read_text(encoding="utf-8")
