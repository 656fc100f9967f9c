"""How far an image is from those of each class: the score behind the flag ``unfamiliar``.

A classifier puts a fibre or a cell into one of its classes, often with certainty: its last features
hold what tells the classes apart and little else. So an image is described by the means of all
residual stages over positions and by its own look: the angular harmonics of its contrast and the
power spectrum in rings (both the same for a turned particle), and quantiles of its contrast. Each
class has a Gaussian mixture over the whitened principal components of these; its strangeness is
the negative log density. Mixtures by class follow Lee et al. (2018, arXiv 1807.03888), who use one
Gaussian of a covariance that all classes share; how it was chosen among others is in
experiments/out_of_distribution.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from svp_lightning.classifier.features import pooled_stages, signed_root, whitening
from svp_lightning.classifier.network import Classifier
from svp_lightning.data.store import spread
from svp_lightning.data.transforms import to_model_range
from svp_lightning.errors import CheckpointError

COMPONENTS, IMAGES_PER_COMPONENT = 64, 3
"""Principal components that densities are of, at most, and images of the rarest class for each: a
density of more dimensions fits its own images, and new ones of the class look as strange to it as
anything."""
MIXTURE, IMAGES_PER_GAUSSIAN = 4, 600
"""Gaussians of a class, at most, and images for each."""
VARIANCE_FLOOR = 0.01
"""Added to every variance; the components have a variance of 1."""
IMAGES = 3000
"""Training images of a class that its density is fitted to, at most."""
BATCH = 256

RINGS, ORDERS, BANDS = 10, 9, 14
QUANTILES = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 0.995)
_POWER_FLOOR = 1e-3


class Appearance(nn.Module):
    """A classifier that also says how far an image is from each of its classes.

    Args:
        classifier: in evaluation mode.
        tensors: as :func:`fit_appearance` finds them, by name: ``mean`` (C,) and ``basis`` (C, D)
            of the components; ``centres`` (K, G, D), ``roots`` (K, G, D, D) of the inverse
            covariances and ``weights`` (K, G), the log density at each centre.

    Raises:
        CheckpointError: a tensor is missing or does not fit the classifier.
    """

    mean: Tensor
    basis: Tensor
    centres: Tensor
    roots: Tensor
    weights: Tensor

    def __init__(
        self, classifier: Classifier, tensors: Mapping[str, NDArray[np.floating[Any]]]
    ) -> None:
        super().__init__()
        self.classifier = classifier.eval()
        self.look = Look(classifier.image_size)
        for name in ("mean", "basis", "centres", "roots", "weights"):
            if name not in tensors:
                raise CheckpointError(
                    f"The classifier's reference holds no {name}.", "Evaluate the run again."
                )
            self.register_buffer(name, torch.from_numpy(np.array(tensors[name])).float())
        classes, gaussians, size = self.centres.shape[0], *self.centres.shape[1:]
        fits = (
            classes == len(classifier.class_names)
            and self.basis.shape == (len(self.mean), size)
            and self.roots.shape == (classes, gaussians, size, size)
            and self.weights.shape == (classes, gaussians)
        )
        if not fits:
            raise CheckpointError(
                "The reference does not fit the classifier.", "Evaluate the run again."
            )

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 1, H, W) uint8 -> probabilities and strangeness (nats), both (B, K) float32."""
        blocks, logits = described(self.classifier, self.look, images)
        found = (torch.cat(blocks, dim=1) - self.mean) @ self.basis
        # (K, G, B, D): from each centre, in standard deviations.
        away = (found - self.centres[:, :, None]) @ self.roots
        density = self.weights[:, :, None] - away.square().sum(dim=3) / 2
        return logits.float().softmax(dim=1), -density.logsumexp(dim=1).T


