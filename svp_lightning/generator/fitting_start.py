"""Whether a generator can start from the weights of another one, by the settings of both.

Kept free of torch so that the command line can refuse it at once.
"""

import json
from pathlib import Path
from typing import Any

from svp_lightning.errors import SettingsError
from svp_lightning.generator.settings import INFO, GeneratorSettings

OF_THE_WEIGHTS = {
    "network": ("kind", "block_channels", "layers_per_block", "attention", "traits"),
    "diffusion": ("timesteps", "schedule", "prediction"),
}
"""Settings that weights are good for alone."""
PATCHES = (1, 2, 4)


def require_fitting_start(settings: GeneratorSettings, image_size: int | None) -> None:
    """Refuse settings of another network or noising process than the generator in ``initial``.

    ``image_size`` is in px; None: not known yet. Loading refuses a folder that holds no generator.

    Raises:
        SettingsError: there are no weights, or naming what they need.
    """
    weights = settings.initial_weights
    found = None if weights is None else _read(weights.parent)
    if found is None:
        return
    needs = _needs(settings, *found) or _sizes(settings, image_size, *found)
    if needs:
        listed = ", ".join(f"{name}={json.dumps(value)}" for name, value in needs.items())
        raise SettingsError(
            f"generator.initial={settings.initial} is of another network, noising process or image "
            f"size; its weights need {listed}.",
            "Set these, or generator.initial=null.",
        )


def _read(folder: Path) -> tuple[GeneratorSettings, int] | None:
    """Settings and image size of a trained generator; None where the folder holds none."""
    try:
        stored = json.loads((folder / INFO).read_text(encoding="utf-8"))["generator"]
        return GeneratorSettings.model_validate(stored["settings"]), int(stored["image_size"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _needs(settings: GeneratorSettings, start: GeneratorSettings, _: int) -> dict[str, Any]:
    """Settings that differ -> what they are in ``start``."""
    needs: dict[str, Any] = {}
    for part, names in OF_THE_WEIGHTS.items():
        theirs, ours = (getattr(one, part).model_dump(mode="json") for one in (start, settings))
        needs |= {f"generator.{part}.{n}": theirs[n] for n in names if theirs[n] != ours[n]}
    if bool(start.augmentation) != bool(settings.augmentation):
        needs["generator.augmentation"] = start.augmentation
    return needs


def _sizes(
    settings: GeneratorSettings, image_size: int | None, start: GeneratorSettings, size: int
) -> dict[str, int]:
    """What gives as many blocks of pixels as in ``start``, of as many pixels at least."""
    if image_size is None:
        return {}
    patch = start.network.for_images(size).patch
    finer = patch * image_size / size
    if finer < patch or finer not in PATCHES:
        return {"data.image_size": size}
    if finer != settings.network.for_images(image_size).patch:
        return {"generator.network.patch": int(finer)}
    return {}
