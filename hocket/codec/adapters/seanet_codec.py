"""What EnCodec (causal) and Mimi share: batches in lanes, streams, and recordings of any length in bounded memory.

`encode` and `decode` run up to `LANES` items side by side, `PIECE_SECONDS` at a time, each with its own past (see
`seanet`, `lanes`). Hardly any padding is computed, and pieces stay in the processor's cache where whole recordings do
not: 16 lanes of 0.5 s were half as fast as these. A stream runs the same pieces, of whatever length they come in.

Shapes: B batch, C channels of any layer, S samples, T codec frames, K levels.
"""

from abc import abstractmethod
from pathlib import Path
from typing import ClassVar

import torch
from torch import nn
from transformers import PreTrainedModel

from hocket.codec.adapters.lanes import in_lanes, on_threads
from hocket.codec.adapters.seanet import Ends, SeanetState, lead_frames, put_channels_last, remove_weight_norms
from hocket.codec.adapters.transformers_codec import FolderCodec
from hocket.codec.identity import CodecIdentity
from hocket.codec.streaming import StreamDecoder, StreamEncoder

LANES = 2
"""Items side by side on each thread: two of 3 s still lie in a CPU's cache, sixteen do not."""
PIECE_SECONDS = 3.0


class SeanetCodec(FolderCodec):
    """Causal SEANet modules with a quantizer between them."""

    streams_encoding: ClassVar[bool] = True
    streams_decoding: ClassVar[bool] = True

    def __init__(self, net: PreTrainedModel, identity: CodecIdentity, folder: Path):
        super().__init__(net, identity, folder)
        remove_weight_norms(net)
        put_channels_last([*self.encoder_layers(), *self.decoder_layers()])
        self.encoder_lead = lead_frames(self.encoder_layers(), identity.hop)
        self.decoder_lead = lead_frames(self.decoder_layers(), 1)

    @abstractmethod
    def encoder_layers(self) -> list[nn.Module]:
        """The modules between samples and latents."""

    @abstractmethod
    def decoder_layers(self) -> list[nn.Module]:
        """The modules between latents and samples."""

    @abstractmethod
    def quantize(self, latent_BCT: torch.Tensor) -> torch.Tensor:
        """Codes [B, K, T] of latents, of the codec's levels."""

    @abstractmethod
    def dequantize(self, codes_BKT: torch.Tensor) -> torch.Tensor:
        """Latents [B, C, T] of codes of any number of levels."""

    @property
    def piece_frames(self) -> int:
        """Frames computed at a time."""
        return max(round(PIECE_SECONDS * self.frame_rate), self.encoder_lead, self.decoder_lead)

    def encode_piece(self, state: SeanetState, wav_BCS: torch.Tensor, ends: Ends) -> torch.Tensor:
        """Codes [B, K, T] of the next T * hop samples."""
        return self.quantize(state.push(wav_BCS, ends))

    def decode_piece(self, state: SeanetState, codes_BKT: torch.Tensor, ends: Ends) -> torch.Tensor:
        """Waveforms [B, C, T * hop] of the next T frames."""
        return state.push(self.dequantize(codes_BKT), ends)

    def stream_encoder(self) -> "SeanetStreamEncoder":
        return SeanetStreamEncoder(self)

    def stream_decoder(self) -> "SeanetStreamDecoder":
        return SeanetStreamDecoder(self)

    def _encode_items(self, items: list[torch.Tensor]) -> list[torch.Tensor]:
        def run(chosen: list[torch.Tensor]) -> list[torch.Tensor]:
            state = SeanetState(self.encoder_layers())
            return in_lanes(chosen, state, self.encode_piece, self.piece_frames * self.hop, self.hop)

        codes = on_threads(items, run, LANES)
        empty_KT = torch.zeros(self.levels, 0, dtype=torch.int64, device=self.device)
        n_frames = [-(-wav_CS.shape[1] // self.hop) for wav_CS in items]
        return [codes.get(index, empty_KT)[:, :n].T for index, n in enumerate(n_frames)]

    def _decode_items(self, items: list[torch.Tensor]) -> list[torch.Tensor]:
        def run(chosen: list[torch.Tensor]) -> list[torch.Tensor]:
            return in_lanes(chosen, SeanetState(self.decoder_layers()), self.decode_piece, self.piece_frames, 1)

        waveforms = on_threads([codes_TK.T for codes_TK in items], run, LANES)
        empty_CS = torch.zeros(self.identity.channels, 0, device=self.device)
        return [waveforms.get(index, empty_CS)[:, : len(item) * self.hop] for index, item in enumerate(items)]


class SeanetStreamEncoder(StreamEncoder):
    """A frame comes out as soon as its own `hop` samples are in; the first ones wait for `encoder_lead` frames."""

    def __init__(self, codec: SeanetCodec):
        super().__init__(codec.identity)
        self.codec, self.state, self.lead = codec, SeanetState(codec.encoder_layers()), codec.encoder_lead
        self.waiting_CS = torch.zeros(codec.identity.channels, 0, device=codec.device)

    def _push(self, wav_CS: torch.Tensor) -> torch.Tensor:
        self.waiting_CS = torch.cat([self.waiting_CS, wav_CS.to(self.waiting_CS)], dim=1)
        n_frames = self.waiting_CS.shape[1] // self.codec.hop
        return self._run(n_frames * self.codec.hop if n_frames >= self.lead else 0)

    def _finish(self) -> torch.Tensor:
        return self._run(self.waiting_CS.shape[1])

    def _run(self, n_samples: int) -> torch.Tensor:
        """Codes [T, K] of the first waiting samples; a last frame that they do not fill is the recording's end."""
        ready_CS, self.waiting_CS = self.waiting_CS[:, :n_samples], self.waiting_CS[:, n_samples:].clone()
        hop, codes = self.codec.hop, []
        for piece_CS in ready_CS.split(self.codec.piece_frames * hop, dim=1) if n_samples else ():
            n = piece_CS.shape[1]
            padded_CS = nn.functional.pad(piece_CS, (0, -n % hop))
            codes.append(self.codec.encode_piece(self.state, padded_CS[None], [n])[0].T)
            self.lead = 1
        return torch.cat([torch.zeros(0, self.codec.levels, dtype=torch.int64, device=ready_CS.device), *codes])


class SeanetStreamDecoder(StreamDecoder):
    """A frame's samples come out at once; the first ones wait for `decoder_lead` frames."""

    def __init__(self, codec: SeanetCodec):
        super().__init__(codec.identity)
        self.codec, self.state, self.lead = codec, SeanetState(codec.decoder_layers()), codec.decoder_lead
        self.waiting: list[torch.Tensor] = []

    def _push(self, codes_TK: torch.Tensor) -> torch.Tensor:
        self.waiting.append(codes_TK.to(self.codec.device))
        return self._run() if sum(map(len, self.waiting)) >= self.lead else self._nothing()

    def _finish(self) -> torch.Tensor:
        return self._run() if self.waiting else self._nothing()

    def _run(self) -> torch.Tensor:
        ready_TK, self.waiting, pieces = torch.cat(self.waiting), [], [self._nothing()]
        for codes_TK in ready_TK.split(self.codec.piece_frames) if len(ready_TK) else ():
            pieces.append(self.codec.decode_piece(self.state, codes_TK.T[None], [len(codes_TK)])[0])
            self.lead = 1
        return torch.cat(pieces, dim=1).clamp(-1, 1)

    def _nothing(self) -> torch.Tensor:
        return torch.zeros(self.identity.channels, 0, device=self.codec.device)
