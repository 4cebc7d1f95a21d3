"""Causal attention over packed documents, forward and backward: hocket's loop against one call with a document mask.

Limit: the loop computes sum(T_i^2) of the pack's (sum T_i)^2 scores, a quarter for four equal documents.
"""

import torch
import torch.nn.functional as F

from benchmarks.timing import heading, interleaved
from hocket.model.attention import attend_sdpa
from hocket.model.documents import Documents

STEPS, DOCUMENTS, HEADS, WIDTH = 2048, 4, 8, 64


def main(rounds: int = 9) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    q, k, v = (torch.randn(STEPS, HEADS, WIDTH, requires_grad=True) for _ in range(3))
    documents = Documents(torch.linspace(0, STEPS, DOCUMENTS + 1).long(), STEPS, q.device)
    document = torch.arange(STEPS) // (STEPS // DOCUMENTS)
    mask_TT = (document[:, None] == document) & torch.ones(STEPS, STEPS, dtype=torch.bool).tril()

    def masked() -> torch.Tensor:
        heads = (x.transpose(0, 1).unsqueeze(0) for x in (q, k, v))
        return F.scaled_dot_product_attention(*heads, attn_mask=mask_TT)[0].transpose(0, 1)

    def loop() -> torch.Tensor:
        return attend_sdpa(q, k, v, documents)

    torch.testing.assert_close(loop(), masked(), rtol=1e-4, atol=1e-5)
    median = interleaved({"loop": lambda: loop().sum().backward(), "mask": lambda: masked().sum().backward()}, rounds)
    print(heading("packed attention, 2,048 steps in 4 documents, 8 x 64, float32, forward + backward"))
    print(f"  one call with a mask {median['mask'] * 1e3:8.1f} ms")
    print(f"  loop over documents  {median['loop'] * 1e3:8.1f} ms")
    print(f"  ratio {median['mask'] / median['loop']:.2f}, limit {DOCUMENTS:.2f}\n")
