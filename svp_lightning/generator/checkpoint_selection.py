"""Which weights of a training become the generator: those that denoise held-out images best.

Noise of a few fixed levels is added to fixed real images, training ones and held-out ones, and the
network's guess of the clean image is compared with it. No image is drawn and no other network is
needed, so a look costs as much as a few training steps. Held-out images that are denoised clearly
worse than training images are the first sign that a generator memorises (Yoon et al. 2023,
"Diffusion probabilistic models generalize when they fail to memorize").
"""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from svp_lightning.generator.denoiser import Denoiser
from svp_lightning.generator.denoiser_training import GeneratorModule
from svp_lightning.generator.noise import gaussian
from svp_lightning.generator.settings import SelectionSettings

NOISE_RATIOS = (0.1, 0.4, 1.5, 6.0)
"""sigma / alpha: from the camera's grain to the outline of a large particle."""
IMAGES = 128
"""Of each class and split, at most."""
BATCH = 64
CLEAR_GAP, CLEAR_ERRORS = 0.2, 3.0
"""A gap that has grown by more than a fifth, and by three standard errors, is a warning."""

Compared = Mapping[int, tuple[Tensor, Tensor]]
"""Label -> training and held-out images of that class, (n, 1, H, W) in [-1, 1] each."""


@dataclass(frozen=True)
class DenoisingError:
    """How well the weights of one step denoise.

    ``train`` and ``heldout`` are geometric means, over images and then classes, of the mean squared
    error of the clean image at each of :data:`NOISE_RATIOS`; images span [-1, 1]. ``gap`` is the
    mean of the logarithm of ``heldout`` over ``train``, with its standard error from the spread
    between images.
    """

    train: tuple[float, ...]
    heldout: tuple[float, ...]
    gap: float
    gap_error: float

    @property
    def score(self) -> float:
        """Mean of the logarithms of ``heldout``: every noise level counts alike."""
        return float(np.mean(np.log(self.heldout)))

    def memorises_since(self, start: "DenoisingError") -> bool:
        """Whether held-out images have become clearly worse than training images.

        ``start`` was measured before the first step: its gap is that between the runs of the two.
        """
        return self.gap - start.gap > max(CLEAR_GAP, CLEAR_ERRORS * self.gap_error)


def denoising_error(denoiser: Denoiser, images: Compared) -> DenoisingError:
    """Measure a denoiser in evaluation mode, in float32 on its own device.

    Each class needs at least two images in each split.
    """
    logs = {
        label: [_log_errors(denoiser, part, label) for part in parts]
        for label, parts in images.items()
    }
    means = np.array([[part.mean(axis=0) for part in parts] for parts in logs.values()])
    train, heldout = means.mean(axis=0)
    variances = [part.mean(axis=1).var(ddof=1) / len(part) for p in logs.values() for part in p]
    return DenoisingError(
        train=tuple(np.exp(train).tolist()),
        heldout=tuple(np.exp(heldout).tolist()),
        gap=float((heldout - train).mean()),
        gap_error=float(np.sqrt(np.sum(variances)) / len(logs)),
    )


@torch.no_grad()
def _log_errors(denoiser: Denoiser, images: Tensor, label: int) -> NDArray[np.float64]:
    """Ln of each image's mean squared error at each noise level, (n, levels)."""
    schedule = denoiser.schedule
    known = np.log(schedule.noise_ratio)
    device = schedule.alpha.device
    errors = []
    for draw, ratio in enumerate(NOISE_RATIOS):
        step = int(np.abs(known - np.log(ratio)).argmin())
        for first in range(0, len(images), BATCH):
            clean = images[first : first + BATCH].to(device)
            seeds = torch.arange(first, first + len(clean), device=device)
            t = torch.full_like(seeds, step)
            noisy = schedule.add_noise(clean, gaussian(seeds, draw, *clean.shape[2:]), t)
            traits = denoiser.traits_of(clean)
            prediction = denoiser(noisy, t, torch.full_like(seeds, label), traits=traits)
            error = (schedule.x_0(prediction, noisy, t) - clean).square().mean(dim=(1, 2, 3))
            errors.append(error.cpu().double().log())  # Apple's GPUs have no float64
    return torch.cat(errors).view(len(NOISE_RATIOS), -1).T.numpy()


class CheckpointSelection(pl.Callback):
    """Measures the weights to sample from as training goes, and keeps the best.

    Checks, the first of them before the first step, and the best weights live in the trainer's own
    checkpoints, so a resumed training chooses as an uninterrupted one. The main process measures;
    the others get the result.
    """

    def __init__(self, settings: SelectionSettings, images: Compared) -> None:
        self.settings = settings
        self.images = images
        self.checks: dict[int, DenoisingError] = {}
        self.best_step = 0
        self.best_weights: dict[str, Tensor] = {}

    @property
    def exhausted(self) -> bool:
        """Whether the patience has run out."""
        since = sum(step > self.best_step for step in self.checks)
        return self.settings.patience is not None and since >= self.settings.patience

    @property
    def start(self) -> DenoisingError:
        """The error before the first step."""
        return self.checks[0]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A training that had stopped when it was saved stays stopped."""
        if not self.checks:
            self._check(trainer, pl_module)
        trainer.should_stop = trainer.should_stop or self.exhausted

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any, **__: Any
    ) -> None:
        step, chosen = trainer.global_step, self.settings.method == "denoising"
        due = step == trainer.max_steps or (chosen and step % self.settings.every == 0)
        if not due or step in self.checks:
            return
        denoiser = self._check(trainer, pl_module)
        if not self.best_step or self.checks[step].score < self.checks[self.best_step].score:
            self.best_step = step
            self.best_weights = {
                name: value.detach().cpu().clone() for name, value in denoiser.state_dict().items()
            }
        trainer.should_stop = trainer.should_stop or self.exhausted

    def _check(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> Denoiser:
        """Measure the weights of this step; the denoiser that has them."""
        assert isinstance(pl_module, GeneratorModule)
        denoiser = pl_module.trained_denoiser
        found: DenoisingError | None = None
        if trainer.is_global_zero:
            found = denoising_error(deepcopy(denoiser).eval(), self.images)
        check = trainer.strategy.broadcast(found)
        assert check is not None
        self.checks[trainer.global_step] = check
        return denoiser

    def restore_best(self, module: GeneratorModule) -> DenoisingError:
        """Put the best weights into the module's denoiser to sample from; their error."""
        module.trained_denoiser.load_state_dict(self.best_weights)
        return self.checks[self.best_step]

    def record(self) -> dict[str, Any]:
        """What was measured and chosen, as plain JSON values."""
        checks = [{"step": step, **asdict(check)} for step, check in self.checks.items()]
        return {"noise_ratios": NOISE_RATIOS, "step": self.best_step, "checks": checks}

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to resume, tensors and plain numbers only."""
        return {
            "checks": {step: asdict(check) for step, check in self.checks.items()},
            "best_step": self.best_step,
            "best_weights": self.best_weights,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume from a checkpoint."""
        checks = state_dict["checks"].items()
        self.checks = {step: DenoisingError(**values) for step, values in checks}
        self.best_step = state_dict["best_step"]
        self.best_weights = state_dict["best_weights"]
