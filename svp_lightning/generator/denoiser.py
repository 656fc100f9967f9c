"""The class-conditional denoiser: network, noising process and training loss.

    L = E_{x_0, y, t, eps} [ w(t) | target(x_0, eps, t) - f(alpha_t x_0 + sigma_t eps, t, y) | ]

with the squared or absolute difference and y hidden now and then, so that one network
learns both the conditional and the unconditional distribution (Ho & Salimans 2022, arXiv
2207.12598). No Lightning, no optimiser: a plain module.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from svp_lightning.generator.schedule import NoiseSchedule
from svp_lightning.generator.settings import GeneratorSettings, NetworkSettings


class Denoiser(nn.Module):
    """Predicts the noise (or v) in a noisy image of a given class; label K is "any class".

    The images are ``image_size`` px wide and high, a multiple of 16, of ``num_classes`` K classes.

    Raises:
        SettingsError: the network does not fit the image size.
    """

    def __init__(self, settings: GeneratorSettings, image_size: int, num_classes: int) -> None:
        super().__init__()
        self.settings = settings.diffusion.for_images(image_size)
        self.image_size = image_size
        self.num_classes = num_classes
        self.schedule = NoiseSchedule(self.settings)
        filtered = self.schedule.noise_ratio if self.settings.prediction == "filtered" else None
        self.network = build_network(
            settings.network, image_size, num_classes + 1, settings.augmentation > 0, filtered
        )
        self._fused = False

    @property
    def null_label(self) -> int:
        """The label of an unknown class."""
        return self.num_classes

    def forward(
        self,
        x_t: Tensor,
        t: Tensor,
        labels: Tensor,
        augmentation: Tensor | None = None,
        traits: Tensor | None = None,
    ) -> Tensor:
        """What the settings' ``prediction`` names, float32 (B, 1, H, W), of noisy images x_t.

        ``t`` (B,) is 0 to ``timesteps`` - 1, ``labels`` (B,) 0 to K, ``augmentation`` that of
        :func:`~svp_lightning.generator.warping.augment`; None: the images are as they were taken.
        ``traits`` are those of :mod:`~svp_lightning.generator.traits`; None: unknown.
        """
        described = {"augmentation": augmentation, "traits": traits}
        given = {name: value for name, value in described.items() if value is not None}
        prediction: Tensor = self.network(x_t, t, labels, **given)
        return prediction.float()

    def traits_of(self, images: Tensor) -> Tensor | None:
        """Traits of clean images (B, 1, H, W) in [-1, 1]; None: the network takes none."""
        traits = getattr(self.network, "particle_traits", None)
        return None if traits is None else traits.measured(images)

    def learn_traits(self, label: int, images: Tensor) -> None:
        """Draw the traits of a class as these images (n, 1, H, W) in [-1, 1] have them."""
        if getattr(self.network, "particle_traits", None) is not None:
            self.network.particle_traits.learn(label, images)  # type: ignore[operator, union-attr]

    def fuse(self) -> None:
        """Compile the network at its next call; the weights keep their names."""
        if not self._fused:
            self.network.compile()
            self._fused = True

    def loss(
        self,
        images: Tensor,
        labels: Tensor,
        generator: torch.Generator | None = None,
        augmentation: Tensor | None = None,
        process: tuple[int, int] = (0, 1),
    ) -> Tensor:
        """The training loss, a scalar, of clean images (B, 1, H, W) in [-1, 1] and labels (B,).

        ``generator`` draws times, noise and hidden labels, on the images' device; None takes
        torch's global one. ``augmentation`` is as in :meth:`forward`. ``process`` is the number of
        this one among so many that share the batch.
        """
        (loss,) = self.losses(images, labels, generator, augmentation, process)
        return loss

    def losses(
        self,
        images: Tensor,
        labels: Tensor,
        generator: torch.Generator | None = None,
        augmentation: Tensor | None = None,
        process: tuple[int, int] = (0, 1),
        parts: int = 1,
    ) -> Iterator[Tensor]:
        """The :meth:`loss` of each of equal ``parts`` of a batch, computed when it is asked for.

        What is drawn is drawn for the whole batch.
        """
        batch = len(images)
        random: dict[str, Any] = {"generator": generator, "device": images.device}
        # From equally likely strata of the whole batch: the loss varies less that way.
        rank, processes = process
        strata = torch.arange(rank, batch * processes, processes, device=images.device)
        t = self.schedule.draw((strata + torch.rand(batch, **random)) / (batch * processes))
        eps = torch.randn(images.shape, **random)
        hidden = torch.rand(batch, **random) < self.settings.class_dropout
        labels = torch.where(hidden, self.null_label, labels)
        condition = () if augmentation is None else (augmentation,)
        whole = (images, eps, t, labels, *condition)
        for part in zip(*(values.chunk(parts) for values in whole), strict=True):
            yield self._loss(*part)

    def _loss(
        self, images: Tensor, eps: Tensor, t: Tensor, labels: Tensor, *condition: Tensor
    ) -> Tensor:
        traits = self.traits_of(images)
        if traits is not None:  # hidden with the class: a class without them is never asked for
            traits = traits.masked_fill((labels == self.null_label)[:, None], torch.nan)
        noisy = self.schedule.add_noise(images, eps, t)
        prediction = self(noisy, t, labels, *condition, traits=traits)
        error = prediction - self.schedule.target(images, eps, t)
        if self.settings.prediction == "filtered":
            error = error / self.network.filter.missed(t)  # type: ignore[operator, union-attr]
        error = error.abs() if self.settings.loss == "l1" else error.square()
        loss: Tensor = (self.schedule.weight(t) * error.mean(dim=(1, 2, 3))).mean()
        return loss


def build_network(
    settings: NetworkSettings,
    image_size: int,
    num_labels: int,
    augmented: bool = False,
    filtered: list[float] | None = None,
) -> nn.Module:
    """A network (x_t (B, 1, H, W), t (B,), labels (B,)) -> (B, 1, H, W).

    ``num_labels`` includes the null class. An ``augmented`` one (``unet``) takes the description of
    an augmentation, too. With the ``filtered`` noise ratios of all time steps it predicts what a
    linear filter misses (``unet``).

    Raises:
        SettingsError: the images are too small for so many levels.
    """
    # Here: diffusers takes a second to import, which most commands do without.
    from svp_lightning.generator.networks import ParticleUNet
    from svp_lightning.generator.paper_network import PaperUNet

    patch = settings.for_images(image_size).patch
    channels, dropout = settings.block_channels, settings.dropout
    if settings.kind == "paper":
        paper: nn.Module = PaperUNet(channels, num_labels, dropout)
        return paper
    unet: nn.Module = ParticleUNet(
        image_size, num_labels, channels, settings.layers_per_block, settings.attention,
        patch, dropout, augmented, settings.traits, filtered,
    )  # fmt: skip
    return unet
