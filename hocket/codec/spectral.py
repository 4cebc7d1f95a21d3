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
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from hocket.codec.base import Codec
from hocket.codec.identity import CodecIdentity, check_weight_hash
from hocket.codec.spectral_net import SpectralConfig, SpectralNet, overlap_add
from hocket.codec.spectral_stream import CHUNK, SpectralStreamDecoder, SpectralStreamEncoder
from hocket.codec.streaming import StreamDecoder, StreamEncoder
from hocket.errors import InputError

KIND = "spectral"


class SpectralCodec(Codec):
    """A `SpectralNet` with an identity; `levels` of it below the network's are a prefix."""

    net: SpectralNet
    streams_encoding = streams_decoding = True

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

    def _encode_items(self, items: list[torch.Tensor]) -> list[torch.Tensor]:
        """An item of n samples has ceil(n / hop) frames."""
        return [self._encode_item(wav_CS[0]) for wav_CS in items]

    def _decode_items(self, items: list[torch.Tensor]) -> list[torch.Tensor]:
        return [self._decode_item(codes_TK)[None] for codes_TK in items]

    def stream_encoder(self) -> StreamEncoder:
        return SpectralStreamEncoder(self.net, self.identity)

    def stream_decoder(self) -> StreamDecoder:
        return SpectralStreamDecoder(self.net, self.identity)

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

    def _decode_item(self, codes_TK: torch.Tensor) -> torch.Tensor:
        """Chunk by chunk; at least one frame of zero latents after the end flushes the output delay."""
        n_frames = len(codes_TK)
        if not n_frames:
            return torch.zeros(0, device=self.device)
        padding = CHUNK - n_frames % CHUNK
        latent_TD = torch.nn.functional.pad(self.net.quantizer.decode(codes_TK), (0, 0, 0, padding))
        past, pieces = self.net.decoder.fresh_past(1, self.device), []
        for chunk_TD in latent_TD.split(CHUNK):
            pieces_BJN, past = self.net.decoder(chunk_TD[None], past)
            pieces.append(pieces_BJN)
        return overlap_add(torch.cat(pieces, dim=1), 2 * n_frames)[0]

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


def open_folder(folder: Path, settings: dict[str, Any], levels: int | None) -> Codec:
    """Codes mean nothing with other weights, so weights that are not the ones described are refused."""
    file = folder / "model.safetensors"
    if not file.is_file():
        raise InputError(f'folder "{folder}" holds no codec: it has no {file.name}')
    try:
        codec = SpectralCodec.open(settings, file.read_bytes())
    except (KeyError, TypeError, RuntimeError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f'the codec in folder "{folder}" is damaged, its files do not fit: {reason}') from error
    check_weight_hash(folder, codec.identity, settings["identity"].get("weight_hash"))
    codec.identity = codec.identity.with_levels(codec.levels if levels is None else levels)
    return codec
