"""The optimiser of a denoiser, as its settings name it."""

from torch import nn
from torch.optim import AdamW, Optimizer

from svp_lightning.generator.muon import Muon
from svp_lightning.generator.settings import GeneratorSettings


def build_optimizer(network: nn.Module, settings: GeneratorSettings) -> Optimizer:
    """Over all parameters of ``network``.

    Muon's matrices are the weights of linear and convolutional layers; norms, biases and the
    embedding of classes are no maps from one space to another and left to its AdamW.
    """
    lr, weight_decay = settings.learning_rate, settings.weight_decay
    if settings.optimizer == "adamw":
        return AdamW(network.parameters(), lr=lr, weight_decay=weight_decay)
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    matrices = [layer.weight for layer in layers]
    taken = {id(weight) for weight in matrices}
    others = [p for p in network.parameters() if id(p) not in taken]
    return Muon(matrices, others, lr=lr, weight_decay=weight_decay)
