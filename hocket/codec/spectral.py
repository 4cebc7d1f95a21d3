"""The spectral codec: small, causal, residual vector quantization of a learned spectrum.

Codes are computed item by item in chunks of a fixed number of frames with the convolutions' pasts carried over.
Every matrix product thus has one shape, whatever the batch and the length of the audio, so rounding cannot depend
on them: an item has the same codes alone, in a padded batch, and as the beginning of a longer item.

Shapes: B batch, S samples, T codec frames, D latent width, K levels.
"""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from hocket.codec.audio import resample
from hocket.codec.base import Codec, CodecIdentity, Codes
from hocket.codec.spectral_net import SpectralConfig, SpectralNet, overlap_add
from hocket.errors import InputError

CHUNK = 32  # codec frames computed at a time
KIND = "spectral"


class SpectralCodec(Codec):
    """A `SpectralNet` with an identity; `levels` of it below the network's are a prefix."""

    net: SpectralNet

    def __init__(self, net: SpectralNet, config: SpectralConfig, identity: CodecIdentity):
        self.net, self.config, self.identity = net.eval(), config, identity

    @classmethod
    def random(cls, seed: int = 0, name: str = "random", **sizes: int) -> "SpectralCodec":
        """An untrained codec with usable codes: its codebooks are fitted to noise. Sizes as in `SpectralConfig`."""
        config = SpectralConfig(**sizes)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            net = SpectralNet(config)
        generator = torch.Generator().manual_seed(seed)
        n_frames = 8 * config.entries
        loudness_T = torch.exp(torch.randn(n_frames, generator=generator) * 1.5 - 4)
        noise_T = torch.randn(n_frames * config.hop, generator=generator) * loudness_T.repeat_interleave(config.hop)
        with torch.no_grad():
            latent_BTD, _ = net.encoder(noise_T[None], net.encoder.fresh_past(1, noise_T.device))
        net.quantizer.fit(latent_BTD[0], generator, iterations=1)
        return cls(net, config, describe(config, name, f"random-{seed}", pack(net)))

    @property
    def codebooks(self) -> list[torch.Tensor]:
        return [codebook_ED.float() for codebook_ED in self.net.quantizer.codebooks_KED[: self.levels]]

    @torch.no_grad()
    def encode(self, wav_BS: torch.Tensor, sample_rate: int, lengths: torch.Tensor | list[int] | None = None) -> Codes:
        """As `Codec.encode`: an item of n samples at the codec's rate has ceil(n / hop) frames."""
        items = split_batch(wav_BS, sample_rate, lengths)
        codes = [self._encode_item(resample(wav_S, sample_rate, self.sample_rate).to(self.device)) for wav_S in items]
        tokens_BTK = torch.nn.utils.rnn.pad_sequence(codes, batch_first=True)
        return Codes(tokens_BTK, torch.tensor([len(item_TK) for item_TK in codes]), self.identity)

    def _encode_item(self, wav_S: torch.Tensor) -> torch.Tensor:
        if not len(wav_S):
            return torch.zeros(0, self.levels, dtype=torch.int64, device=self.device)
        n_frames = -(-len(wav_S) // self.hop)
        n_chunks = -(-n_frames // CHUNK)
        padded_S = torch.nn.functional.pad(wav_S, (0, n_chunks * CHUNK * self.hop - len(wav_S)))
        past, codes = self.net.encoder.fresh_past(1, self.device), []
        for chunk_S in padded_S.split(CHUNK * self.hop):
            latent_BTD, past = self.net.encoder(chunk_S[None], past)
            codes.append(self.net.quantizer.encode(latent_BTD[0], self.levels))
        return torch.cat(codes)[:n_frames]

    @torch.no_grad()
    def decode(self, codes: Codes) -> torch.Tensor:
        """As `Codec.decode`; each item is decoded alone, at its own length."""
        self._check(codes)
        n_frames = codes.tokens_BTK.shape[1]
        wav_BS = torch.zeros(len(codes.tokens_BTK), n_frames * self.hop, device=self.device)
        for row, (item_TK, length) in enumerate(zip(codes.tokens_BTK, codes.lengths_B.tolist(), strict=True)):
            if length:
                wav_BS[row, : length * self.hop] = self._decode_item(item_TK[:length].to(self.device))
        return wav_BS.clamp(-1, 1)

    def _decode_item(self, codes_TK: torch.Tensor) -> torch.Tensor:
        """Chunk by chunk; at least one frame of zero latents after the end flushes the output delay."""
        n_frames = len(codes_TK)
        padding = CHUNK - n_frames % CHUNK
        latent_TD = torch.nn.functional.pad(self.net.quantizer.decode(codes_TK), (0, 0, 0, padding))
        past, pieces = self.net.decoder.fresh_past(1, self.device), []
        for chunk_TD in latent_TD.split(CHUNK):
            pieces_BJN, past = self.net.decoder(chunk_TD[None], past)
            pieces.append(pieces_BJN)
        return overlap_add(torch.cat(pieces, dim=1), 2 * n_frames)[0]

    def _check(self, codes: Codes) -> None:
        tokens_BTK, sizes = codes.tokens_BTK, self.codebook_sizes
        if codes.codec.with_levels(1).fingerprint != self.identity.with_levels(1).fingerprint:
            theirs, own = codes.codec, self.identity
            raise InputError(
                f'these codes were made by codec "{theirs.name}" ({theirs.fingerprint}), '
                f'not by "{own.name}" ({own.fingerprint}); decode them with the codec that made them'
            )
        if tokens_BTK.ndim != 3 or tokens_BTK.is_floating_point():
            raise InputError(f"codes must be integers [batch, frames, levels], not {describe_tensor(tokens_BTK)}")
        if not 1 <= tokens_BTK.shape[2] <= self.config.levels:
            raise InputError(
                f"codes have {tokens_BTK.shape[2]} levels; "
                f'codec "{self.identity.name}" decodes 1 to {self.config.levels}'
            )
        check_lengths(codes.lengths_B, len(tokens_BTK), tokens_BTK.shape[1], "frames")
        if tokens_BTK.numel() and (int(tokens_BTK.min()) < 0 or int(tokens_BTK.max()) >= self.config.entries):
            raise InputError(
                f"codes lie between {int(tokens_BTK.min())} and {int(tokens_BTK.max())}; "
                f"each level's codebook has entries 0 to {sizes[0] - 1}"
            )

    def save(self, folder: str | Path) -> None:
        """Writes `config.json` and `model.safetensors` (float16); the identity changes with the rounding."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        weights = pack(self.net)
        self.identity = replace(self.identity, weight_hash=hashlib.sha256(weights).hexdigest())
        (folder / "model.safetensors").write_bytes(weights)
        whole = describe(self.config, self.identity.name, self.identity.revision, weights)
        settings = {"kind": KIND, "network": self.config.to_dict(), "identity": whole.to_dict()}
        (folder / "config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def open(cls, settings: dict[str, Any], weights: bytes) -> "SpectralCodec":
        """From the contents of the two files `save` writes."""
        config = SpectralConfig(**settings["network"])
        net = SpectralNet(config)
        net.load_state_dict({name: tensor.float() for name, tensor in load_tensors(weights).items()})
        identity = settings["identity"]
        return cls(net, config, describe(config, identity["name"], identity["revision"], weights))


def pack(net: SpectralNet) -> bytes:
    """The weight file's contents: float16 tensors, the same bytes for the same weights."""
    return save_tensors({name: tensor.half().cpu().contiguous() for name, tensor in net.state_dict().items()})


def describe(config: SpectralConfig, name: str, revision: str, weights: bytes) -> CodecIdentity:
    return CodecIdentity(
        name=name,
        revision=revision,
        weight_hash=hashlib.sha256(weights).hexdigest(),
        sample_rate=config.sample_rate,
        hop=config.hop,
        codebook_sizes=(config.entries,) * config.levels,
        output_delay=config.hop,
    )


def split_batch(wav_BS: torch.Tensor, sample_rate: int, lengths: torch.Tensor | list[int] | None) -> list[torch.Tensor]:
    """The items of a batch cut to their lengths, float32; InputError on what is no audio."""
    if wav_BS.ndim == 1:
        wav_BS = wav_BS[None]
    if wav_BS.ndim != 2 or not wav_BS.is_floating_point():
        raise InputError(f"audio must be floats [batch, samples] or [samples], not {describe_tensor(wav_BS)}")
    if sample_rate <= 0:
        raise InputError(f"sample_rate must be positive, not {sample_rate}")
    n_items, n_samples = wav_BS.shape
    lengths_B = torch.as_tensor([n_samples] * n_items if lengths is None else lengths)
    check_lengths(lengths_B, n_items, n_samples, "samples")
    items = [item_S[:length].float() for item_S, length in zip(wav_BS, lengths_B.tolist(), strict=True)]
    for row, item_S in enumerate(items):
        if not torch.isfinite(item_S).all():
            raise InputError(f"audio item {row} holds NaN or infinite samples")
    return items


def check_lengths(lengths_B: torch.Tensor, n_items: int, longest: int, unit: str) -> None:
    if lengths_B.shape != (n_items,):
        raise InputError(f"lengths must be one number for each of {n_items} items, not {describe_tensor(lengths_B)}")
    if n_items and not 0 <= int(lengths_B.min()) <= int(lengths_B.max()) <= longest:
        raise InputError(f"lengths must be 0 to {longest} {unit}, not {lengths_B.tolist()}")


def describe_tensor(tensor: torch.Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
