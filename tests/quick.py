"""Runs in processes that tests start are quick: figures are blank, networks narrow."""

import importlib.util
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from PIL import Image

STARTUP = Path(__file__).with_name("startup")
"""In ``PYTHONPATH`` it calls :func:`install` at the start of a process."""


def install() -> None:
    """Change modules when they are imported, so that a process loads none that it does not use."""
    for name, change in {
        "matplotlib.figure": _leave_figures_blank,
        "torchvision.models": _narrow_backbones,
        "svp_lightning.stages.generator_training": _leave_out_pictures,
    }.items():
        sys.meta_path.insert(0, _Afterwards(name, change))


def save_blank(_figure: Any, target: Any, *, format: str, **_options: Any) -> None:
    """In place of ``Figure.savefig``: the file shows nothing."""
    if format == "png":
        Image.new("L", (1, 1)).save(target, format=format)
        return
    blank = b'<svg xmlns="http://www.w3.org/2000/svg"/>'
    with target.open("wb") if isinstance(target, Path) else nullcontext(target) as file:
        file.write(blank)


def write_blank_pictures(
    _generator: Any, _store: Any, _sampler: Any, folder: Path, _device: Any
) -> None:
    """In place of the pictures of a generator, of which reports of runs show one."""
    folder.mkdir(parents=True, exist_ok=True)
    Image.new("L", (1, 1)).save(folder / "noise_to_image.png")


class _Afterwards(MetaPathFinder):
    """Changes a module as soon as it has been imported."""

    def __init__(self, name: str, change: Callable[[Any], None]) -> None:
        self.name, self.change = name, change

    def find_spec(
        self, name: str, _path: Sequence[str] | None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != self.name:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.loader is not None
        load = spec.loader.exec_module

        def load_and_change(module: ModuleType) -> None:
            load(module)
            self.change(module)

        spec.loader.exec_module = load_and_change  # type: ignore[method-assign]
        return spec


def _leave_figures_blank(module: Any) -> None:
    module.Figure.savefig = save_blank


def _narrow_backbones(module: Any) -> None:
    from tests.narrow import NarrowResNet

    module.get_model = NarrowResNet


def _leave_out_pictures(module: Any) -> None:
    module.write_pictures = write_blank_pictures
