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
    "generator.classes=all",
    "generator.diffusion.prediction=residual",
    "generator.diffusion.weighting=uniform",
    "generator.diffusion.loss=l2",
    "generator.steps=1000",
    "generator.batch_size=32",
    "generator.optimizer=adamw",
    "generator.learning_rate=2.0e-3",
    "generator.warmup_steps=50",
    "generator.ema_decay=0.99",
    "generator.checkpoint_every=500",
    "generator.selection.method=last",
]
"""1.9 million weights, 32,000 training images."""

PAPER = [
    "generator=paper",
    "generator.classes=all",
    "generator.network.block_channels=[16,32,64,128]",
    "generator.checkpoint_every=500",
    "generator.selection.method=last",
]
"""The paper's network at a quarter of its width (2.4 million weights) and its recipe."""

RARE = ["generator.diffusion.signal=1.0", "generator.classes=rare"]
"""What the defaults change in the base, but for the optimiser."""

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
    "signal_2": ["generator.diffusion.signal=2.0"],
    "signal_4": ["generator.diffusion.signal=4.0"],
    "signal_2_min_snr": [
        "generator.diffusion.signal=2.0",
        "generator.diffusion.weighting=min_snr",
    ],
    "signal_2_rare_only": ["generator.diffusion.signal=2.0", "generator.classes=rare"],
    "signal_2_long": ["generator.diffusion.signal=2.0", "generator.steps=4000"],
    "signal_2_longer": ["generator.diffusion.signal=2.0", "generator.steps=16000"],
    "default_adamw": RARE,
    "default_adamw_long": [*RARE, "generator.steps=4000"],
    "default": [*RARE, "generator.optimizer=muon"],
    "default_long": [*RARE, "generator.optimizer=muon", "generator.steps=4000"],
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
    "paper": ["generator.steps=500"],
    "paper_fast_rate": ["generator.steps=500", "generator.learning_rate=1.0e-3"],
    "paper_long": ["generator.steps=2000"],
    "paper_fast_rate_long": ["generator.steps=2000", "generator.learning_rate=1.0e-3"],
    "paper_rare_only_long": [
        "generator.steps=2000",
        "generator.learning_rate=1.0e-3",
        "generator.classes=rare",
    ],
}
"""Name -> changes; those that start with ``paper`` change :data:`PAPER` instead of the base.
The paper's batch is 64, so 500 steps are as many training images as 1,000 of 32. The long ones are
four times as long; 16,000 steps take about two thirds of the time of ``paper_long``."""


SETTING_64 = [
    "trainer=cpu",
    "scale=demo",
    "data.simulation.counts={"
    "train:{protein:3000,silicone_oil:300,air_bubble:300},"
    "val:{protein:600,silicone_oil:600,air_bubble:600},"
    "test:{protein:8,silicone_oil:8,air_bubble:8}}",
]
"""The demo's data with more held-out images; again the test split is not used."""

BASE_64 = [
    "generator=unet",
    "generator.network.block_channels=[64,96,128]",
    "generator.network.attention=[false,false,true]",
    "generator.network.patch=4",
    "generator.diffusion.schedule=cosine",
    "generator.diffusion.signal=0.5",
    "generator.classes=all",
    "generator.diffusion.prediction=residual",
    "generator.diffusion.weighting=uniform",
    "generator.steps=1250",
    "generator.batch_size=16",
    "generator.optimizer=adamw",
    "generator.learning_rate=2.0e-3",
    "generator.warmup_steps=100",
    "generator.ema_decay=0.995",
    "generator.checkpoint_every=500",
    "generator.selection.method=last",
]
"""The demo's generator, 4.1 million weights, on 20,000 training images."""

RECIPES_64: dict[str, list[str]] = {
    "base": [],
    "rate_1e-3": ["generator.learning_rate=1.0e-3"],
    "min_snr": ["generator.diffusion.weighting=min_snr"],
    "min_snr_1e-3": ["generator.diffusion.weighting=min_snr", "generator.learning_rate=1.0e-3"],
    "flow": RECIPES["flow"],
    "unshifted": ["generator.diffusion.signal=1.0"],
    "signal_2": ["generator.diffusion.signal=2.0"],
    "patch_2": [
        "generator.network.block_channels=[32,48,64,96]",
        "generator.network.attention=[false,false,false,true]",
        "generator.network.patch=2",
    ],
    "two_layers": ["generator.network.layers_per_block=2"],
    "no_attention": ["generator.network.attention=[false,false,false]"],
    "attention_8": ["generator.network.attention=[false,true,true]"],
    "rare_only": ["generator.classes=rare"],
    "default": ["generator.classes=rare", "generator.optimizer=muon"],
    "batch_32": ["generator.batch_size=32", "generator.steps=625"],
}
"""The same at 64 px."""


def setting(size: int) -> list[str]:
    """The data of the comparison at 32 or 64 px."""
    return SETTING if size == 32 else SETTING_64


def overrides(recipe: str, seed: int, size: int = 32) -> list[str]:
    """The whole command line of one recipe."""
    if size == 64:
        return [*SETTING_64, *BASE_64, *RECIPES_64[recipe], f"generator.seed={seed}"]
    base = PAPER if recipe.startswith("paper") else BASE
    return [*SETTING, *base, *RECIPES[recipe], f"generator.seed={seed}"]
