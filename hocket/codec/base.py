"""What every codec is: an identity, codes, a pair of functions between waveforms and codes, and their streams.

An adapter says how one item, or a stack of items of one length, is encoded and decoded; batches, lengths, channels,
rates and checks are the same for all of them and live here.

Shapes: B batch, C channels, S samples, T codec frames, K levels.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import ClassVar, Self

import torch
from torch.nn.utils.rnn import pad_sequence

from hocket.codec.batching import check_lengths, describe_tensor, split_batch
from hocket.codec.identity import CodecIdentity
from hocket.codec.streaming import StreamDecoder, StreamEncoder, check_tokens
from hocket.errors import InputError


@dataclass
class Codes:
    """Codes of a batch; frames at or after an item's length are 0 and mean nothing."""

    tokens_BTK: torch.Tensor  # int64 [B, T, K]
    lengths_B: torch.Tensor  # int64 [B], frames
    codec: CodecIdentity
    n_samples_B: torch.Tensor | None = None  # int64 [B], samples at the codec's rate that were encoded, where known
    scales_BW: torch.Tensor | None = None  # float32 [B, W], loudness of each window, of codecs that normalise it

    def prefix(self, levels: int) -> "Codes":
        """The same codes cut to their first `levels` levels."""
        return replace(self, tokens_BTK=self.tokens_BTK[..., :levels], codec=self.codec.with_levels(levels))


class Codec(ABC):
    """A frozen tokenizer: waveforms to codes and back. A plain object that holds its network."""

    identity: CodecIdentity
    net: torch.nn.Module
    streams_encoding: ClassVar[bool] = False
    streams_decoding: ClassVar[bool] = False
    no_stream: ClassVar[str] = "its network looks at the whole recording"
    """Why, said by a codec that cannot stream when it is asked to."""

    @torch.no_grad()
    def encode(self, wav: torch.Tensor, sample_rate: int, lengths: torch.Tensor | list[int] | None = None) -> Codes:
        """Codes of waveforms [B, S], [S] or [B, C, S], float in about [-1, 1], at any sample rate (Hz).

        `lengths` are samples of each item at `sample_rate`; what lies after them changes nothing, so an item has the
        codes that it has alone. Raises InputError on shapes, rates or samples that are no audio.
        """
        identity = self.identity
        items = split_batch(wav, sample_rate, lengths, self.input_rate, identity.channels)
        codes, scales_BW = self._encode_batch([item_CS.to(self.device) for item_CS in items])
        tokens_BTK = pad_sequence(codes, batch_first=True)
        n_frames_B = torch.tensor([len(item_TK) for item_TK in codes])
        n_samples_B = torch.tensor([item_CS.shape[1] * self.sample_rate // self.input_rate for item_CS in items])
        return Codes(tokens_BTK, n_frames_B, identity, n_samples_B, scales_BW)

    @torch.no_grad()
    def decode(self, codes: Codes) -> torch.Tensor:
        """Waveforms float32 [B, S] in [-1, 1], of stereo codecs [B, C, S], zero after an item's end.

        An item ends after its original samples where `codes` knows them, otherwise after n_frames * hop. Takes any
        prefix of the levels. Raises InputError on codes of another codec or outside the codebooks.
        """
        self._check(codes)
        items = [item_TK[:n] for item_TK, n in zip(codes.tokens_BTK, codes.lengths_B.tolist(), strict=True)]
        n_samples = [self.samples_of(len(item_TK)) for item_TK in items]
        if codes.n_samples_B is not None:
            n_samples = [min(pair) for pair in zip(n_samples, codes.n_samples_B.tolist(), strict=True)]
        longest = max(n_samples) if codes.n_samples_B is not None else self.samples_of(codes.tokens_BTK.shape[1])
        wav_BCS = torch.zeros(len(items), self.identity.channels, longest, device=self.device)
        for wav_CS, decoded_CS, n in zip(wav_BCS, self._decode_batch(codes, items), n_samples, strict=True):
            wav_CS[:, :n] = decoded_CS[:, :n].clamp(-1, 1)
        return wav_BCS[:, 0] if self.identity.channels == 1 else wav_BCS

    def stream_encoder(self) -> StreamEncoder:
        """A new stream from audio to codes; InputError, saying why, from a codec that cannot stream."""
        raise InputError(f'codec "{self.identity.name}" cannot stream: {self.no_stream}')

    def stream_decoder(self) -> StreamDecoder:
        """A new stream from codes to audio; InputError, saying why, from a codec that cannot stream."""
        raise InputError(f'codec "{self.identity.name}" cannot stream: {self.no_stream}')

    @abstractmethod
    def save(self, folder: str | Path) -> None:
        """Writes all files that `load_codec(folder)` reads; the loaded codec has the same identity."""

    @abstractmethod
    def _encode_items(self, items: list[torch.Tensor]) -> list[torch.Tensor]:
        """Codes [T, K] of each waveform [C, S] at the codec's rate; S may be 0."""

    @abstractmethod
    def _decode_items(self, items: list[torch.Tensor]) -> list[torch.Tensor]:
        """The waveform [C, T * hop] of each item's codes [T, K]; T may be 0."""

    def _encode_batch(self, items: list[torch.Tensor]) -> tuple[list[torch.Tensor], torch.Tensor | None]:
        """As `_encode_items`, and the scales [B, W] of codecs that normalise loudness."""
        return self._encode_items(items), None

    def _decode_batch(self, codes: Codes, items: list[torch.Tensor]) -> list[torch.Tensor]:
        """As `_decode_items`, for codecs that need more of `codes` than the tokens."""
        return self._decode_items([item_TK.to(self.device) for item_TK in items])

    def samples_of(self, n_frames: int) -> int:
        """Samples that so many frames decode to."""
        return n_frames * self.identity.hop

    def _check(self, codes: Codes) -> None:
        theirs, own, tokens_BTK = codes.codec, self.identity, codes.tokens_BTK
        if theirs.with_levels(1).fingerprint != own.with_levels(1).fingerprint:
            raise InputError(
                f'these codes were made by codec "{theirs.name}" ({theirs.fingerprint}), '
                f'not by "{own.name}" ({own.fingerprint}); decode them with the codec that made them'
            )
        if tokens_BTK.ndim != 3:
            raise InputError(f"codes must be integers [batch, frames, levels], not {describe_tensor(tokens_BTK)}")
        check_tokens(tokens_BTK, own)
        check_lengths(codes.lengths_B, len(tokens_BTK), tokens_BTK.shape[1], "frames")

    @property
    def can_decode(self) -> bool:
        """False for semantic units that have no vocoder."""
        return True

    @property
    def codebooks(self) -> list[torch.Tensor] | None:
        """The vectors behind the codes of each level, float32 `[entries, width]`; None where a codec has none."""
        return None

    @property
    def sample_rate(self) -> int:
        return self.identity.sample_rate

    @property
    def input_rate(self) -> int:
        """Hz of the waveforms that the encoder takes; other than `sample_rate` where the decoder makes more of them."""
        return self.identity.sample_rate

    @property
    def hop(self) -> int:
        return self.identity.hop

    @property
    def frame_rate(self) -> Fraction:
        return self.identity.frame_rate

    @property
    def levels(self) -> int:
        return self.identity.levels

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        return self.identity.codebook_sizes

    @property
    def device(self) -> torch.device:
        return next(self.net.parameters()).device

    def to(self, device: str | torch.device) -> Self:
        self.net.to(device)
        return self
