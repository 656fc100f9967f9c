"""Images of sub-visible particles, by class: the pipeline of an exported generator.

Needs torch and diffusers only::

    from diffusers import DiffusionPipeline

    pipe = DiffusionPipeline.from_pretrained("path/to/this/folder", trust_remote_code=True)
    images = pipe(class_labels=["air_bubble"] * 4, seed=1).images
"""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from diffusers import DiffusionPipeline, ImagePipelineOutput, ModelMixin
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from diffusers.utils.torch_utils import randn_tensor
from PIL import Image
from torch import Tensor
from torch.nn import functional

from svp_lightning.generator.noise import gaussian, image_seeds
from svp_lightning.generator.radial import radial_maps


class ParticlePipeline(DiffusionPipeline):
    """Draws grey images of particles.

    Args:
        unet: the network, on pixel blocks folded into channels.
        scheduler: the sampler; it also knows what the network predicts.
        class_names: K class names, in label order; label K stands for "any class".
        image_size: H = W, px.
        patch: side of a pixel block.
        radial: whether the network also sees where a pixel is, seen from the centre.
        guidance_scale: default weight of the class; 1 is the class as learnt.
        guidance_interval: default ``[low, high]`` of sigma / alpha between which that weight acts;
            None: everywhere.
        num_inference_steps: default steps of the sampler.
        pixel_size_um: µm per px, where known.
    """

    def __init__(
        self,
        unet: ModelMixin,
        scheduler: SchedulerMixin,
        class_names: list[str] = [],  # noqa: B006  diffusers takes what has a default from its index
        image_size: int = 64,
        patch: int = 1,
        radial: bool = False,
        guidance_scale: float = 1.0,
        guidance_interval: list[float] | None = None,
        num_inference_steps: int = 20,
        pixel_size_um: float | None = None,
    ) -> None:
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler)
        self.register_to_config(
            class_names=class_names,
            image_size=image_size,
            patch=patch,
            radial=radial,
            guidance_scale=guidance_scale,
            guidance_interval=guidance_interval,
            num_inference_steps=num_inference_steps,
            pixel_size_um=pixel_size_um,
        )

    @torch.no_grad()
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
            guidance_interval: noise levels sigma / alpha, lowest and highest, between which
                guidance acts; outside, the class is drawn as learnt. None: the default;
                ``(0, inf)``: everywhere.

        Returns:
            An ``ImagePipelineOutput`` with ``images``, or a tuple of them.
        """
        labels = self._labels(class_labels)
        guidance = self.config.guidance_scale if guidance_scale is None else guidance_scale
        interval = guidance_interval or self.config.guidance_interval or (0, math.inf)
        device = self._execution_device
        y = torch.tensor(labels, device=device)
        draw = self._noise(labels, seed, start, generator)
        self.scheduler.set_timesteps(num_inference_steps or self.config.num_inference_steps)
        x = draw(0)
        for step, t in enumerate(self.progress_bar(self.scheduler.timesteps)):
            inside = interval[0] <= self.scheduler.config.noise_ratio[int(t)] <= interval[1]
            weight = guidance if inside else 1.0
            prediction = self._predict(x, t.to(device).expand(len(y)), y, weight)
            fresh = draw(step + 1) if self.scheduler.config.sampler == "ddpm" else None
            x = self.scheduler.step(
                prediction, t, x, variance_noise=fresh, return_dict=False
            )[0]  # fmt: skip
        levels = x[:, 0].float().add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)
        images = levels.cpu().numpy()
        if output_type == "pil":
            images = [Image.fromarray(image) for image in images]
        return ImagePipelineOutput(images=images) if return_dict else (images,)

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

    def _predict(self, x: Tensor, t: Tensor, y: Tensor, guidance: float) -> Tensor:
        """The network's output for noisy images, its class strengthened (Ho & Salimans 2022)."""
        if guidance == 1:
            return self._network(x, t, y)
        nulls = torch.full_like(y, len(self.config.class_names))
        both = self._network(torch.cat((x, x)), torch.cat((t, t)), torch.cat((y, nulls)))
        conditional, unconditional = both.chunk(2)
        return unconditional + guidance * (conditional - unconditional)

    def _network(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        patch = self.config.patch
        blocks = functional.pixel_unshuffle(x.to(self.unet.dtype), patch)
        if self.config.radial:
            maps = radial_maps(self.config.image_size // patch).to(blocks)
            blocks = torch.cat((blocks, maps.expand(len(blocks), -1, -1, -1)), dim=1)
        prediction = self.unet(blocks, t, class_labels=y, return_dict=False)[0]
        return functional.pixel_shuffle(prediction, patch).float()
