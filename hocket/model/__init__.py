"""Models: a plain decoder over grids of ids, its attention, its heads and its loss.

Owns embeddings, the transformer, attention backends, output heads and the files of a saved model. Knows nothing about
corpora: it is given packed batches of ids.
"""

from hocket.model.cache import KeyValueCache
from hocket.model.config import ModelConfig
from hocket.model.decoder import Decoder
from hocket.model.depth import DepthHead
from hocket.model.heads import LossParts, ParallelHead
from hocket.model.model import Model, find_model_folder, load_model, save_model_files

__all__ = [
    "Decoder",
    "DepthHead",
    "KeyValueCache",
    "LossParts",
    "Model",
    "ModelConfig",
    "ParallelHead",
    "find_model_folder",
    "load_model",
    "save_model_files",
]
