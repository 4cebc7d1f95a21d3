"""The engine: Accelerate with DeepSpeed under it, on GPUs and on CPU, in one process and in several.

Owns processes, precision, gradients, the optimizer and their state on disk; knows nothing of the model's meaning.
"""

from hocket.training.engine.engine import Engine
from hocket.training.engine.environment import choose_engine, why_no_deepspeed

__all__ = ["Engine", "choose_engine", "why_no_deepspeed"]
