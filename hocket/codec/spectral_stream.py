"""Streams of the spectral codec, equal to the whole to the last bit.

`encode` and `decode` compute chunks of `CHUNK` frames. A stream fills a chunk up piece by piece and, whenever a frame
is complete, runs the chunk as it stands with zeros in the part to come. The network is causal, so the frames that are
there come out as they do from the full chunk. A push costs one chunk, however short it is.

Shorter chunks cost less, and give the same bits wherever matrix products sum in the same order whatever their number of
rows. Whether they do depends on the library and the processor, not on the numbers: a stream takes the shortest of
`SHORTER` that gives noise the bits that `CHUNK` gives it, or a longer one that what is waiting fills.

    chunks of             32     16     8      4 frames
    a frame decoded     11.8    7.9   6.4    5.2 ms       processor time on one thread, bundled codec
    a frame encoded      5.2    3.8   3.4    2.9 ms

Shapes: C channels, S samples, T codec frames, K levels, D latent width, J half frames, N synthesis window.
"""

from weakref import WeakKeyDictionary

import torch

from hocket.codec.identity import CodecIdentity
from hocket.codec.spectral_net import SpectralNet, overlap_add
from hocket.codec.streaming import StreamDecoder, StreamEncoder

CHUNK = 32  # codec frames computed at a time
SHORTER = (4, 8, 16)  # by streams, where that changes no bit


