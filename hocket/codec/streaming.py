"""Codes while the audio is still coming, audio while the codes are still coming.

A stream takes pieces of any size and returns what has become final; all it returned, joined, equals what `encode` or
`decode` gives for the whole. One stream serves one recording.

Shapes: C channels, S samples, T codec frames, K levels.
"""

from abc import ABC, abstractmethod

import torch

from hocket.codec.batching import as_batch, describe_tensor, with_channels
from hocket.codec.identity import CodecIdentity
from hocket.errors import InputError


class Stream:
    """One recording's way through a codec; it ends once."""

    def __init__(self, identity: CodecIdentity):
        self.identity, self._ended = identity, False

    def _refuse_ended(self) -> None:
        if self._ended:
            raise InputError("this stream has ended; ask the codec for a new one")


class StreamEncoder(Stream, ABC):
    """Waveform pieces in, codes out."""

    @torch.no_grad()
    def push(self, wav: torch.Tensor) -> torch.Tensor:
        """Codes [T, K] of the frames that these samples complete, T from 0 up.

        `wav` is float [S] or [C, S] at the codec's sample rate. Raises InputError on other tensors and after `finish`.
        """
        self._refuse_ended()
        if wav.ndim > 2:
            raise InputError(f"a stream takes audio [samples] or [channels, samples], not {describe_tensor(wav)}")
        wav_CS = as_batch(wav if wav.ndim == 1 else wav[None])[0]
        return self._push(with_channels(wav_CS.float(), self.identity.channels))

    @torch.no_grad()
    def finish(self) -> torch.Tensor:
        """The codes [T, K] of what is left, a last frame that is not full among them; the stream ends."""
        self._refuse_ended()
        self._ended = True
        return self._finish()

    @abstractmethod
    def _push(self, wav_CS: torch.Tensor) -> torch.Tensor: ...

    @abstractmethod
    def _finish(self) -> torch.Tensor: ...


class StreamDecoder(Stream, ABC):
    """Codes in, samples out."""

    @torch.no_grad()
    def push(self, codes_TK: torch.Tensor) -> torch.Tensor:
        """Samples [C, S] (mono: [S]) that these frames make final, in [-1, 1], S from 0 up.

        Takes any prefix of the levels, the same one in every call. Raises InputError on what are no codes.
        """
        self._refuse_ended()
        check_tokens(codes_TK, self.identity)
        return self._shaped(self._push(codes_TK))

    @torch.no_grad()
    def finish(self) -> torch.Tensor:
        """The samples that were still held back; with those given before they are n_frames * hop."""
        self._refuse_ended()
        self._ended = True
        return self._shaped(self._finish())

    def _shaped(self, wav_CS: torch.Tensor) -> torch.Tensor:
        return wav_CS[0] if self.identity.channels == 1 else wav_CS

    @abstractmethod
    def _push(self, codes_TK: torch.Tensor) -> torch.Tensor: ...

    @abstractmethod
    def _finish(self) -> torch.Tensor: ...


def check_tokens(tokens: torch.Tensor, identity: CodecIdentity) -> None:
    """InputError unless these are integers [..., K] of the codec's first K levels."""
    if tokens.ndim < 2 or tokens.is_floating_point():
        raise InputError(f"codes must be integers [frames, levels], not {describe_tensor(tokens)}")
    n_levels, sizes = tokens.shape[-1], identity.codebook_sizes
    if not 1 <= n_levels <= len(sizes):
        raise InputError(f'codes have {n_levels} levels; codec "{identity.name}" decodes 1 to {len(sizes)}')
    limits_K = torch.tensor(sizes[:n_levels], device=tokens.device)
    if not bool(((tokens >= 0) & (tokens < limits_K)).all()):
        wrong_K = ((tokens < 0) | (tokens >= limits_K)).flatten(0, -2).any(dim=0)
        level = int(wrong_K.nonzero()[0])
        column = tokens[..., level]
        raise InputError(
            f"codes of level {level} lie between {int(column.min())} and {int(column.max())}; "
            f"its codebook has entries 0 to {sizes[level] - 1}"
        )
