"""Bytes that a run takes: of one process' memory, and of the disk. For `--dry-run`, from counts alone.

P parameters, T of them that train, M of these by Muon; W processes; b = 4 bytes in float32, 2 in bfloat16; N grid steps
of a micro-batch. A process holds, at its fullest (in the optimizer's step):

                      weights            gradients               float32 masters   optimizer
    Accelerate        4 P                4 T                     -                 8 T - 4 M
    ZeRO stage 0      4 P                4 T                     -                 8 T - 4 M
    ZeRO stage 1, 2   b P                (b + 4) T / W           4 T / W           8 T / W
    ZeRO stage 3      b P / W            (b + 4) T / W           4 T / W           8 T / W

DeepSpeed keeps float32 masters in float32 too, flat and beside the weights, and makes float32 gradients of its share
for the optimizer; where micro-batches are accumulated, stage 1 holds b T before, which may be more than these.
`training.offload` moves masters, optimizer and the share's gradients to the host, "parameters" stage 3's weights as
well. An average of the weights (`training.ema`) is 4 T more. DeepSpeed's buckets, of at most 20 M gradients, are
counted apart. Weights that stage 3 gathers for a layer, what the allocator leaves unused, and the copy of a checkpoint
in the host's memory while it is written, are not counted.

Activations that a block keeps for the backward pass, values a grid step, D width, Q = heads x head width, K the same of
keys, F inner width of the feed-forward part:

    norms and residuals   6 D        attention   Q + 2 K in, Q + K turned, 2 Q out      feed-forward   4 F
    QK norm               Q + K      dropout     2 D

as torch keeps them on CPU, where RMSNorm keeps its normalised input too; fused kernels keep up to 2 D + Q less.

With `model.checkpointing` each block keeps D, and one block at a time all of it. The embedding of a step's R cells is
R D for a moment. The loss works in parts of bounded size and is not counted. So activations are an estimate; the rest
is measured: see tests/training/test_memory.py.

On disk a checkpoint is 4 P (`model/`) and the engine's: 4 P + 8 T - 4 M; b P + 12 T at stages 1 and 2; 12 T at stage 3.
An average adds 4 P + 4 T. There are `keep` of them, the best, and one that is being written.
"""

from dataclasses import dataclass

from hocket.model import ModelConfig
from hocket.training.config import TrainingGroup
from hocket.training.engine.zero import BUCKET_ELEMENTS

BYTES = {"float32": 4, "bfloat16": 2}
DEEPSPEED, ACCELERATE = "deepspeed", "accelerate"


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Parameters of a model."""

    trunk: int
    """Of the decoder's blocks and its last norm."""
    embeddings: int
    heads: int
    """Output matrix, and all of a depth head."""
    total: int
    trainable: int
    by_muon: int = 0
    """Matrices that Muon trains, with one float32 state instead of two."""


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes of one process."""

    weights: int
    gradients: int
    masters: int
    """Float32 copies of weights that DeepSpeed keeps."""
    optimizer: int
    average: int
    """Of the weights, where `training.ema` is on."""
    buffers: int
    """DeepSpeed's buckets."""
    activations: int
    host: int
    """Of what is offloaded."""

    @property
    def states(self) -> int:
        """Weights, gradients, masters and optimizer."""
        return self.weights + self.gradients + self.masters + self.optimizer

    @property
    def total(self) -> int:
        """On the device."""
        return self.states + self.average + self.buffers + self.activations


def effective_stage(training: TrainingGroup, engine: str) -> int | None:
    """ZeRO's stage, or None without DeepSpeed."""
    if engine != DEEPSPEED:
        return None
    return training.zero_stage or int(training.dtype == "bfloat16")


def plan_memory(
    counts: Counts, config: ModelConfig, training: TrainingGroup, *, engine: str, batch_steps: int, n_rows: int
) -> Memory:
    """What one of `training.processes` processes holds.

    Args:
        engine: "deepspeed" or "accelerate".
        batch_steps: grid steps of a micro-batch.
        n_rows: rows of the grid.
    """
    parts = plan_states(counts, training, engine)
    offload = training.offload
    moved = ("masters", "optimizer", "gradients_of_share") if offload != "none" else ()
    moved += ("weights",) if offload == "parameters" else ()
    host = sum(parts[name] for name in moved)
    here = {name: 0 if name in moved else size for name, size in parts.items()}
    return Memory(
        weights=here["weights"],
        gradients=here["gradients"] + here["gradients_of_share"],
        masters=here["masters"],
        optimizer=here["optimizer"],
        average=4 * counts.trainable if training.ema else 0,
        buffers=here["buffers"],
        activations=activations(config, training, batch_steps, n_rows),
        host=host,
    )


def plan_states(counts: Counts, training: TrainingGroup, engine: str) -> dict[str, int]:
    """Bytes of weights, gradients, masters, optimizer and buckets of one process, wherever they lie."""
    stage, value = effective_stage(training, engine), BYTES[training.dtype]
    total, trained, share = counts.total, counts.trainable, -(-counts.trainable // training.processes)
    if not stage:
        state = 8 * trained - 4 * counts.by_muon
        return _parts(weights=4 * total, gradients=4 * trained, optimizer=state)
    accumulated = value * trained if stage == 1 and training.accumulation > 1 else 0
    return _parts(
        weights=value * total if stage < 3 else value * -(-total // training.processes),
        gradients=value * share + max(0, accumulated - 4 * share),
        gradients_of_share=4 * share,
        masters=4 * share,
        optimizer=8 * share,
        buffers=value * (BUCKET_ELEMENTS if stage == 3 else min(BUCKET_ELEMENTS, trained)),
    )


def _parts(**given: int) -> dict[str, int]:
    names = ("weights", "gradients", "gradients_of_share", "masters", "optimizer", "buffers")
    return dict.fromkeys(names, 0) | given


def checkpoint_bytes(counts: Counts, training: TrainingGroup, engine: str) -> dict[str, int]:
    """Bytes of one checkpoint: exported weights, and the engine's state."""
    stage, total, trained = effective_stage(training, engine), counts.total, counts.trainable
    state = 8 * trained - 4 * counts.by_muon
    engines = {
        None: 4 * total + state,
        0: 4 * total + state,
        1: BYTES[training.dtype] * total + 12 * trained,
        3: 12 * trained,
    }
    exported = 4 * total + (4 * total + 4 * trained if training.ema else 0)
    return {"exported": exported, "engine": engines[1 if stage == 2 else stage]}


def disk_bytes(counts: Counts, training: TrainingGroup, engine: str) -> int:
    """Of all checkpoints at the fullest moment of a run."""
    kept = training.keep + int(training.keep_best) + 1
    most = -(-training.steps // training.save_every)
    return min(kept, most) * sum(checkpoint_bytes(counts, training, engine).values())


def activations(config: ModelConfig, training: TrainingGroup, batch_steps: int, n_rows: int) -> int:
    """An estimate of what the forward pass leaves for the backward pass of a micro-batch."""
    c, value = config, BYTES[training.dtype]
    queries, keys = c.n_heads * c.head_width, c.n_kv_heads * c.head_width
    block = 6 * c.dim + 4 * queries + 3 * keys + 4 * c.ffn_dim
    block += queries + keys if c.qk_norm else 0
    block += 2 * c.dim if c.dropout else 0
    kept = c.n_layers * c.dim + block if c.checkpointing else c.n_layers * block
    return batch_steps * value * (kept + 2 * c.dim + n_rows * c.dim)
