"""From noise to images: the sampler of the program and of exported generators.

Needs torch and diffusers only. An exported generator carries this file::

    from diffusers import DiffusionPipeline

    pipe = DiffusionPipeline.from_pretrained("path/to/the/export", trust_remote_code=True)
    images = pipe(class_labels=["air_bubble"] * 4, seed=1).images

References:
    Ho & Salimans, Classifier-free diffusion guidance, 2022, arXiv 2207.12598 (their weight
    is w - 1).
"""

import math
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline, ImagePipelineOutput, ModelMixin
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from diffusers.utils.torch_utils import randn_tensor
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from svp_lightning.generator.noise import gaussian, image_seeds
from svp_lightning.generator.solver import MAX_NOISE_RATIO

TRAITS_DRAW = -1
"""Number of the noise that decides the traits of an image."""


def oriented(images: Tensor, orientation: int, back: bool = False) -> Tensor:
    """Images (n, C, H, W) in one of eight orientations; ``back`` undoes it.

    Even numbers are quarter turns, the odd ones after them their mirror images.
    """
    mirrored, turns = orientation % 2, orientation // 2
    if back:
        images = images.flip(3) if mirrored else images
        return torch.rot90(images, -turns, (2, 3)).contiguous()
    turned = torch.rot90(images, turns, (2, 3))
    return (turned.flip(3) if mirrored else turned).contiguous()


