"""Large recipes by their siblings, which differ in dimensions alone and train here on codes that are made up."""

from pathlib import Path

import numpy as np
import pytest
from launching import free_port, losses, python
from transformers import Qwen2Config, Qwen2ForCausalLM

from hocket.codec import CodecIdentity
from hocket.data.shards import Row
from hocket.data.tokenizing.workspace import Job, Workspace
from hocket.errors import InputError
from hocket.training import dry_run, load_recipe, run_recipe
from hocket.training.config import flatten

LARGE = ["mimi-350m", "mimi-1b", "mimi-7b", "slam"]
DIMENSIONS = {"dim", "n_layers", "n_heads", "n_kv_heads", "head_dim", "ffn_dim", "context"}
SHORT = [
    "data.batch_steps=128",
    "training.accumulation=2",
    "training.steps=50",
    "training.warmup=5",
    "training.valid_every=25",
    "training.save_every=25",
    "training.tensorboard=false",
]
"""So many steps as a test has time for, in batches that fit it."""
NAMES = {"name", "output"}
FILL = {"data.corpus": "nowhere"}


@pytest.fixture(scope="module")
def mimi_corpus(tmp_path_factory) -> Path:
    """24 clips of codes of Mimi's shape in which each level follows the one before."""
    identity = CodecIdentity(
        name="mimi", revision="made up", weight_hash="0", sample_rate=24000, hop=1920, codebook_sizes=(2048,) * 8
    )
    return write_corpus(tmp_path_factory.mktemp("mimi") / "corpus", identity, lambda k, walk_T: walk_T * (k + 1) % 2048)


@pytest.fixture(scope="module")
def unit_corpus(tmp_path_factory) -> Path:
    """24 clips of units of the shape of HuBERT's at 25 Hz."""
    identity = CodecIdentity(
        name="units", revision="made up", weight_hash="0", sample_rate=16000, hop=640, codebook_sizes=(500,)
    )
    return write_corpus(tmp_path_factory.mktemp("units") / "corpus", identity, lambda k, walk_T: walk_T % 500)


@pytest.fixture(scope="module")
def small_qwen(tmp_path_factory) -> Path:
    """A Qwen2 of random weights with the dimensions of slam-tiny."""
    model = load_recipe("slam-tiny", ["model.warm_start=X"], FILL).model
    config = Qwen2Config(
        vocab_size=300,
        hidden_size=model.dim,
        num_hidden_layers=model.n_layers,
        num_attention_heads=model.n_heads,
        num_key_value_heads=model.n_kv_heads,
        intermediate_size=model.ffn_dim,
        rms_norm_eps=model.norm_eps,
        rope_parameters={"rope_type": "default", "rope_theta": model.rope_theta},
    )
    folder = tmp_path_factory.mktemp("qwen")
    Qwen2ForCausalLM(config).save_pretrained(folder)
    return folder


def write_corpus(folder: Path, identity: CodecIdentity, code) -> Path:
    work = Workspace(folder, Job(streams={"audio": identity}, source="made up", source_fingerprint="0", settings={}))
    work.start()
    work.commit(0, [_row(number, identity.levels, code) for number in range(24)], [], n_clips=24, clips_hash="0")
    work.finish()
    return folder


def _row(number: int, levels: int, code) -> Row:
    walk_T = np.random.default_rng(number).integers(0, 3, 40 + number).cumsum()
    codes_TK = np.stack([code(k, walk_T) for k in range(levels)], axis=1).astype(np.uint16)
    split = "valid" if number % 8 == 0 else "train"
    return Row(
        id=f"{number}", streams={"audio": codes_TK}, split=split, recording=f"{number}", duration=1.0, audio=f"{number}"
    )


@pytest.mark.parametrize("name", LARGE)
def test_a_sibling_differs_in_dimensions_alone(name):
    given = ["model.warm_start=X"] if name == "slam" else []
    large, small = (flatten(load_recipe(n, given, FILL).to_dict()) for n in (name, f"{name}-tiny"))
    different = {key for key in large if large[key] != small[key]}
    assert different - {f"model.{key}" for key in DIMENSIONS} == NAMES
    assert {"model.dim", "model.n_layers", "model.ffn_dim"} <= different


@pytest.mark.parametrize("name", LARGE)
def test_it_says_what_it_takes_and_that_it_was_never_run(name):
    plan = dry_run(name)
    sizes = {"mimi-350m": 3.9e8, "mimi-1b": 1.04e9, "mimi-7b": 7.1e9, "slam": 3.6e8}
    limits = {"mimi-350m": 80e9, "mimi-1b": 80e9, "mimi-7b": 80e9, "slam": 24e9}
    assert plan.parameters.total == pytest.approx(sizes[name], rel=0.02)
    assert plan.memory.total < 0.9 * limits[name]
    assert "(never run at this size)" in (Path("configs") / f"{name}.yaml").read_text().splitlines()[0]


@pytest.mark.parametrize("name", ["mimi-350m", pytest.param("mimi-1b", marks=pytest.mark.slow), "mimi-7b"])
def test_siblings_for_mimi_learn(name, mimi_corpus, tmp_path):
    result = run_recipe(f"{name}-tiny", [*SHORT, f"data.corpus={mimi_corpus}", f"output={tmp_path / 'run'}"])
    assert result.steps == 50
    curve = losses(result.folder)
    assert curve[-1] < curve[0] - 0.3


def test_the_sibling_of_slam_learns(unit_corpus, small_qwen, tmp_path):
    given = [*SHORT, f"data.corpus={unit_corpus}", f"model.warm_start={small_qwen}", f"output={tmp_path / 'run'}"]
    result = run_recipe("slam-tiny", given)
    curve = losses(result.folder)
    assert result.steps == 50
    assert curve[-1] < curve[0] - 0.3


@pytest.mark.slow
def test_the_sibling_of_7b_trains_in_two_processes(mimi_corpus, tmp_path):
    given = [*SHORT, f"data.corpus={mimi_corpus}", f"output={tmp_path / 'run'}", "training.steps=4"]
    wrapped = tmp_path / "tiny.py"
    wrapped.write_text(f"from hocket.training import run_recipe\nrun_recipe('mimi-7b-tiny', {given!r})\n")
    done = python("torch.distributed.run", "--nproc_per_node", "2", "--master_port", free_port(), str(wrapped))
    assert (tmp_path / "run" / "checkpoints" / "4" / "trainer.json").is_file(), done.stderr[-2000:]


def test_a_corpus_of_another_codec_is_refused(unit_corpus, tmp_path):
    sentence = r"meant for mimi of 8 levels of 2,048 entries at 12.5 Hz, and the corpus .* has 1 of 500 at 25 Hz"
    with pytest.raises(InputError, match=sentence):
        run_recipe("mimi-350m-tiny", [f"data.corpus={unit_corpus}", f"output={tmp_path / 'run'}"])
