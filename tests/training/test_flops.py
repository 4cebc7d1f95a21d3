"""Operations are those of the matrix products that a model makes."""

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from hocket.interleave import Stage, load_layout
from hocket.model import Model, ModelConfig
from hocket.training.flops import (
    BatchFlops,
    attention_pairs,
    block_weights,
    depth_weights,
    flops_per_step,
    peak_flops,
)
from hocket.vocab import Vocabulary
from tests.conftest import batch_of, random_document

CONFIG = ModelConfig(dim=32, n_layers=2, n_heads=4, n_kv_heads=2, ffn_dim=48)


def test_weights_of_blocks_are_those_of_the_model(make_model):
    blocks = make_model("Delay(audio)").decoder.blocks
    assert block_weights(CONFIG) == sum(p.numel() for p in blocks.parameters() if p.ndim == 2)


def test_a_forward_pass_is_a_third_of_what_is_counted(make_model):
    """torch counts the same, but for attention, which it does not see on a CPU."""
    model = make_model("Flatten(audio)", attention="sdpa")
    batch = batch_of([random_document(model, 20), random_document(model, 9)])
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        x_ND = model.hidden(batch.ids_NR, batch.cu_seqlens)
        for index, legal in enumerate(model.head.legal_sets[1:], 1):
            legal.logits(x_ND[:-1][(batch.legal_NR[1:] == index)[:, 0] & ~batch.is_start_N[1:]], model.head.weight)
    lengths = [b - a for a, b in zip(batch.bounds[:-1], batch.bounds[1:], strict=True)]
    attention = 12 * CONFIG.n_layers * CONFIG.dim * attention_pairs(lengths)
    assert counter.get_total_flops() == pytest.approx((BatchFlops(model)(batch) - attention) / 3, rel=1e-9)


def test_padding_is_no_work(make_model):
    model = make_model("Flatten(audio)")
    batch = batch_of([random_document(model, 20), random_document(model, 9)])
    padded = batch_of([random_document(model, 20), random_document(model, 9)])
    for name in ("ids_NR", "legal_NR", "weight_NR"):
        tensor = getattr(padded, name)
        setattr(padded, name, torch.cat([tensor, torch.zeros_like(tensor[:7])]))
    padded.cu_seqlens, padded.n_padding = torch.cat([padded.cu_seqlens, padded.cu_seqlens[-1:] + 7]), 7
    assert BatchFlops(model)(padded) == pytest.approx(BatchFlops(model)(batch))


def test_pairs_stay_within_documents_and_windows():
    assert attention_pairs([10, 10]) == 100
    assert attention_pairs([10, 10], causal=False) == 200
    assert attention_pairs([100], window=10) == 50 + 90 * 10
    assert attention_pairs([5], window=10) == attention_pairs([5])


def test_frozen_weights_cost_two_thirds():
    frozen = flops_per_step(CONFIG, [1], 0, frozen_weights=block_weights(CONFIG)) - 12 * 2 * 4 * 8 / 2
    assert frozen == 4 * block_weights(CONFIG)


def test_devices_are_found_by_the_longest_part_of_their_name():
    assert peak_flops("NVIDIA H100 80GB HBM3") == peak_flops("NVIDIA H200") == 989e12
    assert peak_flops("NVIDIA A100-SXM4-80GB") == 312e12
    assert peak_flops("NVIDIA GeForce RTX 4090") == pytest.approx(165e12, rel=0.01)
    assert peak_flops("cpu") is None


@pytest.mark.parametrize("weights", ["shared", "rows"])
def test_a_depth_head_is_counted(weights, identity):
    shape: dict[str, Any] = {
        "depth_dim": 16,
        "depth_layers": 2,
        "depth_heads": 2,
        "depth_kv_heads": 1,
        "depth_ffn_dim": 24,
    }
    config = ModelConfig(dim=32, n_layers=1, depth_weights=weights, depth_fraction=0.5, **shape)
    vocabulary = Vocabulary.build(None, {"audio": identity.codebook_sizes}, {"audio": identity.fingerprint})
    stage = Stage(name="", layout=load_layout("Delay(audio)", levels=3), head="depth")
    model = Model.build(config, vocabulary, stage, identity)
    batch = batch_of([random_document(model, 20)])
    depth, n_rows = config.depth(3), 3
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        assert model.depth is not None
        model.depth.states(torch.zeros(1, 32), batch.ids_NR[3:4])
    attention = 2 * depth.n_layers * depth.n_heads * depth.head_width * attention_pairs([n_rows])
    assert counter.get_total_flops() == 2 * (depth_weights(config, n_rows) - attention)
    n_trained = int((batch.legal_NR[1:, 1:] > 0).any(dim=1).sum())
    cells = [int(batch.legal_NR[1:, row].count_nonzero()) for row in range(3)]
    sizes = [model.head.legal_sets[int(batch.legal_NR[5, row])].size for row in range(3)]
    in_depth = 0.5 * (n_trained * depth_weights(config, 3) + 16 * (cells[1] * sizes[1] + cells[2] * sizes[2]))
    n = batch.n_steps
    expected = flops_per_step(config, [n], cells[0] * sizes[0] / n, head_weights_per_step=in_depth / n)
    assert BatchFlops(model)(batch) == pytest.approx(expected)
