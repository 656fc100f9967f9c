"""Diffusion-augmented classification of sub-visible particles (PyTorch Lightning + Hydra)."""

__version__ = "0.1.0"
