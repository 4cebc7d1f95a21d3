"""Causal building blocks whose left context is explicit, so that a signal can be run in pieces.

Every block takes the last frames of its previous input (its *past*) and returns the new past; a signal run in
pieces gives what it gives in one go. A fresh past is zeros, which is the same as zero padding on the left.

Shapes: B batch, T frames, C channels, P frames of past (kernel - 1).
"""

import torch
from torch import nn
from torch.nn import functional


class CausalDepthwise(nn.Module):
    """A depthwise convolution over time that reads its own frame and the `kernel - 1` frames before it."""

    def __init__(self, channels: int, kernel: int):
        super().__init__()
        self.n_past = kernel - 1
        self.weight = nn.Parameter(torch.randn(channels, 1, kernel) * kernel**-0.5)
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x_BTC: torch.Tensor, past_BPC: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        joined_BTC = torch.cat([past_BPC.to(x_BTC.dtype), x_BTC], dim=1)
        y_BCT = functional.conv1d(joined_BTC.transpose(1, 2), self.weight, self.bias, groups=x_BTC.shape[2])
        return y_BCT.transpose(1, 2), joined_BTC[:, -self.n_past :]


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution over time, then a two-layer perceptron in each frame, added to the input."""

    def __init__(self, channels: int, hidden: int, kernel: int, scale: float):
        super().__init__()
        self.channels = channels
        self.depthwise = CausalDepthwise(channels, kernel)
        self.norm = nn.LayerNorm(channels)
        self.up = nn.Linear(channels, hidden)
        self.down = nn.Linear(hidden, channels)
        self.scale = nn.Parameter(torch.full((channels,), scale))

    def forward(self, x_BTC: torch.Tensor, past_BPC: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mixed_BTC, past_BPC = self.depthwise(x_BTC, past_BPC)
        update_BTC = self.down(functional.gelu(self.up(self.norm(mixed_BTC))))
        return x_BTC + self.scale * update_BTC, past_BPC

    def fresh_past(self, batch: int, device: torch.device) -> torch.Tensor:
        return torch.zeros(batch, self.depthwise.n_past, self.channels, device=device)


class BlockStack(nn.Module):
    """Blocks of one width in a row; their pasts travel as one list."""

    def __init__(self, n_blocks: int, channels: int, hidden: int, kernel: int):
        super().__init__()
        self.blocks = nn.ModuleList(
            ConvNeXtBlock(channels, hidden, kernel, 1 / max(n_blocks, 1)) for _ in range(n_blocks)
        )

    def forward(self, x_BTC: torch.Tensor, pasts: list[torch.Tensor]) -> tuple[torch.Tensor, list[torch.Tensor]]:
        new_pasts = []
        for block, past_BPC in zip(self.blocks, pasts, strict=True):
            x_BTC, past_BPC = block(x_BTC, past_BPC)
            new_pasts.append(past_BPC)
        return x_BTC, new_pasts

    def fresh_pasts(self, batch: int, device: torch.device) -> list[torch.Tensor]:
        return [block.fresh_past(batch, device) for block in self.blocks]  # pyright: ignore[reportCallIssue]
