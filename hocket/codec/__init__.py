"""Frozen audio tokenizers: waveforms to codes and back, and the fine print of rates, lengths and identity.

Owns the bundled codec, its training, and the reading and writing of audio files; knows no vocabulary and no model.
`load_codec("bundled")` gives 8 codes of 1,024 for every 40 ms of 16 kHz audio.
"""

from hocket.codec.audio import AudioInfo, audio_info, read_audio, resample, write_audio
from hocket.codec.base import Codec, Codes
from hocket.codec.combined import Combined, load_combined
from hocket.codec.files import decode_file, encode_file
from hocket.codec.identity import CodecIdentity
from hocket.codec.loading import load_codec
from hocket.codec.spectral import SpectralCodec
from hocket.codec.streaming import StreamDecoder, StreamEncoder

__all__ = [
    "AudioInfo",
    "Codec",
    "CodecIdentity",
    "Codes",
    "Combined",
    "SpectralCodec",
    "StreamDecoder",
    "StreamEncoder",
    "audio_info",
    "decode_file",
    "encode_file",
    "load_codec",
    "load_combined",
    "read_audio",
    "resample",
    "write_audio",
]
