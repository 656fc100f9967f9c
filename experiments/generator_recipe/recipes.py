"""The recipes that are compared: data, training and sampling of each as a list of overrides.

Each can be had with ``python -m svp_lightning task=train_generator <SETTING> <its overrides>``.
"""

SETTING = [
    "trainer=cpu",
    "scale=demo",
    "data.simulation.counts={"
    "train:{protein:3000,silicone_oil:300,air_bubble:300},"
    "val:{protein:600,silicone_oil:600,air_bubble:600},"
    "test:{protein:8,silicone_oil:8,air_bubble:8}}",
]
"""The demo's data, 64 px, with more held-out images (validation split). The test split is not used,
and as small as it may be."""

FROM_SCRATCH = ["generator.initial=null", "generator.steps=2000", "generator.batch_size=16"]
"""32,000 training images."""
PHYSICS = [
    "generator.initial=physics",
    "generator.steps=500",
    "generator.batch_size=16",
    "generator.learning_rate=5.0e-4",
    "generator.ema_decay=0.98",
]
"""8,000 training images, as in the demo."""
LONGER = [*PHYSICS, "generator.steps=2000", "generator.ema_decay=0.995"]
"""As many as from scratch."""
LONGEST = [*PHYSICS, "generator.steps=4000", "generator.ema_decay=0.997"]
"""Twice as many."""
EIGHT_THOUSAND = [*PHYSICS, "generator.steps=8000", "generator.ema_decay=0.998"]
"""And twice as many again."""

RESIDUAL = ["generator.initial=residual", *PHYSICS[1:]]
"""From what ``physics.py --to residual generator.diffusion.prediction=residual`` writes."""

TRAITS = ["generator.initial=traits", *PHYSICS[1:]]
"""From what ``physics.py --to traits --microscopes 92 --sessions 2 generator.network.traits=true``
writes."""

EDM = [
    "generator.diffusion.weighting=edm",
    "generator.diffusion.noise_levels={mean:-1.0,std:1.4,uniform_share:0.25}",
]
"""Karras et al. 2022, with a share of the images at a uniformly drawn time step."""

LITTLE_NOISE = "generator.diffusion.noise_levels={mean:-2.0,std:1.8,uniform_share:0.5}"
"""Half of the images get log-normal noise: 10 % below sigma / alpha = 0.03 instead of 0.4 %."""

RECIPES: dict[str, list[str]] = {
    "scratch": FROM_SCRATCH,
    "scratch_edm": [*FROM_SCRATCH, *EDM],
    "physics": PHYSICS,
    "physics_longer": LONGER,
    "physics_longest": LONGEST,
    "physics_8000": EIGHT_THOUSAND,
    "autoguided": LONGEST,
    "little_noise": [*LONGER, LITTLE_NOISE],
    "traits": TRAITS,
    "residual": RESIDUAL,
    "residual_one_orientation": [*RESIDUAL, "sampler.reorient=false"],
}
"""At 64 px."""

AUTOGUIDED = {"autoguided": ("physics", 1.5, (0.3, 3.0))}
"""Recipe -> recipe of the early weights that its sampler is guided away from, weight, and between
which sigma / alpha (Karras et al. 2024, arXiv 2406.02507; Kynkäänniemi et al. 2024, 2404.07724)."""

SMALL_SETTING = [
    "trainer=cpu",
    "data.image_size=32",
    "data.simulation.counts={"
    "train:{protein:3000,silicone_oil:1000,air_bubble:1000},"
    "val:{protein:1000,silicone_oil:1000,air_bubble:1000},"
    "test:{protein:8,silicone_oil:8,air_bubble:8}}",
    "generator.initial=null",
    "generator.checkpoint_every=500",
]
SMALL_RECIPES = {
    "default": [
        "generator=unet",
        "generator.network.block_channels=[32,64,96]",
        "generator.network.patch=2",
        "generator.steps=1000",
        "generator.batch_size=32",
        "generator.warmup_steps=50",
        "generator.ema_decay=0.99",
    ],
    "paper": [
        "generator=paper",
        "sampler=ddpm",
        "generator.network.block_channels=[16,32,64,128]",
        "generator.steps=800",
        "generator.learning_rate=1.0e-3",
    ],
}
"""At 32 px, for the speed of both recipes side by side: 32,000 training images each, the paper's
network at a quarter of its width."""


def setting(size: int) -> list[str]:
    """The data of the comparison at 32 or 64 px."""
    return SMALL_SETTING if size == 32 else SETTING


def overrides(recipe: str, seed: int, size: int = 64) -> list[str]:
    """The whole command line of one recipe."""
    known = SMALL_RECIPES if size == 32 else RECIPES
    return [*setting(size), *known[recipe], f"generator.seed={seed}"]
