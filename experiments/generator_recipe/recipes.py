"""The recipes that are compared: what each changes in the one they all start from.

Every recipe is a list of overrides as on the command line, so that each can be had with
``python -m svp_lightning task=train_generator <SETTING> <BASE> <its overrides>``.
"""

SETTING = [
    "trainer=cpu",
    "data.image_size=32",
    "data.simulation.counts={"
    "train:{protein:3000,silicone_oil:1000,air_bubble:1000},"
    "val:{protein:1000,silicone_oil:1000,air_bubble:1000},"
    "test:{protein:8,silicone_oil:8,air_bubble:8}}",
]
"""The data: 1,000 real images of each rare class, and as many held out (validation split).
The test split is not used, and as small as it may be."""

BASE = [
    "generator=unet",
    "generator.network.block_channels=[32,64,96]",
    "generator.network.attention=[false,false,true]",
    "generator.network.patch=2",
    "generator.diffusion.schedule=cosine",
    "generator.diffusion.signal=0.5",
    "generator.diffusion.prediction=residual",
    "generator.diffusion.weighting=uniform",
    "generator.diffusion.loss=l2",
    "generator.steps=320",
    "generator.batch_size=32",
    "generator.learning_rate=2.0e-3",
    "generator.warmup_steps=50",
    "generator.ema_decay=0.99",
    "generator.checkpoint_every=100000",
    "generator.selection.method=last",
]
"""1.9 million weights, 10,240 training images: about 70 s on a core."""

PAPER = [
    "generator=paper",
    "generator.network.block_channels=[16,32,64,128]",
    "generator.checkpoint_every=100000",
    "generator.selection.method=last",
]
"""The paper's network at a quarter of its width (2.4 million weights) and its recipe."""

RECIPES: dict[str, list[str]] = {
    "base": [],
    "epsilon": ["generator.diffusion.prediction=epsilon"],
    "v": ["generator.diffusion.prediction=v_prediction"],
    "flow": [
        "generator.diffusion.schedule=rectified",
        "generator.diffusion.prediction=velocity",
        "generator.diffusion.signal=1.0",
    ],
    "unshifted": ["generator.diffusion.signal=1.0"],
    "min_snr": ["generator.diffusion.weighting=min_snr"],
    "epsilon_min_snr": [
        "generator.diffusion.prediction=epsilon",
        "generator.diffusion.weighting=min_snr",
    ],
    "v_min_snr": [
        "generator.diffusion.prediction=v_prediction",
        "generator.diffusion.weighting=min_snr",
    ],
    "rare_only": ["generator.classes=rare"],
    "augmentation": ["generator.augmentation=0.15"],
    "dropout": ["generator.network.dropout=0.1"],
    "no_symmetry": ["generator.symmetry=false"],
    "no_average": ["generator.ema_decay=null"],
    "short_average": ["generator.ema_decay=0.97"],
    "long_average": ["generator.ema_decay=0.997"],
    "paper": ["generator.steps=160"],
    "paper_fast_rate": ["generator.steps=160", "generator.learning_rate=1.0e-3"],
}
"""Name -> changes; those that start with ``paper`` change :data:`PAPER` instead of the base.
The paper's batch is 64, so 160 steps are as many training images as 320 of 32."""


def overrides(recipe: str, seed: int) -> list[str]:
    """The whole command line of one recipe."""
    base = PAPER if recipe.startswith("paper") else BASE
    return [*SETTING, *base, *RECIPES[recipe], f"generator.seed={seed}"]
