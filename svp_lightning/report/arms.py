"""The arms of a study: their names and colours, and what identifies a cell."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from svp_lightning.data.classes import display_name
from svp_lightning.report.text import backbone_name, lower_first


@dataclass(frozen=True)
class Arm:
    """How an arm looks in tables and figures; what it is made of is ``conf/augmentation``."""

    name: str
    colour: str
    marker: str


ARMS = {
    "none": Arm("Control (nothing added)", "#5b6774", "x"),
    "duplicate": Arm("Duplicates", "#cc6677", "s"),
    "class_weights": Arm("Class weights", "#aa7700", "^"),
    "balanced_sampling": Arm("Balanced sampling", "#882255", "v"),
    "logit_adjustment": Arm("Logit adjustment", "#ddaa33", "<"),
    "mixup": Arm("Mixup", "#ee7733", ">"),
    "classical": Arm("Classical augmentation", "#44aa99", "D"),
    "classical_mild": Arm("Classical augmentation, mild", "#7fb800", "d"),
    "classical_strong": Arm("Classical augmentation, strong", "#00695c", "*"),
    "oracle": Arm("Oracle", "#000000", "X"),
    "simulated": Arm("Simulated, other microscopes", "#994f00", "4"),
    "simulated_matched": Arm("Simulated, matched microscopes", "#c08a2b", "2"),
    "simulated_matched_hard_negatives_classical": Arm(
        "Simulated, matched microscopes, hard negatives, classical", "#e0218a", "8"
    ),
    "diffusion": Arm("Diffusion", "#332288", "o"),
    "diffusion_filtered": Arm("Diffusion, filtered", "#88ccee", "p"),
    "diffusion_physics": Arm("Diffusion from physics", "#bbcc33", "3"),
    "diffusion_physics_simulated": Arm("Diffusion from physics, simulated", "#cc3311", "+"),
    "hard_negatives": Arm("Hard negatives", "#aa3377", "1"),
    "hard_negatives_classical": Arm("Hard negatives, classical", "#1b4f9c", "|"),
    "diffusion_physics_simulated_hard_negatives_classical": Arm(
        "Diffusion from physics, simulated, hard negatives, classical", "#7a0403", "_"
    ),
    "diffusion_all_classes": Arm("Diffusion, all classes", "#117733", "h"),
    "diffusion_balanced_sampling": Arm("Diffusion and balanced sampling", "#0077bb", "H"),
}
"""Method -> its looks. Colours follow Paul Tol's "muted" set as far as it goes."""
OTHER_COLOURS = ("#555555", "#aa4499", "#999933", "#661100", "#6699cc", "#bb5566")


def arms_of(methods: Sequence[str]) -> dict[str, Arm]:
    """Method -> its looks; the known ones keep theirs whatever else is drawn."""
    others = [method for method in dict.fromkeys(methods) if method not in ARMS]
    unknown = {
        method: Arm(display_name(method), OTHER_COLOURS[at % len(OTHER_COLOURS)], "P")
        for at, method in enumerate(others)
    }
    return {method: ARMS.get(method) or unknown[method] for method in methods}


@dataclass(frozen=True)
class Cell:
    """What identifies a run of a study; ``seed`` is the repetition."""

    backbone: str
    method: str
    ratio: float
    seed: int
    parts: tuple[str, ...] = field(default=(), compare=False)
    """What the method is made of."""
    variant: str = ""
    """Name of the run, where the rest does not separate two runs (guidance strengths, say)."""
    real_images: int | None = None
    """Real training images of each rare class, in a study that varies ``data.rare_images``."""

    @property
    def adds_images(self) -> bool:
        """Whether the method adds images, so that its ratio says something."""
        return bool({"duplicate", "diffusion", "oracle", "simulated"} & set(self.parts))

    @property
    def is_control(self) -> bool:
        """Whether nothing was done about the rare classes."""
        adding = {"duplicate", "diffusion", "oracle", "simulated", "all_classes", "filtered"}
        return not self.parts or (self.ratio == 0 and set(self.parts) <= adding)

    @property
    def is_generative(self) -> bool:
        """Whether generated images are trained on, alone or with another remedy."""
        return "diffusion" in self.parts and self.ratio > 0

    @property
    def is_simulated(self) -> bool:
        """Whether simulated images of other microscopes are trained on, and no generated ones."""
        return "simulated" in self.parts and not self.is_generative and self.ratio > 0

    @property
    def is_oracle(self) -> bool:
        """Whether fresh images of the rare classes are trained on, as a perfect generator draws."""
        return "oracle" in self.parts and self.ratio > 0

    @property
    def place(self) -> tuple[str, int | None]:
        """What a treated cell and its control have in common: backbone and real images."""
        return self.backbone, self.real_images

    @property
    def treatment(self) -> str:
        """What was done about the rare classes: ``"Diffusion 1×"``."""
        method = "none" if self.is_control else self.method
        name = arms_of([method])[method].name
        name = f"{name} {self.ratio:g}×" if self.ratio else name
        return f"{name} ({self.variant})" if self.variant else name

    @property
    def name(self) -> str:
        """``"ResNet-50, diffusion 1×"``."""
        name = f"{backbone_name(self.backbone)}, {lower_first(self.treatment)}"
        return (
            name if self.real_images is None else f"{name}, {self.real_images:,} real rare images"
        )
