"""Muon takes the matrices of blocks, part by part; AdamW the rest; a resumed run is the whole one."""

from typing import Any

import pytest
import torch
from launching import rows

from hocket.errors import InputError
from hocket.interleave import Stage, load_layout
from hocket.model import Model, ModelConfig, load_model
from hocket.training import run_recipe
from hocket.training.config import TrainingGroup
from hocket.training.optimizers import build_optimizer, engine_for, fused_parts, is_hidden_matrix, orthogonalise
from hocket.vocab import Vocabulary


def with_gradients(model, seed=0) -> Any:
    generator = torch.Generator().manual_seed(seed)
    for p in model.parameters():
        p.grad = torch.randn(p.shape, generator=generator)
    return model


def test_directions_stay_and_all_count_the_same():
    generator = torch.Generator().manual_seed(0)
    shapes = [(24, 8), (8, 24), (24, 8), (3, 8, 8), (1, 5)]
    matrices = [torch.randn(shape, generator=generator) for shape in shapes]
    for matrix, result in zip(matrices, orthogonalise(matrices), strict=True):
        u, _, v = torch.linalg.svd(matrix, full_matrices=False)
        assert result.shape == matrix.shape
        inside = u.mT @ result @ v.mT
        assert ((inside.diagonal(dim1=-2, dim2=-1) > 0.5) & (inside.diagonal(dim1=-2, dim2=-1) < 1.3)).all()
        torch.testing.assert_close(inside, torch.diag_embed(inside.diagonal(dim1=-2, dim2=-1)), rtol=0, atol=0.05)


def test_a_whole_matrix_steps_as_torch_s_muon_does(make_model):
    model = with_gradients(make_model("Flatten(audio)"))
    weight = model.decoder.blocks[0].down.weight
    copy = torch.nn.Parameter(weight.detach().clone())
    copy.grad = weight.grad.clone()
    settings = TrainingGroup(optimizer="muon", lr=0.02)
    theirs = torch.optim.Muon([copy], lr=0.02, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw")
    ours = build_optimizer(model, settings)
    for _ in range(3):
        ours.step()
        theirs.step()
    torch.testing.assert_close(weight, copy, rtol=0, atol=2e-3)


def test_the_others_step_as_adamw_does(make_model):
    ours, theirs = (with_gradients(make_model("Flatten(audio)")) for _ in range(2))
    for kind, model in (("muon", ours), ("adamw", theirs)):
        optimizer = build_optimizer(model, TrainingGroup(optimizer=kind, lr=0.01))
        for _ in range(3):
            optimizer.step()
    for (name, mine), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert torch.equal(mine, other) != is_hidden_matrix(name, mine), name


def test_fused_matrices_are_parts(make_model):
    """Scaling the gradient of the values alone changes nothing for queries and keys, nor for the values."""
    steps = []
    for scale in (1.0, 100.0):
        model = with_gradients(make_model("Flatten(audio)"))
        before = {n: p.detach().clone() for n, p in model.named_parameters()}
        block = model.decoder.blocks[0]
        queries, keys, values = fused_parts(model)[id(block.qkv.weight)]
        assert (queries, keys, values) == (32, 16, 16)
        block.qkv.weight.grad[queries + keys :] *= scale
        block.gate_up.weight.grad[: block.config.ffn_dim] *= scale
        build_optimizer(model, TrainingGroup(optimizer="muon", lr=0.01)).step()
        steps.append([p.detach() - before[n] for n, p in model.named_parameters() if "blocks.0" in n and p.ndim == 2])
    for one, other in zip(*steps, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-3)


def test_matrices_of_positions_are_matrices_and_their_biases_are_none(identity):
    config = ModelConfig(dim=32, n_layers=1, bias=True, depth_dim=16, depth_ffn_dim=24, depth_weights="rows")
    vocabulary = Vocabulary.build(None, {"audio": identity.codebook_sizes}, {"audio": identity.fingerprint})
    stage = Stage(name="", layout=load_layout("Delay(audio)", levels=3), head="depth")
    model = with_gradients(Model.build(config, vocabulary, stage, identity))
    muon, decayed, free = build_optimizer(model, TrainingGroup(optimizer="muon")).param_groups
    stacked = [p for p in muon["params"] if p.ndim == 3]
    assert len(stacked) == 4 * model.depth.config.n_layers
    assert all(
        "blocks" not in name or p.shape[-2] == 1
        for name, p in model.named_parameters()
        if is_in(p, free["params"]) and p.ndim > 1
    )
    assert not any(name.endswith("bias") for name, p in model.named_parameters() if is_in(p, decayed["params"]))
    build_optimizer(model, TrainingGroup(optimizer="muon")).step()


def is_in(parameter, parameters):
    return any(parameter is other for other in parameters)


def test_rates_of_both_follow_one_schedule(make_model):
    groups = build_optimizer(make_model("Flatten(audio)"), TrainingGroup(optimizer="muon", lr=0.01, muon_lr=0.05))
    assert [group.get("rate_scale", 1.0) for group in groups.param_groups] == [pytest.approx(5.0), 1.0, 1.0]


def test_muon_refuses_flat_partitions_in_words():
    assert engine_for(TrainingGroup(optimizer="muon", zero_stage=0, engine="deepspeed")) == ("deepspeed", None)
    kind, note = engine_for(TrainingGroup(optimizer="muon", zero_stage=1))
    assert kind == "accelerate"
    assert note is not None
    assert "training with plain Accelerate" in note
    wrongs: list[dict[str, Any]] = [{"zero_stage": 2}, {"zero_stage": 0, "dtype": "bfloat16"}]
    for wrong in wrongs:
        with pytest.raises(InputError, match=r"choose training\.engine=accelerate, or training\.zero_stage=0"):
            engine_for(TrainingGroup(optimizer="muon", engine="deepspeed", **wrong))
    with pytest.raises(InputError, match=r"zero_stage=3 needs training\.optimizer=adamw"):
        engine_for(TrainingGroup(optimizer="muon", zero_stage=3))
    with pytest.raises(InputError, match=r"offload=optimizer needs training\.optimizer=adamw"):
        engine_for(TrainingGroup(optimizer="muon", offload="optimizer"))


@pytest.mark.parametrize("engine", [["accelerate"], ["deepspeed", "training.zero_stage=0"]])
def test_a_resumed_run_with_muon_is_the_whole_one(engine, overrides, in_two_parts):
    more = ["training.optimizer=muon", "training.muon_lr=0.02", f"training.engine={engine[0]}", *engine[1:]]
    whole = run_recipe("tiny", overrides("whole", *more))
    parts = in_two_parts(overrides("parts", *more))
    assert rows(parts.folder) == rows(whole.folder)
    ours, theirs = load_model(parts.folder).state_dict(), load_model(whole.folder).state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
