"""A deterministic codec of 8 kHz and 50 Hz that writes down how loud each frame is.

Shapes: C channels, S samples, T frames, K levels.
"""

import time
from pathlib import Path

import torch

from hocket.codec import Codec, CodecIdentity


class EnergyCodec(Codec):
    """Level k holds the k-th base-16 digit of the frame's loudness; `seconds` slows each call down for kill tests."""

    def __init__(self, name: str = "energy", levels: int = 3, seconds: float = 0.0):
        sizes = (16,) * levels
        self.identity = CodecIdentity(
            name=name, revision="1", weight_hash=name, sample_rate=8000, hop=160, codebook_sizes=sizes
        )
        self.net = torch.nn.Linear(1, 1)
        self._seconds = seconds

    def _encode_items(self, items: list[torch.Tensor]) -> list[torch.Tensor]:
        time.sleep(self._seconds)
        return [self._encode_item(wav_CS[0]) for wav_CS in items]

    def _encode_item(self, wav_S: torch.Tensor) -> torch.Tensor:
        n_frames = -(-len(wav_S) // self.hop)
        padded_S = torch.nn.functional.pad(wav_S, (0, n_frames * self.hop - len(wav_S)))
        loudness_T = padded_S.unflatten(0, (n_frames, self.hop)).abs().amax(dim=1).clamp(max=0.999)
        return torch.stack([(loudness_T * 16 ** (k + 1)).long() % 16 for k in range(self.levels)], dim=1)

    def _decode_items(self, items: list[torch.Tensor]) -> list[torch.Tensor]:
        return [codes_TK[None, :, 0].repeat_interleave(self.hop, dim=1) / 16 for codes_TK in items]

    def save(self, folder: str | Path) -> None:
        raise AssertionError("a fake is not saved")
