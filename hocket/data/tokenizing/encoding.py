"""Encoding: segments of a block in batches of like lengths, longest first.

Which waves share a batch depends on the block alone. A wave longer than `LONG_SECONDS` goes through the codec's stream
by itself, where the codec can stream, so that an hour takes as much memory as a minute; its codes are those of the
whole.

Shapes: B waves, S samples, C channels, T frames, K levels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from hocket.codec import Codec
from hocket.codec.batching import with_channels
from hocket.data.preparing import Segment
from hocket.data.shards import CODE_DTYPE, Row

WORDS_OF_CHANNELS = ("audio", "user")
"""Whose words those of the channels are in a source; in the corpus they are of the streams made from these channels."""

LONG_SECONDS = 120.0
PUSH_SECONDS = 20.0


@dataclass(frozen=True)
class StreamCodec:
    """How one stream of a corpus is made: by which codec, from which channel of the audio (None: from their mix)."""

    codec: Codec
    channel: int | None = None


@dataclass(frozen=True)
class _Wave:
    """One wave on its way: of which segment and stream."""

    segment: int
    stream: str
    wav_S: np.ndarray


class Encoder:
    """Makes rows of segments.

    Args:
        streams: codec and channel of each stream.
        batch_seconds: audio that is encoded at once, padding counted.
    """

    def __init__(self, streams: Mapping[str, StreamCodec], batch_seconds: float):
        self.streams, self._batch_seconds = streams, batch_seconds
        by_channel = {stream.channel: name for name, stream in reversed(list(streams.items()))}
        self._named = {word: by_channel[n] for n, word in enumerate(WORDS_OF_CHANNELS) if n in by_channel}

    @torch.inference_mode()
    def encode(self, segments: Sequence[Segment], split_of: Mapping[str, str]) -> list[Row]:
        """The rows of some segments, in their order; `split_of` each recording."""
        codes: dict[tuple[int, str], np.ndarray] = {}
        for codec, names in self._by_codec():
            waves = [
                _Wave(number, name, segment.waves[name])
                for number, segment in enumerate(segments)
                for name in names
                if name in segment.waves
            ]
            for batch in make_batches(waves, self._batch_seconds * codec.input_rate):
                for wave, codes_TK in zip(batch, encode_waves(codec, [wave.wav_S for wave in batch]), strict=True):
                    codes[wave.segment, wave.stream] = codes_TK
        return [self._row(segment, number, codes, split_of) for number, segment in enumerate(segments)]

    def _by_codec(self) -> list[tuple[Codec, list[str]]]:
        """Codecs with the streams that they make; two streams of one codec share batches."""
        found: dict[int, tuple[Codec, list[str]]] = {}
        for name, stream in self.streams.items():
            found.setdefault(id(stream.codec), (stream.codec, []))[1].append(name)
        return list(found.values())

    def _row(self, segment: Segment, number: int, codes: dict, split_of: Mapping[str, str]) -> Row:
        none = {name: np.zeros((0, stream.codec.levels), CODE_DTYPE) for name, stream in self.streams.items()}
        return Row(
            id=segment.id,
            streams={name: codes.get((number, name), empty_TK) for name, empty_TK in none.items()},
            text=segment.text,
            words=[replace(word, stream=self._named.get(word.stream, word.stream)) for word in segment.words],
            speaker=segment.speaker,
            language=segment.language,
            split=split_of[segment.recording],
            recording=segment.recording,
            start=segment.start,
            duration=segment.duration,
            audio=segment.name,
        )


def make_batches(waves: Sequence[_Wave], limit: float) -> list[list[_Wave]]:
    """Batches of like lengths, longest first, of at most `limit` samples with padding."""
    batches: list[list[_Wave]] = []
    for wave in sorted(waves, key=lambda wave: -len(wave.wav_S)):
        if batches and (len(batches[-1]) + 1) * len(batches[-1][0].wav_S) <= limit:
            batches[-1].append(wave)
        else:
            batches.append([wave])
    return batches


def encode_waves(codec: Codec, waves: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Codes [T, K] of each wave."""
    can_stream = codec.streams_encoding and codec.input_rate == codec.sample_rate
    if len(waves) == 1 and len(waves[0]) > LONG_SECONDS * codec.input_rate and can_stream:
        return [_encode_long(codec, torch.from_numpy(waves[0]))]
    lengths_B = torch.tensor([len(wav_S) for wav_S in waves])
    wav_BS = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(wav_S) for wav_S in waves], batch_first=True)
    codes = codec.encode(wav_BS.to(codec.device), codec.input_rate, lengths=lengths_B.to(codec.device))
    tokens_BTK = codes.tokens_BTK.cpu().numpy().astype(CODE_DTYPE)
    return [tokens_BTK[i, :frames] for i, frames in enumerate(codes.lengths_B.tolist())]


def _encode_long(codec: Codec, wav_S: torch.Tensor) -> np.ndarray:
    stream, size = codec.stream_encoder(), round(PUSH_SECONDS * codec.input_rate)
    wav_CS = with_channels(wav_S[None], codec.identity.channels)
    tokens = [stream.push(piece_CS.to(codec.device)).cpu() for piece_CS in wav_CS.split(size, dim=1)]
    return torch.cat([*tokens, stream.finish().cpu()]).numpy().astype(CODE_DTYPE)
