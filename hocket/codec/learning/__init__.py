"""How a spectral codec is trained: first to reconstruct, then, with its codes frozen, against an adversary.

`ReconstructionTrainer` fits the whole codec to spectral distances; `AdversarialTrainer` polishes the decoder. Both
resume from their checkpoints and log to `metrics.jsonl`.
"""

from hocket.codec.learning.adversarial import AdversarialTrainer, AdversarialTraining
from hocket.codec.learning.crops import AudioStore, CropSampler
from hocket.codec.learning.reconstruction import ReconstructionTrainer, ReconstructionTraining

__all__ = [
    "AdversarialTrainer",
    "AdversarialTraining",
    "AudioStore",
    "CropSampler",
    "ReconstructionTrainer",
    "ReconstructionTraining",
]
