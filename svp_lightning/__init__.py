"""Diffusion-augmented classification of sub-visible particles (PyTorch Lightning + Hydra)."""

import os

__version__ = "0.1.0"

if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"} & os.environ.keys():
    # Read once, when torch loads OpenMP. Threads that spin for long while they wait take the cores
    # from whatever else runs; threads that sleep at once halve the speed of a generator's training
    # on an idle machine. This many rounds do neither (docs/speed.md).
    os.environ["GOMP_SPINCOUNT"] = "30000"
