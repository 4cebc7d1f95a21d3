"""Semantic units: features of speech clustered by k-means, as a codec; an optional vocoder turns them into audio.

Owns the extractors of features, the fitting and use of centroids, the unit vocoder, and the measure of what units tell
about words.
"""

from hocket.codec.units.clusters import FitReport, features_of, nearest
from hocket.codec.units.codec import UnitCodec
from hocket.codec.units.extractor import Extractor, open_extractor, parse_extractor
from hocket.codec.units.information import UnitInformation, mutual_information
from hocket.codec.units.pooled import pooled
from hocket.codec.units.vocoder import UnitVocoder

__all__ = [
    "Extractor",
    "FitReport",
    "UnitCodec",
    "UnitInformation",
    "UnitVocoder",
    "features_of",
    "mutual_information",
    "nearest",
    "open_extractor",
    "parse_extractor",
    "pooled",
]