class Look(nn.Module):
    """Numbers that describe images of one ``size`` (H = W, px), whatever the classifier."""

    pixels: Tensor
    harmonics: Tensor
    bands: Tensor
    window: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        line = torch.arange(size) - (size - 1) / 2
        y, x = line[:, None].expand(size, size), line[None].expand(size, size)
        ring = (torch.hypot(x, y) / (size / 2) * RINGS).floor().int().flatten()
        # Pixels in the order of their rings, so that each ring is summed over its own pixels alone.
        self.ring_sizes = ring.bincount()[:RINGS].tolist()
        pixels = ring.argsort(stable=True)[: sum(self.ring_sizes)]
        of_ring = torch.tensor(self.ring_sizes)[ring[pixels]]
        harmonics = _turns(torch.atan2(y, x).flatten()[pixels]) / of_ring[:, None]
        fy, fx = torch.fft.fftfreq(size) * size, torch.arange(size // 2 + 1)
        band = torch.hypot(fx[None].float(), fy[:, None]) / (size / 2) * (BANDS + 2)
        twice = 2.0 - (fx % (size // 2) == 0).float()  # the other half mirrors these columns
        hann = torch.hann_window(size, periodic=False)
        self.register_buffer("pixels", pixels, persistent=False)
        self.register_buffer("harmonics", harmonics, persistent=False)
        self.register_buffer(
            "bands", _means(band.round(), BANDS, twice).flatten(1).T, persistent=False
        )
        self.register_buffer("window", torch.outer(hann, hann), persistent=False)

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, H, W) uint8 -> blocks of numbers (B, ...), each of one kind."""
        edge = [images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]]
        background = _quantiles(torch.cat(edge, dim=1), (0.5,)).clamp(min=1)
        contrast = images.float().div_(background[:, :, None]).sub_(1)
        return [
            self._angular(contrast),
            *self._power(contrast),
            _quantiles(images.flatten(1), QUANTILES) / background - 1,
        ]

    def _angular(self, contrast: Tensor) -> Tensor:
        """Root of the size of each angular order in each ring; the mean (order 0) has its sign."""
        rings = contrast.flatten(1).index_select(1, self.pixels).split(self.ring_sizes, dim=1)
        harmonics = self.harmonics.split(self.ring_sizes)
        sums = [one @ turns for one, turns in zip(rings, harmonics, strict=True)]
        parts = torch.stack(sums, dim=1).view(-1, RINGS, ORDERS, 2)
        turning = parts[:, :, 1:].square().sum(dim=3).pow(0.25)
        return torch.cat([signed_root(parts[:, :, 0, 0]), turning.flatten(1)], dim=1)

    def _power(self, contrast: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the log power in each band."""
        spectrum = torch.fft.rfft2(contrast * self.window).flatten(1)
        real, imaginary = spectrum.real, spectrum.imag
        log = real.square().addcmul_(imaginary, imaginary).add_(_POWER_FLOOR).log_()
        mean = log @ self.bands
        return mean, (log.square_() @ self.bands - mean.square()).clamp(min=0).sqrt()


def _means(number: Tensor, count: int, weight: Tensor | float = 1.0) -> Tensor:
    """(count, H, W) weights of the mean over the pixels of each number; 0 where there is none."""
    chosen = (number == torch.arange(count)[:, None, None]).float() * weight
    return chosen / chosen.sum(dim=(1, 2), keepdim=True).clamp(min=1)


def _turns(angle: Tensor) -> Tensor:
    """(P,) -> (P, ORDERS × 2) cosine and sine of each order."""
    phase = angle[:, None] * torch.arange(ORDERS)
    return torch.stack([phase.cos(), phase.sin()], dim=2).flatten(1)


def _quantiles(pixels: Tensor, wanted: Sequence[float]) -> Tensor:
    """(B, N) uint8 -> (B, Q) grey levels; from histograms, which are faster than sorting."""
    count = len(pixels)
    first = 256 * torch.arange(count, dtype=torch.int32, device=pixels.device)[:, None]
    histogram = torch.bincount((pixels + first).flatten(), minlength=256 * count).view(count, 256)
    below = histogram.cumsum(dim=1) / pixels.shape[1]
    at = torch.tensor(wanted, device=pixels.device)
    return torch.searchsorted(below, at.expand(count, -1).contiguous()).float()


def described(classifier: Classifier, look: Look, images: Tensor) -> tuple[list[Tensor], Tensor]:
    """Blocks of numbers (B, ...) of (B, 1, H, W) uint8 images, and the classifier's logits."""
    stages, logits = pooled_stages(classifier, to_model_range(images))
    return [*stages, *look(images[:, 0])], logits


def fit_appearance(
    classifier: Classifier,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    device: torch.device | str = "cpu",
) -> dict[str, NDArray[np.float32]]:
    """The tensors of an :class:`Appearance`, from real training images (n, H, W) and labels (n,).

    At most :data:`IMAGES` of a class are of use; every class has one. Of each class as many as the
    rarest one has, evenly over its images, decide the components.
    """
    classifier, look = classifier.to(device).eval(), Look(classifier.image_size).to(device)
    with torch.inference_mode():
        batches = [
            described(classifier, look, torch.tensor(images[s : s + BATCH, None], device=device))[0]
            for s in range(0, len(images), BATCH)
        ]
    blocks = [torch.cat(parts).cpu().double().numpy() for parts in zip(*batches, strict=True)]
    classes = len(classifier.class_names)
    each = int(np.bincount(labels, minlength=classes).min())
    even = np.concatenate([spread(np.flatnonzero(labels == k), each) for k in range(classes)])
    components = min(COMPONENTS, max(1, each // IMAGES_PER_COMPONENT))
    mean, basis = whitening([block[even] for block in blocks], components)
    found = (np.concatenate(blocks, axis=1) - mean) @ basis
    densities = [_density(found[labels == k]) for k in range(classes)]
    tensors = dict(zip(("centres", "roots", "weights"), _stacked(densities), strict=True))
    return {k: v.astype(np.float32) for k, v in {"mean": mean, "basis": basis, **tensors}.items()}


def _density(found: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """Centres, roots of the inverse covariances and log densities at the centres."""
    from sklearn.mixture import GaussianMixture  # takes long; who only predicts does without

    gaussians = min(MIXTURE, max(1, len(found) // IMAGES_PER_GAUSSIAN))
    if len(found) == 1:
        found = found.repeat(2, axis=0)  # one image has a centre and no spread
    fit = GaussianMixture(gaussians, reg_covar=VARIANCE_FLOOR, random_state=0).fit(found)
    roots = fit.precisions_cholesky_
    volume = np.log(np.diagonal(roots, axis1=1, axis2=2)).sum(axis=1)
    constant = found.shape[1] / 2 * math.log(2 * math.pi)
    return fit.means_, roots, np.log(fit.weights_) + volume - constant


def _stacked(densities: list[tuple[NDArray[np.float64], ...]]) -> list[NDArray[np.float64]]:
    """One array of each part; classes of fewer Gaussians get some that weigh nothing."""
    most = max(len(weights) for *_, weights in densities)
    stacked = []
    for parts, empty in zip(zip(*densities, strict=True), (0, 0, -np.inf), strict=True):
        padded = [np.full((most, *part.shape[1:]), empty, np.float64) for part in parts]
        for whole, part in zip(padded, parts, strict=True):
            whole[: len(part)] = part
        stacked.append(np.stack(padded))
    return stacked
