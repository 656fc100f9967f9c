"""Diffusion-augmented classification of sub-visible particles (PyTorch Lightning + Hydra)."""

import os

__version__ = "0.1.0"

if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"} & os.environ.keys():
    # Read once, when torch loads OpenMP. Threads that spin while they wait take the cores from
    # whatever else runs: with other work on the machine training is then up to ten times slower.
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
