"""Operations are those of the matrix products that a model makes."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from hocket.model import ModelConfig
from hocket.training.flops import attention_pairs, block_weights, flops_per_step, peak_flops
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
        model(batch)
    lengths = [b - a for a, b in zip(batch.bounds[:-1], batch.bounds[1:], strict=True)]
    sizes = [legal.size for legal in model.head.legal_sets]
    columns = sum(sizes[i] for i in batch.legal_NR[~batch.is_start_N].flatten().tolist())
    attention = 12 * CONFIG.n_layers * CONFIG.dim * attention_pairs(lengths)
    products = flops_per_step(CONFIG, lengths, columns / batch.n_steps) - attention
    assert counter.get_total_flops() == pytest.approx(products / 3, rel=1e-9)


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
