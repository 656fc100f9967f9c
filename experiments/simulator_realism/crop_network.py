"""A small convolutional network and what its training images go through."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

BACKGROUND = 175.0
BATCH = 64


def small_network(num_classes: int) -> nn.Sequential:
    """Five convolutions at half resolution; (n, 1, 64, 64) contrast -> (n, num_classes) logits.

    The crops were printed 43 px wide: little that 32 px cannot hold is left in them.
    """
    widths = [(1, 16, 1), (16, 32, 2), (32, 64, 1), (64, 96, 2), (96, 160, 2)]
    layers: list[nn.Module] = [nn.AvgPool2d(2)]
    for inputs, outputs, stride in widths:
        kernel = 5 if inputs == 1 else 3
        convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        layers += [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(160, num_classes)]
    return nn.Sequential(*layers, *head)


def contrast(images: NDArray[np.uint8]) -> Tensor:
    """uint8 (n, 64, 64) -> float32 (n, 1, 64, 64), background 0."""
    return torch.from_numpy(images).float()[:, None] / BACKGROUND - 1


def augment(x: Tensor, generator: torch.Generator) -> Tensor:
    """Geometry, intensity, halo and depth gain, smooth discrepancy noise, mild unsharp or blur.

    Halo and depth gain and the smooth noise stand for what the optics model leaves out; they
    are part of this experiment's training, not of the simulator.
    """
    n = len(x)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand((n, 1, 1, 1), generator=generator)

    x = functional.grid_sample(
        x, _grid(x, uniform, generator), padding_mode="border", align_corners=False
    )
    gain = torch.where(x > 0, uniform(0.7, 1.5), uniform(0.75, 1.25))
    coarse = torch.randn((n, 1, 8, 8), generator=generator)
    smooth = functional.interpolate(coarse, x.shape[2:], mode="bicubic", align_corners=False)
    x = x * gain * (1 + uniform(0, 0.25) * smooth)
    blurred = functional.avg_pool2d(functional.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)
    x = x + uniform(-0.4, 0.6) * (x - blurred)
    x = (1 + x) * uniform(0.96, 1.04) - 1 + 0.008 * torch.randn(x.shape, generator=generator)
    return x.clamp(-1, 255 / BACKGROUND - 1)


def _grid(x: Tensor, uniform: object, generator: torch.Generator) -> Tensor:
    """Turns, mirror images, zoom by a tenth and shifts by a few pixels."""
    assert callable(uniform)
    angle, zoom = uniform(0, 2 * math.pi).flatten(), uniform(0.88, 1.12).flatten()
    mirror = torch.where(uniform(-1, 1).flatten() < 0, -1.0, 1.0)
    shift = (torch.rand((len(x), 2), generator=generator) - 0.5) * 0.12
    cosine, sine = angle.cos() / zoom, angle.sin() / zoom
    rows = torch.stack([mirror * cosine, -sine, shift[:, 0], mirror * sine, cosine, shift[:, 1]], 1)
    return functional.affine_grid(rows.view(-1, 2, 3), list(x.shape), align_corners=False)


def train(
    images: NDArray[np.uint8], labels: NDArray[np.int64], epochs: int, seed: int
) -> nn.Sequential:
    """AdamW with one cycle of the learning rate; the last weights are the result."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    network = small_network(int(labels.max()) + 1)
    x, y = contrast(images), torch.from_numpy(labels)
    steps = epochs * (len(x) // BATCH)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, steps, pct_start=0.2)
    loss_of = nn.CrossEntropyLoss(label_smoothing=0.05)
    network.train()
    for _ in tqdm(range(steps), desc=f"train seed {seed}", mininterval=5):
        chosen = torch.randint(len(x), (BATCH,), generator=generator)
        loss = loss_of(network(augment(x[chosen], generator)), y[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network.eval()


@torch.inference_mode()
def predict(network: nn.Module, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Class probabilities, float32 (n, classes)."""
    parts = [network(part).softmax(1) for part in contrast(images).split(256)]
    return torch.cat(parts).numpy()
