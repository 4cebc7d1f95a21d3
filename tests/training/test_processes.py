"""Two processes under each stage of ZeRO are one that accumulates two, in losses, norms and weights."""

import pytest
import torch
from launching import rows, train_in

from hocket.model import load_model
from hocket.training import run_recipe

STAGES = (1, 2, 3)
TOLERANCE = {"float32": 1e-5, "bfloat16": 1e-3}


@pytest.fixture(scope="module", params=TOLERANCE)
def matrix(request, make_overrides, tmp_path_factory):
    """(dtype, folder of the runs): one of one process and one of two processes for each stage."""
    folder, dtype = tmp_path_factory.mktemp("matrix"), request.param
    more = [f"training.dtype={dtype}", "training.engine=deepspeed", "model.dim=128"]  # wide enough to be cut
    runs = [make_overrides(folder / f"stage-{stage}", *more, f"training.zero_stage={stage}") for stage in STAGES]
    done = train_in(2, folder, runs)
    assert not done.returncode, done.stderr
    run_recipe("tiny", make_overrides(folder / "one", *more, "training.accumulation=2"))
    return dtype, folder


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_two_processes_are_one_that_accumulates_two(matrix, stage):
    dtype, folder = matrix
    ours, one = rows(folder / f"stage-{stage}"), rows(folder / "one")
    keys = {"loss", "valid/loss", "grad_norm", "loss/audio.0"}
    for row, wanted in zip(ours, one, strict=True):
        for key in keys & set(wanted):
            assert row[key] == pytest.approx(wanted[key], rel=TOLERANCE[dtype]), (row["step"], key)


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_the_plain_weights_are_whole_float32_masters(matrix, stage):
    dtype, folder = matrix
    ours, wanted = (load_model(folder / name).state_dict() for name in (f"stage-{stage}", "one"))
    for name, weight in wanted.items():
        assert ours[name].dtype == torch.float32
        torch.testing.assert_close(ours[name], weight, rtol=TOLERANCE[dtype], atol=10 * TOLERANCE[dtype])
