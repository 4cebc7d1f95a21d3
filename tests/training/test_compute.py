"""Checkpointing and compilation change what a step costs, not what it computes."""

import pytest
from launching import losses, rows

from hocket.training import run_recipe


def test_checkpointing_changes_nothing(overrides):
    more = ["training.engine=accelerate", "model.dropout=0.1"]
    plain = run_recipe("tiny", overrides("plain", *more))
    assert rows(run_recipe("tiny", overrides("again", *more, "model.checkpointing=true")).folder) == rows(plain.folder)


@pytest.mark.slow
@pytest.mark.parametrize(
    "more", ["accelerate model.checkpointing=true", "deepspeed", "deepspeed training.zero_stage=3 model.dim=128"]
)
@pytest.mark.filterwarnings("ignore")  # of torch.compile itself
def test_compiled_blocks_give_the_same_losses(more, overrides):
    engine = [*f"training.engine={more}".split(), "training.steps=6"]
    plain = run_recipe("tiny", overrides("plain", *engine))
    compiled = run_recipe("tiny", overrides("compiled", *engine, "training.compile=true"))
    assert losses(compiled.folder) == pytest.approx(losses(plain.folder), rel=1e-5)
