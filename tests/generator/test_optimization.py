"""Which optimiser takes which parameters."""

from collections.abc import Callable

import pytest
from torch import nn
from torch.optim import AdamW

from svp_lightning.generator.denoiser import Denoiser, build_denoiser
from svp_lightning.generator.muon import Muon
from svp_lightning.generator.optimization import build_optimizer
from svp_lightning.generator.settings import GeneratorSettings

MakeSettings = Callable[..., GeneratorSettings]
PAPERS = {"kind": "paper", "block_channels": (8, 16), "patch": 1, "layers_per_block": 2}


def network_of(settings: GeneratorSettings) -> Denoiser:
    return build_denoiser(settings, image_size=16, num_classes=2)


@pytest.mark.parametrize("network", [{}, {"network": PAPERS}, {"augmentation": 0.5}])
def test_muon_has_every_parameter_once_and_only_maps_as_matrices(
    make_settings: MakeSettings, network: dict[str, object]
) -> None:
    settings = make_settings(**network)
    denoiser = network_of(settings)
    optimizer = build_optimizer(denoiser, settings)
    assert isinstance(optimizer, Muon)
    matrices, others = (group["params"] for group in optimizer.param_groups)
    taken = [id(p) for p in [*matrices, *others]]
    assert sorted(taken) == sorted(id(p) for p in denoiser.parameters())
    assert all(p.ndim >= 2 for p in matrices)
    embeddings = [m.weight for m in denoiser.modules() if isinstance(m, nn.Embedding)]
    assert {id(p) for p in embeddings} <= {id(p) for p in others}
    assert sum(p.numel() for p in matrices) > 0.9 * sum(p.numel() for p in denoiser.parameters())


def test_the_papers_recipe_may_keep_its_own(make_settings: MakeSettings) -> None:
    settings = make_settings(optimizer="adamw", weight_decay=0.2)
    optimizer = build_optimizer(network_of(settings), settings)
    assert type(optimizer) is AdamW
    assert optimizer.param_groups[0]["weight_decay"] == 0.2
