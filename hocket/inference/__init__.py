"""Inference: from known cells to a full grid, and from there to sound.

Owns samplers and the generator. Needs torch and the rooms above it, no training library.
"""

from hocket.inference.generator import Generator
from hocket.inference.guidance import Guidance
from hocket.inference.masking import MaskSampling
from hocket.inference.request import Generation, Request
from hocket.inference.sampling import Sampling
from hocket.inference.session import Session
from hocket.inference.streaming import Chunk

__all__ = ["Chunk", "Generation", "Generator", "Guidance", "MaskSampling", "Request", "Sampling", "Session"]
