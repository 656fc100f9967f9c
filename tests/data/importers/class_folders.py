"""Pictures that lie in one folder per class."""

import numpy as np

COUNT = 12
"""Of each class."""


def particle(seed: int, height: int = 20, width: int = 24) -> np.ndarray:
    rng = np.random.default_rng(seed)
    image = rng.normal(180, 3, (height, width))
    image[height // 2 - 3 : height // 2 + 3, width // 2 - 4 : width // 2 + 4] = 60
    return np.clip(image, 0, 255).astype(np.uint8)
