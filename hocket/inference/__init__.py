"""Inference: from known cells to a full grid, and from there to sound.

Owns samplers and the generator. Needs torch and the rooms above it, no training library.
"""

from hocket.inference.generator import Generator
from hocket.inference.guidance import Guidance
from hocket.inference.masking import MaskSampling
from hocket.inference.request import Generation, Request
from hocket.inference.sampling import Sampling

__all__ = ["Generation", "Generator", "Guidance", "MaskSampling", "Request", "Sampling"]