class SpectralStreamEncoder(StreamEncoder):
    """Frame t comes out as soon as its own `hop` samples are in."""

    def __init__(self, net: SpectralNet, identity: CodecIdentity):
        super().__init__(identity)
        self.net, self.device = net, next(net.parameters()).device
        self.past = net.encoder.fresh_past(1, self.device)
        self.sizes = exact_chunks(net, self.device)
        self._start_chunk(0)

    def _start_chunk(self, n_waiting: int) -> None:
        """The next chunk; a longer one where so many samples are waiting that they fill it."""
        self.size = _fitting(self.sizes, n_waiting // self.identity.hop)
        self.chunk_S = torch.zeros(self.size * self.identity.hop, device=self.device)
        self.n_filled, self.n_given = 0, 0  # samples in the chunk, frames of it that were returned

    def _push(self, wav_CS: torch.Tensor) -> torch.Tensor:
        wav_S, codes = wav_CS[0].to(self.device), []
        while len(wav_S):
            if not self.n_filled:
                self._start_chunk(len(wav_S))
            taken = min(len(wav_S), len(self.chunk_S) - self.n_filled)
            self.chunk_S[self.n_filled : self.n_filled + taken] = wav_S[:taken]
            self.n_filled, wav_S = self.n_filled + taken, wav_S[taken:]
            if len(wav_S) or self.n_filled == len(self.chunk_S):
                codes.append(self._frames(self.size))
        return torch.cat([*codes, self._frames(self.n_filled // self.identity.hop)])

    def _finish(self) -> torch.Tensor:
        return self._frames(-(-self.n_filled // self.identity.hop))

    def _frames(self, end: int) -> torch.Tensor:
        """Codes of the chunk's frames up to `end` that were not returned yet; a full chunk makes room for the next."""
        start = self.n_given
        if start == end:
            return torch.zeros(0, self.identity.levels, dtype=torch.int64, device=self.device)
        latent_BTD, new_past = self.net.encoder(self.chunk_S[None], self.past)
        codes_TK = self.net.quantizer.encode(latent_BTD[0], self.identity.levels)[start:end]
        self.n_given = end
        if end == self.size:
            self.past = new_past
            self._start_chunk(0)
        return codes_TK


class SpectralStreamDecoder(StreamDecoder):
    """Samples come out once the frame after theirs is in: `identity.output_delay` samples late."""

    def __init__(self, net: SpectralNet, identity: CodecIdentity):
        super().__init__(identity)
        self.net, self.device = net, next(net.parameters()).device
        self.past = net.decoder.fresh_past(1, self.device)
        self.done_BJN = torch.zeros(1, 0, net.decoder.config.synthesis_window, device=self.device)
        self.first_piece = 0  # the number of the first piece in done_BJN
        self.n_halves = 0  # half hops returned
        self.sizes = exact_chunks(net, self.device)
        self._start_chunk(0)

    def _start_chunk(self, n_waiting: int) -> None:
        """The next chunk; a longer one where so many frames are waiting that they fill it."""
        self.size = _fitting(self.sizes, n_waiting)
        width = self.net.quantizer.codebooks_KED.shape[2]
        self.chunk_TD = torch.zeros(self.size, width, device=self.device)
        self.n_filled, self.n_run = 0, 0  # frames in the chunk, frames whose pieces are done

    def _push(self, codes_TK: torch.Tensor) -> torch.Tensor:
        latent_TD = self.net.quantizer.decode(codes_TK.to(self.device))
        while len(latent_TD):
            if not self.n_filled:
                self._start_chunk(len(latent_TD))
            taken = min(len(latent_TD), self.size - self.n_filled)
            self.chunk_TD[self.n_filled : self.n_filled + taken] = latent_TD[:taken]
            self.n_filled, latent_TD = self.n_filled + taken, latent_TD[taken:]
            if self.n_filled == self.size:
                self._run(self.size)
        self._run(self.n_filled)
        return self._halves(self.first_piece + self.done_BJN.shape[1] - 2)

    def _finish(self) -> torch.Tensor:
        """The zeros after the last frame stand for the one frame that flushes the output delay."""
        n_halves = self.first_piece + self.done_BJN.shape[1]
        if not n_halves:
            return torch.zeros(1, 0, device=self.device)
        self._run(self.n_filled + 1)
        return self._halves(n_halves)

    def _run(self, end: int) -> None:
        """Makes the pieces of the chunk's frames up to `end`."""
        if end > self.n_run:
            pieces_BJN, new_past = self.net.decoder(self.chunk_TD[None], self.past)
            self.done_BJN = torch.cat([self.done_BJN, pieces_BJN[:, 2 * self.n_run : 2 * end]], dim=1)
            self.n_run = end
            if end == self.size:
                self.past = new_past
                self._start_chunk(0)

    def _halves(self, end: int) -> torch.Tensor:
        """Half hops up to number `end`; pieces that no later half hop needs are let go."""
        start, lead = self.n_halves, self.n_halves - self.first_piece
        if end <= start:
            return torch.zeros(1, 0, device=self.device)
        wav_BS = overlap_add(self.done_BJN, end - self.first_piece)[:, lead * self.net.decoder.config.half_hop :]
        kept = max(end - 1, 0)
        self.done_BJN, self.first_piece = self.done_BJN[:, kept - self.first_piece :], kept
        self.n_halves = end
        return wav_BS.clamp(-1, 1)


def exact_chunks(net: SpectralNet, device: torch.device) -> tuple[int, ...]:
    """Frames of the chunks that give what `CHUNK` gives, to the bit, ascending; found once for each network."""
    known = _EXACT.setdefault(net, {})
    if device not in known:
        known[device] = (*(size for size in SHORTER if _is_exact(net, device, size)), CHUNK)
    return known[device]


def _fitting(sizes: tuple[int, ...], n_waiting: int) -> int:
    """The largest chunk that so many frames fill, or the smallest."""
    return max((size for size in sizes if size <= n_waiting), default=sizes[0])


_EXACT: WeakKeyDictionary[SpectralNet, dict[torch.device, tuple[int, ...]]] = WeakKeyDictionary()


@torch.no_grad()
def _is_exact(net: SpectralNet, device: torch.device, size: int) -> bool:
    """Whether chunks of `size` give noise the latents, codes and pieces of sound that one of `CHUNK` gives it."""
    generator = torch.Generator().manual_seed(0)
    hop, width = net.encoder.config.hop, net.quantizer.codebooks_KED.shape[2]
    wav_BS = torch.randn(1, CHUNK * hop, generator=generator).to(device) / 10
    latent_BTD = torch.randn(1, CHUNK, width, generator=generator).to(device)
    for part, whole, length in ((net.encoder, wav_BS, size * hop), (net.decoder, latent_BTD, size)):
        long, _ = part(whole, part.fresh_past(1, device))
        past, short = part.fresh_past(1, device), []
        for piece in whole.split(length, dim=1):
            made, past = part(piece, past)
            short.append(made)
        if not torch.equal(torch.cat(short, dim=1), long):
            return False
        if part is net.encoder:
            codes = [net.quantizer.encode(made[0], len(net.quantizer.codebooks_KED)) for made in (*short, long)]
            if not torch.equal(torch.cat(codes[:-1]), codes[-1]):
                return False
    return True
