"""A generator as a diffusers pipeline that runs without this package.

``pipeline``, ``scheduler`` and ``paper_model`` travel with the weights as source files, so they
import nothing of ours but leaves (:data:`~svp_lightning.generator.release.write.TRAVELLING`).
"""
