"""Traits: what a particle looks like, in four numbers that the network is given with the class.

A network that knows them need not settle size, tone and roundness while it sees little but noise.
In training they are measured on the clean image itself, so every kind of data has them.
An exported generator carries this file.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

TRAITS, WAVES = 4, (2.0, 4.0, 8.0)
"""Numbers of an image, and the frequencies at which the network is shown them."""
AMOUNTS = 7
"""Numbers that describe an augmentation, see :mod:`~svp_lightning.generator.warping`."""
MEASURED_SIDE = 32
"""To which images are brought before they are measured, px."""
DRAWN_FROM, NEIGHBOURS = 2048, 5
"""Pairs of training images of a class that traits are drawn between, and neighbours of each."""


class Traits(nn.Module):
    """How traits are measured, and drawn for new images of a class.

    New ones lie between those of a training image and those of one of its nearest neighbours of the
    same class, as in SMOTE (Chawla et al. 2002, doi:10.1613/jair.953): near what occurs together,
    and no image's own. They are:

    * log2 of the radius of gyration of the squared deviation from the background, over N / 8;
    * a third of the logarithm of that deviation's root mean square, over 0.1;
    * its sign, -1 (dark) to 1 (bright);
    * elongation, the difference of the principal moments over their sum, 0 (round) to 1.

    Images of another size are measured alike: all are brought to 32 px before.

    Args:
        num_labels: class labels, the null class included, which has no traits.
    """

    pairs: Tensor

    def __init__(self, num_labels: int) -> None:
        super().__init__()
        self.register_buffer("pairs", torch.zeros(num_labels, 2, TRAITS, DRAWN_FROM))

    @staticmethod
    @torch.no_grad()
    def measured(images: Tensor) -> Tensor:
        """The traits of images (B, 1, H, W) in [-1, 1], float32 (B, :data:`TRAITS`)."""
        with torch.autocast(images.device.type, enabled=False):
            side = min(images.shape[2], MEASURED_SIDE)
            grey = functional.adaptive_avg_pool2d(images.float(), side)[:, 0]
            edge = torch.cat((grey[:, 0], grey[:, -1], grey[:, :, 0], grey[:, :, -1]), dim=1)
            background = _median(edge).view(-1, 1, 1)
            deviation = grey - background
            # Nine times the noise's variance, which a normal variable's median square gives.
            floor = 9 / 0.455 * _median((edge - background[:, 0]).square())
            power = (deviation.square() - floor.view(-1, 1, 1)).clamp(min=0) + 1e-8
            mass = power.sum(dim=(1, 2))
            place = (torch.arange(side, device=grey.device) + 0.5) / side * 8 - 4
            x, y = place.view(1, 1, -1), place.view(1, -1, 1)

            def mean(values: Tensor) -> Tensor:
                return (values * power).sum(dim=(1, 2)) / mass

            mx, my = mean(x), mean(y)
            xx, yy, xy = mean(x * x) - mx**2, mean(y * y) - my**2, mean(x * y) - mx * my
            size = (xx + yy).clamp(min=1e-4)
            elongation = torch.hypot(xx - yy, 2 * xy) / size
            contrast = (mass / side**2).sqrt().div(0.1).log() / 3
            tone = mean(deviation) / mean(deviation.abs()).clamp(min=1e-6)
            return torch.stack((size.log2() / 2, contrast, tone, elongation), dim=1)

    @torch.no_grad()
    def learn(self, label: int, images: Tensor) -> None:
        """Take over the traits of a class from its images (n, 1, H, W) in [-1, 1]."""
        found = self.measured(images).double().cpu()
        spread = found.std(dim=0, correction=0).clamp(min=1e-6)
        distance = torch.cdist(found / spread, found / spread)
        distance.fill_diagonal_(torch.inf)  # no image is its own neighbour, unless it is alone
        most = max(1, min(NEIGHBOURS, len(found) - 1))
        order = distance.argsort(dim=1, stable=True)[:, :most]
        pairs = torch.arange(DRAWN_FROM)
        first = pairs % len(found)  # all images in turn, each time with its next neighbour
        second = order[first, pairs // len(found) % most]
        both = torch.stack((found[first].T, found[second].T))
        self.pairs[label] = both.to(self.pairs)

    def drawn(self, labels: Tensor, noise: Tensor) -> Tensor:
        """Traits of classes (B,) from standard normal noise (B, two numbers or more)."""
        rows = torch.arange(len(labels), device=labels.device)
        which, share = torch.special.ndtr(noise[:, :2].float()).unbind(1)
        pair = (which * DRAWN_FROM).long().clamp(max=DRAWN_FROM - 1)
        first, second = self.pairs[labels].float()[rows, ..., pair].unbind(1)
        found = torch.lerp(first, second, share[:, None])
        return found.masked_fill((labels == len(self.pairs) - 1)[:, None], torch.nan)


def _median(values: Tensor) -> Tensor:
    """Of each row; torch's own is refused on GPUs where operations must be deterministic."""
    return values.sort(dim=1).values[:, (values.shape[1] - 1) // 2]


class DescribedEmbedding(nn.Embedding):
    """Class labels, how the images were augmented and what they look like, as one vector.

    Without a bias zeros add nothing: images that were not augmented, and hidden traits.

    Args:
        num_labels: class labels, the null class included.
        width: of the vector.
        augmented: whether the amounts of an augmentation are taken.
        traits: whether traits are taken.
    """

    def __init__(self, num_labels: int, width: int, augmented: bool, traits: bool) -> None:
        super().__init__(num_labels, width)
        if augmented:
            self.augmentation = nn.Linear(AMOUNTS, width, bias=False)
        if traits:
            waves = TRAITS * (1 + 2 * len(WAVES))
            last = nn.Linear(width, width, bias=False)
            self.traits = nn.Sequential(nn.Linear(waves, width), nn.SiLU(), last)
            nn.init.zeros_(last.weight)

    def forward(self, condition: Tensor | tuple[Tensor, Tensor | None, Tensor | None]) -> Tensor:
        """Labels (B,), perhaps amounts (B, 7) and traits (B, 4) -> (B, width).

        Traits that are not numbers are hidden.
        """
        if isinstance(condition, Tensor):
            condition = condition, None, None
        labels, amounts, traits = condition
        embedding: Tensor = super().forward(labels)
        if amounts is not None:
            embedding = embedding + self.augmentation(amounts)
        if traits is not None:
            known = ~traits.isnan().any(dim=1, keepdim=True)
            traits = torch.where(known, traits, 0)
            turned = [wave(traits * k) for k in WAVES for wave in (torch.sin, torch.cos)]
            shown = torch.cat((traits, *turned), dim=1).to(self.weight)
            embedding = embedding + known * self.traits(shown)
        return embedding
