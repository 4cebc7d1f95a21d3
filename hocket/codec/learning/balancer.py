"""Makes each loss pull on the output with its share of the force, whatever its scale (EnCodec's loss balancer).

The gradient of every loss with respect to the reconstruction is divided by a running mean of its own norm and weighted;
the sum goes on into the decoder. A weight of 2 then means twice the pull of a weight of 1, from the first step to the
last, and a loss whose gradients grow cannot take over.
"""

import torch

DECAY = 0.99


class LossBalancer:
    """Running norms of the gradients, by loss; `state_dict` holds them."""

    def __init__(self, weights: dict[str, float]):
        self.weights = weights
        self.norms: dict[str, float] = {}

    def gradient(self, losses: dict[str, torch.Tensor], output_BS: torch.Tensor) -> torch.Tensor:
        """The balanced gradient [B, S] with respect to the output; the losses' graphs are used up."""
        total_BS = torch.zeros_like(output_BS)
        whole = sum(self.weights[name] for name in losses)
        for name, loss in losses.items():
            (gradient_BS,) = torch.autograd.grad(loss, output_BS, retain_graph=True)
            norm = float(gradient_BS.norm())
            self.norms[name] = DECAY * self.norms.get(name, norm) + (1 - DECAY) * norm
            total_BS += gradient_BS * (self.weights[name] / whole / max(self.norms[name], 1e-12))
        return total_BS

    def state_dict(self) -> dict[str, float]:
        return dict(self.norms)

    def load_state_dict(self, norms: dict[str, float]) -> None:
        self.norms = dict(norms)
