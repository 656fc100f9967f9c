"""Settings as the configuration composes them at ``scale=tiny``, with changes by name."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from svp_lightning.__main__ import configured
from svp_lightning.classifier.settings import ClassifierSettings
from svp_lightning.config import Config
from svp_lightning.data.augmentation import AugmentationSettings
from svp_lightning.data.settings import (
    CollageSettings,
    FlowCamSettings,
    FolderSettings,
    MfiSettings,
)
from svp_lightning.generator.sampler_settings import SamplerSettings
from svp_lightning.generator.settings import DiffusionSettings, GeneratorSettings, NetworkSettings
from svp_lightning.runtime.settings import Settings
from svp_lightning.simulation.settings import SimulationSettings

S = TypeVar("S", bound=Settings)


@cache
def tiny() -> Config:
    return configured("scale=tiny")


@cache
def no_augmentation() -> AugmentationSettings:
    return configured("augmentation=none").augmentation


@cache
def _data(source: str) -> Any:
    return configured(f"data={source}", "data.root=/").data


@cache
def _simulation_of(instrument: str) -> dict[str, Any]:
    data = configured(f"data/instrument={instrument}").data
    return data.model_dump()["simulation"] | {"counts": {}}


def changed(settings: S, changes: Mapping[str, Any]) -> S:
    return type(settings).model_validate(_merged(settings.model_dump(), changes))


def _merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    nested = {k: v.model_dump() if isinstance(v, Settings) else v for k, v in changes.items()}
    return dict(values) | {
        name: _merged(values[name], value)
        if isinstance(value, Mapping) and isinstance(values.get(name), Mapping)
        else value
        for name, value in nested.items()
    }


def classifier(**changes: Any) -> ClassifierSettings:
    return changed(tiny().classifier, {"stem_stride": "auto", **changes})


def sampler(**changes: Any) -> SamplerSettings:
    return changed(tiny().sampler, changes)


def generator(**changes: Any) -> GeneratorSettings:
    return changed(changed(tiny().generator, {"diffusion": {"signal": 1.0}}), changes)


def network(**changes: Any) -> NetworkSettings:
    return changed(tiny().generator.network, changes)


def diffusion(**changes: Any) -> DiffusionSettings:
    return changed(tiny().generator.diffusion, {"signal": 1.0, **changes})


def augmentation(**changes: Any) -> AugmentationSettings:
    """The arm without augmentation, changed."""
    return changed(no_augmentation(), changes)


def simulation(instrument: str = "flowcam_10x", **changes: Any) -> SimulationSettings:
    """What the simulator does by default, for one protein image where ``counts`` are not given."""
    return SimulationSettings.model_validate(simulation_values(instrument, **changes))


def simulation_values(instrument: str = "flowcam_10x", **changes: Any) -> dict[str, Any]:
    """The same as plain containers, unchecked."""
    return _merged(_simulation_of(instrument), {"counts": {"train": {"protein": 1}}, **changes})


def folder(root: Path, **changes: Any) -> FolderSettings:
    return changed(_data("folder"), {"root": root, **changes})


def flowcam(root: Path, **changes: Any) -> FlowCamSettings:
    return changed(_data("flowcam"), {"root": root, **changes})


def mfi(root: Path, **changes: Any) -> MfiSettings:
    return changed(_data("mfi"), {"root": root, **changes})


def collage(root: Path, **changes: Any) -> CollageSettings:
    return changed(_data("collage"), {"root": root, **changes})
