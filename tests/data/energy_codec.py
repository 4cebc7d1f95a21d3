"""A deterministic codec of 8 kHz and 50 Hz that writes down how loud each frame is.

Shapes: B clips, S samples, T frames, K levels.
"""

import time
from pathlib import Path

import torch

from hocket.codec import Codec, CodecIdentity, Codes


class EnergyCodec(Codec):
    """Level k holds the k-th base-16 digit of the frame's loudness; `seconds` slows each call down for kill tests."""

    def __init__(self, name: str = "energy", levels: int = 3, seconds: float = 0.0):
        sizes = (16,) * levels
        self.identity = CodecIdentity(
            name=name, revision="1", weight_hash=name, sample_rate=8000, hop=160, codebook_sizes=sizes
        )
        self.net = torch.nn.Linear(1, 1)
        self._seconds = seconds

    def encode(self, wav_BS: torch.Tensor, sample_rate: int, lengths: torch.Tensor | list[int] | None = None) -> Codes:
        assert sample_rate == self.sample_rate
        time.sleep(self._seconds)
        n_frames = -(-wav_BS.shape[1] // self.hop)
        padded_BS = torch.nn.functional.pad(wav_BS, (0, n_frames * self.hop - wav_BS.shape[1]))
        loudness_BT = padded_BS.unflatten(1, (n_frames, self.hop)).abs().amax(dim=2).clamp(max=0.999)
        tokens_BTK = torch.stack([(loudness_BT * 16 ** (k + 1)).long() % 16 for k in range(self.levels)], dim=2)
        lengths_B = torch.as_tensor([wav_BS.shape[1]] * len(wav_BS) if lengths is None else lengths)
        return Codes(tokens_BTK, -(-lengths_B // self.hop), self.identity)

    def decode(self, codes: Codes) -> torch.Tensor:
        return codes.tokens_BTK[..., 0].repeat_interleave(self.hop, dim=1) / 16

    def save(self, folder: str | Path) -> None:
        raise AssertionError("a fake is not saved")