class ParticlePipeline(DiffusionPipeline):
    """Draws grey images of particles.

    Args:
        unet: the network, (x_t (B, 1, H, W), t (B,), labels (B,)) -> (B, 1, H, W).
        scheduler: the sampler; it also knows what the network predicts.
        class_names: K class names, in label order; label K means "any class".
        image_size: H = W, px.
        guidance_scale: default weight of the class; 1 is the class as learnt.
        guidance_interval: default ``[low, high]`` of sigma / alpha between which that weight acts;
            None: everywhere.
        num_inference_steps: default steps of the sampler.
        reorient: whether every step sees the images in another of their eight orientations.
        pixel_size_um: µm per px, where known.
    """

    _orientation = 0
    bfloat16 = False
    """Whether the network multiplies in bfloat16, whatever its weights are."""

    def __init__(
        self,
        unet: ModelMixin,
        scheduler: SchedulerMixin,
        class_names: list[str] = [],  # noqa: B006  diffusers takes what has a default from its index
        image_size: int = 64,
        guidance_scale: float = 1.0,
        guidance_interval: list[float] | None = None,
        num_inference_steps: int = 20,
        reorient: bool = False,
        pixel_size_um: float | None = None,
    ) -> None:
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler)
        self.register_to_config(
            class_names=class_names,
            image_size=image_size,
            guidance_scale=guidance_scale,
            guidance_interval=guidance_interval,
            num_inference_steps=num_inference_steps,
            reorient=reorient,
            pixel_size_um=pixel_size_um,
        )

    def __call__(
        self,
        class_labels: str | int | Sequence[str | int],
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        seed: int = 0,
        start: int = 0,
        generator: torch.Generator | list[torch.Generator] | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        guidance_interval: Sequence[float] | None = None,
    ) -> Any:
        """Draw one image for each label.

        Args:
            class_labels: class names or numbers, one per image.
            num_inference_steps: evaluations of the network; None: the default.
            guidance_scale: above 1 exaggerates the class at the cost of variety; None: the
                default.
            seed: image k of a class depends on (seed, class, k) alone, not on its batch.
            start: the first k of each class, to draw more images later.
            generator: torch generators to take the noise from instead, as diffusers does.
            output_type: ``pil`` (8-bit grey images) or ``np`` (n, H, W) uint8.
            return_dict: False gives a plain tuple.
            guidance_interval: ``(low, high)`` of sigma / alpha between which the weight acts;
                None: the default. ``(0, math.inf)`` is everywhere.

        Raises:
            ValueError: a class is unknown.
        """
        labels = self._labels(class_labels)
        images: Any = self.draw(
            torch.tensor(labels, device=self._execution_device),
            self._noise(labels, seed, start, generator),
            num_inference_steps,
            guidance_scale,
            guidance_interval,
        )
        if output_type == "pil":
            images = [Image.fromarray(image) for image in images]
        return ImagePipelineOutput(images=images) if return_dict else (images,)

    def draw(
        self, labels: Tensor, draw_noise: Callable[[int], Tensor], *options: Any
    ) -> NDArray[np.uint8]:
        """Grey levels (n, H, W) of the images at the end of :meth:`states`."""
        last = deque(self.states(labels, draw_noise, *options), maxlen=1)  # one state in memory
        return self.grey_levels(last.pop()[0])

    def states(
        self,
        labels: Tensor,
        draw_noise: Callable[[int], Tensor],
        steps: int | None = None,
        guidance: float | None = None,
        interval: Sequence[float] | None = None,
        start: tuple[Tensor, float] | None = None,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Noisy images and the clean ones predicted from them before each step, then the result.

        ``labels`` are (n,), on the network's device; ``draw_noise`` gives standard normal noise
        number 0, 1, ..., (n, 1, H, W); 0 is the start. ``start``: clean images (n, 1, H, W) in
        [-1, 1] and the sigma / alpha to which they are noised, instead of pure noise. The others
        are as in the call; None: the default.
        """
        weight = self.config.guidance_scale if guidance is None else guidance
        low, high = interval or self.config.guidance_interval or (0, math.inf)
        top = MAX_NOISE_RATIO if start is None else start[1]
        self.scheduler.set_timesteps(steps or self.config.num_inference_steps, start_ratio=top)
        x, traits = draw_noise(0), self._traits(labels, draw_noise, start)
        if start is not None:
            first = self.scheduler.config.noise_ratio[int(self.scheduler.timesteps[0])]
            x = (start[0] + first * x) / math.hypot(1, first)
        for number, t in enumerate(self.progress_bar(self.scheduler.timesteps.tolist())):
            inside = low <= self.scheduler.config.noise_ratio[t] <= high
            fresh = draw_noise(number + 1) if self.scheduler.config.sampler == "ddpm" else None
            self._orientation = number % 8 if self.config.reorient else 0
            before, x = x, self._step(x, t, (labels, traits), weight if inside else 1.0, fresh)
            yield before, self.scheduler.model_outputs[-1]
        yield x, x

    def _traits(self, labels: Tensor, draw_noise: Callable[[int], Tensor], start: Any) -> Any:
        """Traits of the images to be, (n, TRAITS); None: the network takes none."""
        traits = getattr(self.unet, "particle_traits", None)
        if traits is None:
            return None
        if start is not None:
            return traits.measured(start[0])
        return traits.drawn(labels, draw_noise(TRAITS_DRAW).flatten(1))

    @torch.no_grad()
    def _step(
        self, x: Tensor, t: int, wanted: tuple[Tensor, Any], guidance: float, noise: Any
    ) -> Tensor:
        """One step, with the class strengthened: f(null) + w (f(class) - f(null))."""
        labels, traits = wanted
        if guidance == 1:
            prediction = self._predict(x, t, labels, traits)
        else:
            labels = torch.cat((labels, torch.full_like(labels, self._null_label)))
            if traits is not None:
                traits = torch.cat((traits, torch.full_like(traits, torch.nan)))
            both = self._predict(torch.cat((x, x)), t, labels, traits)
            conditional, unconditional = both.chunk(2)
            prediction = unconditional + guidance * (conditional - unconditional)
        stepped: Tensor = self.scheduler.step(
            prediction, t, x, variance_noise=noise, return_dict=False
        )[0]
        return stepped

    def _predict(self, x: Tensor, t: int, labels: Tensor, traits: Tensor | None) -> Tensor:
        seen = oriented(x.to(self.unet.dtype), self._orientation)
        described = {} if traits is None else {"traits": traits}
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.bfloat16):
            prediction: Tensor = self.unet(seen, torch.full_like(labels, t), labels, **described)
        return oriented(prediction.float(), self._orientation, back=True)

    @property
    def _null_label(self) -> int:
        """The label of any class."""
        return int(self.unet.config.num_labels) - 1

    def _labels(self, class_labels: str | int | Sequence[str | int]) -> list[int]:
        names = list(self.config.class_names)
        wanted = [class_labels] if isinstance(class_labels, str | int) else list(class_labels)
        strange = [
            c
            for c in wanted
            if (c not in names if isinstance(c, str) else not 0 <= c <= len(names))
        ]
        if strange:
            raise ValueError(f"The classes are {', '.join(names)}; not {strange[0]!r}.")
        return [names.index(c) if isinstance(c, str) else c for c in wanted]

    def _noise(self, labels, seed, start, generator):  # type: ignore[no-untyped-def]
        """Draw number -> standard normal noise of all images, (n, 1, H, W)."""
        size, device = self.config.image_size, self._execution_device
        if generator is not None:
            shape = (len(labels), 1, size, size)
            return lambda _: randn_tensor(shape, generator=generator, device=device)
        names, seen, seeds = [*self.config.class_names, ""], Counter[int](), []
        for label in labels:
            k = start + seen[label]
            seen[label] += 1
            seeds.append(int(image_seeds(seed, names[label], k, k + 1)[0]))
        on_device = torch.tensor(seeds, device=device)
        return lambda draw: gaussian(on_device, draw, size, size)

    @staticmethod
    def grey_levels(images: Tensor) -> NDArray[np.uint8]:
        """(n, 1, H, W) in [-1, 1] -> (n, H, W) in 0 to 255, rounded, cut off outside."""
        levels = images[:, 0].float().add(1).mul(127.5).round().clamp(0, 255)
        array: NDArray[np.uint8] = levels.to(torch.uint8).cpu().numpy()
        return array
