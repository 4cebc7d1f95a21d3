"""The recipe: everything that decides a training run, as dataclasses that Hydra fills and that check themselves.

Each group is one dataclass and one folder under `configs/`. OmegaConf checks keys and types while composing; what a
type cannot say (a width that divides by its heads) is checked when the dataclass is built. The classes are not frozen
because OmegaConf would then refuse every override.
"""

import math
from dataclasses import asdict, dataclass, field, fields, make_dataclass
from typing import TYPE_CHECKING, Any

from omegaconf import MISSING

from hocket.data.loading.documents import MISSING as MISSING_STREAMS
from hocket.data.loading.packing import PACKINGS
from hocket.data.loading.segments import LONG
from hocket.errors import InputError, did_you_mean
from hocket.interleave import LossWeights
from hocket.model import ModelConfig
from hocket.model.config import SHAPE_KEYS

ENGINES = ("auto", "deepspeed", "accelerate")
DTYPES = ("float32", "bfloat16")
OFFLOADS = ("none", "optimizer", "parameters")
SCHEDULES = ("cosine", "wsd")
OPTIMIZERS = ("adamw", "muon")
MASK_SCHEDULES = ("cosine", "linear")
TRACKERS = ("none", "trackio", "wandb")
BUNDLED = "bundled"
MOST_STEPS = 1 << 24
"""Grid steps of a micro-batch that no memory holds."""
MOST = {"min_lr_ratio": 1, "accumulation": 1 << 16, "lora_rank": 1 << 14, "mask_span": 1 << 24, "seed": (1 << 63) - 1}
"""The most that some settings can be."""
FROM_ZERO = ("flops", "muon_lr", "lora_rank", "lora_alpha", "spike_deviations", "peak_flops", "sample_every")


def _at_least(group: object, name: str, key: str, low: float) -> None:
    value = getattr(group, key)
    if value is not None and not value >= low:
        raise InputError(f"{name}.{key} is {value}, but must be at least {low}")


def _one_of(group: object, name: str, key: str, valid: tuple[str, ...]) -> None:
    value = getattr(group, key)
    if value not in valid:
        raise InputError(f'{name}.{key} has no choice "{value}"{did_you_mean(value, valid)}')


@dataclass(kw_only=True)
class CodecFacts:
    """What a recipe needs to know of a codec that is not at hand."""

    name: str | None = None
    """What people call it."""
    sample_rate: int | None = None
    """Samples a second (Hz)."""
    hop: int | None = None
    """Samples a frame."""
    levels: int | None = None
    """Codebook levels."""
    entries: int | None = None
    """Entries of each codebook."""

    def __post_init__(self) -> None:
        numbers = {key: getattr(self, key) for key in ("sample_rate", "hop", "levels", "entries")}
        lacking = [key for key, value in numbers.items() if value is None]
        if lacking and len(lacking) < len(numbers):
            raise InputError(f"codec.facts has no {lacking[0]}: give sample_rate, hop, levels and entries, or none")
        for key in numbers:
            _at_least(self, "codec.facts", key, 1)

    @property
    def are_given(self) -> bool:
        return self.sample_rate is not None


@dataclass(kw_only=True)
class CodecGroup:
    name: str | None = BUNDLED
    """The codec of the corpus: "bundled" or a codec folder; null takes whatever codec the corpus was made with."""
    levels: int | None = None
    """Codebook levels to model, from level 0 up; null takes all of the corpus."""
    facts: CodecFacts = field(default_factory=CodecFacts)
    """The codec that the recipe is meant for: a corpus of another shape is refused, and `--dry-run` counts with it."""

    def __post_init__(self) -> None:
        _at_least(self, "codec", "levels", 1)


@dataclass(kw_only=True)
class VocabGroup:
    text_size: int = 0
    """Size of the BPE vocabulary trained on the corpus' transcripts; 0 leaves text out."""
    text_tokenizer: str | None = None
    """A tokenizer.json or sentencepiece .model to use instead of training one."""

    def __post_init__(self) -> None:
        _at_least(self, "vocab", "text_size", 0)


@dataclass(kw_only=True)
class InterleaveGroup:
    layout: str = "delay"
    """A layout's name, its expression, or a YAML file that holds one."""
    given: list[str] = field(default_factory=list)
    """Streams, or levels of them as "audio[:4]", that are never predicted."""
    objective: str = "next-token"
    """What is learned: "next-token"; in place, "masked" (MaskGIT) or "levels" (VALL-E's second stage)."""
    attention: str = "causal"
    """Which steps are seen: "causal" or "bidirectional"."""
    head: str = "parallel"
    """How the rows of a step are predicted: "parallel", all together, or "depth", one after another."""
    stages: list[Any] = field(default_factory=list)
    """The models of a cascade, each with a name, a layout and the settings above."""
    stage: str | None = None
    """Which stage of a cascade to train."""
    when: str = ""
    """When to choose the layout, for people."""


if TYPE_CHECKING:
    ModelGroup = ModelConfig
else:  # the fields of ModelConfig, which also checks them, in a class that is not frozen: see above
    ModelGroup = make_dataclass(
        "ModelGroup",
        [
            (f.name, f.type | None, field(default=None))  # not given: the warm start's, or the default's
            if f.name in SHAPE_KEYS
            else (f.name, f.type, field(default=f.default, default_factory=f.default_factory))
            for f in fields(ModelConfig)
        ],
        kw_only=True,
        namespace={"__post_init__": lambda self: _complete(self)},
    )


def _complete(model: ModelGroup) -> ModelConfig:
    """What is given with the defaults of the rest, checked; dimensions of a warm start are checked with its source."""
    unknown = SHAPE_KEYS if model.warm_start else ()
    given = {key: value for key, value in asdict(model).items() if value is not None and key not in unknown}
    return ModelConfig(**given)


@dataclass(kw_only=True)
class DataGroup:
    corpus: str = MISSING
    """Folder that `hocket tokenize` wrote, several as "a,b" or with shares of the steps as "a:0.7,b:0.3", or "bundled":
    the packaged speech, tokenised once beside the runs."""
    temperature: float = 1.0
    """Of several corpora without shares: above 1, small ones are seen more than their size."""
    missing: str = "refuse"
    """Examples without a stream of the layout: "refuse" them, "keep" what they have, or "drop" them."""
    long: str = "split"
    """Examples longer than the context: "split" at frame boundaries (with text: at words), or "refuse"."""
    batch_steps: int = 2048
    """Grid steps in a micro-batch."""
    packing: str = "packed"
    """"packed" end to end, "fixed" (packed, then filled up to batch_steps), or "padded" side by side, by length."""
    buffer: int = 2048
    """Documents that are packed together, at least."""
    workers: int = 0
    """Processes that make batches ahead; 0 makes each when it is needed."""

    def __post_init__(self) -> None:
        _at_least(self, "data", "batch_steps", 2)
        if self.batch_steps > MOST_STEPS:
            raise InputError(f"data.batch_steps is {self.batch_steps:,}, but can be at most {MOST_STEPS:,}")
        _at_least(self, "data", "buffer", 1)
        _at_least(self, "data", "workers", 0)
        if not self.temperature > 0:
            raise InputError(f"data.temperature is {self.temperature}, but must be above 0")
        _one_of(self, "data", "missing", MISSING_STREAMS)
        _one_of(self, "data", "long", LONG)
        _one_of(self, "data", "packing", PACKINGS)

    def options(self) -> dict[str, Any]:
        """What a loader and a single pass take alike."""
        return {"batch_steps": self.batch_steps, "long": self.long, "missing": self.missing}


@dataclass(kw_only=True)
class TrainingGroup:
    steps: int = 400
    """Optimizer steps of the whole run."""
    flops: float | None = None
    """Operations to spend on the whole run, to compare layouts at equal work: `steps` is then counted from it."""
    lr: float = 1e-3
    """Peak learning rate."""
    min_lr_ratio: float = 0.1
    """The last learning rate as a share of the peak."""
    warmup: int = 20
    """Steps of linear warm-up."""
    schedule: str = "cosine"
    """"cosine", or "wsd": constant after warm-up, then linear decay."""
    decay_share: float = 0.2
    """How much of the steps after warm-up "wsd" decays over."""
    optimizer: str = "adamw"
    """"adamw", or "muon": the blocks' matrices by Muon (Jordan et al., 2024), the rest by AdamW."""
    muon_lr: float | None = None
    """Muon's peak learning rate; null takes `lr`, since its updates are scaled to AdamW's size (Liu et al., 2025)."""
    muon_momentum: float = 0.95
    """Muon's decay of the gradient mean."""
    ema: float = 0.0
    """Decay of a moving average of the weights, which is then what is validated and exported; 0 is off."""
    freeze: list[str] = field(default_factory=list)
    """Parameters that do not train, as patterns: ["decoder.embedding", "decoder.blocks.[0-5].*"]."""
    lora_rank: int = 0
    """Rank of low-rank adapters (Hu et al., 2021) of the blocks' matrices, which then do not train; 0 is off."""
    lora_alpha: float = 16.0
    """Adapters count alpha / rank."""
    lora_targets: list[str] = field(default_factory=lambda: ["qkv", "out", "gate_up", "down"])
    """The blocks' matrices that get adapters."""
    weight_decay: float = 0.1
    """Decoupled weight decay, on matrices only."""
    beta1: float = 0.9
    """AdamW's decay of the gradient mean."""
    beta2: float = 0.95
    """AdamW's decay of the gradient square."""
    clip: float = 1.0
    """Largest norm of the whole gradient."""
    accumulation: int = 1
    """Micro-batches per optimizer step and process."""
    stream_weights: dict[str, float] = field(default_factory=dict)
    """Loss weight of a stream, 1 where not named; 0 for one that is not to be learned."""
    level_weights: dict[str, list[float]] = field(default_factory=dict)
    """Loss weights of the levels of a stream, level 0 first; the last number holds for all further levels."""
    pad_weight: float = 1.0
    """Loss weight of the pads of aligned text."""
    end_weight: float = 1.0
    """Loss weight of ends of streams."""
    mask_schedule: str = "cosine"
    """Objective "masked": share of frames that are masked, "cosine" (cos(u pi/2), MaskGIT) or "linear" (uniform)."""
    mask_span: int = 1
    """Objective "masked": frames that are masked together; MAGNeT takes 3."""
    mask_prompt: float = 1.0
    """Objectives "masked" and "levels": how often a random share of the first frames is shown at all levels, as a
    prompt; MAGNeT takes 0."""
    condition_dropout: float = 0.0
    """Share of the documents whose conditions are replaced by <null>, for classifier-free guidance."""
    condition_streams: list[str] = field(default_factory=list)
    """The conditions that are dropped; all streams that are given whole unless named."""
    dtype: str = "float32"
    """"float32" or "bfloat16" arithmetic; master weights are float32 in both."""
    seed: int = 0
    """Seeds the weights and the order of the data."""
    log_every: int = 1
    """Steps between rows of metrics.jsonl."""
    valid_every: int = 100
    """Steps between passes over the valid split; the last step always has one."""
    save_every: int = 200
    """Steps between checkpoints; the last step always has one."""
    keep: int = 2
    """Number of newest checkpoints to keep."""
    keep_best: bool = True
    """Keep the checkpoint with the lowest valid/loss too, of those that were scored at their step."""
    background_save: bool = True
    """Write checkpoints while training goes on; takes as much memory of the host as a checkpoint has bytes."""
    engine: str = "auto"
    """"deepspeed", "accelerate", or "auto": DeepSpeed where it can run."""
    zero_stage: int = 1
    """What DeepSpeed's ZeRO shards over processes: 0 nothing, 1 the optimizer, 2 gradients too, 3 weights too."""
    offload: str = "none"
    """What DeepSpeed keeps in the host's memory: "none", "optimizer", or "parameters" (and the optimizer; stage 3)."""
    compile: bool = False
    """torch.compile the transformer blocks: slow first steps, faster later ones."""
    tensorboard: bool = True
    """Write TensorBoard events beside metrics.jsonl."""
    processes: int = 1
    """How many processes the recipe is meant for, one a GPU. The launcher decides; `--dry-run` counts with it."""
    tracker: str = "none"
    """Where metrics go as well: "trackio" or "wandb"; "none"."""
    spike_deviations: float = 6.0
    """A loss that lies so many standard deviations above its running mean is logged with its examples; 0 is off."""
    peak_flops: float | None = None
    """What one device can do, in FLOP/s, for MFU; null takes it from a table of GPUs."""
    sample_every: int = 0
    """Steps between samples of audio in the run's samples/; 0 is off."""

    def __post_init__(self) -> None:
        for key in ("steps", "accumulation", "log_every", "valid_every", "save_every", "keep", "processes"):
            _at_least(self, "training", key, 1)
        for key in ("lr", "min_lr_ratio", "warmup", "weight_decay", "seed", *FROM_ZERO):
            _at_least(self, "training", key, 0)
        for key in ("muon_momentum", "ema"):
            if not 0 <= getattr(self, key) < 1:
                raise InputError(f"training.{key} is {getattr(self, key)}, but must be at least 0 and below 1")
        if not 0 < self.decay_share <= 1:
            raise InputError(f"training.decay_share is {self.decay_share}, but must be above 0 and at most 1")
        for key in ("beta1", "beta2"):
            if not 0 <= getattr(self, key) < 1:
                raise InputError(f"training.{key} is {getattr(self, key)}, but must be at least 0 and below 1")
        for key in ("lr", "flops", "muon_lr", "weight_decay", "lora_alpha", "spike_deviations", "peak_flops"):
            if getattr(self, key) == math.inf:
                raise InputError(f"training.{key} is inf, but must be finite")
        for key, most in MOST.items():
            if getattr(self, key) > most:
                raise InputError(f"training.{key} is {getattr(self, key):,}, but can be at most {most:,}")
        self.loss_weights()
        if not self.clip > 0:
            raise InputError(f"training.clip is {self.clip}, but must be above 0")
        _at_least(self, "training", "mask_span", 1)
        for key in ("mask_prompt", "condition_dropout"):
            if not 0 <= getattr(self, key) <= 1:
                raise InputError(f"training.{key} is {getattr(self, key)}, but must be from 0 to 1")
        _one_of(self, "training", "mask_schedule", MASK_SCHEDULES)
        _one_of(self, "training", "engine", ENGINES)
        _one_of(self, "training", "dtype", DTYPES)
        _one_of(self, "training", "schedule", SCHEDULES)
        _one_of(self, "training", "optimizer", OPTIMIZERS)
        _one_of(self, "training", "tracker", TRACKERS)
        _one_of(self, "training", "offload", OFFLOADS)
        if self.zero_stage not in range(4):
            raise InputError(f"training.zero_stage is {self.zero_stage}, but must be 0, 1, 2 or 3")
        least = {"none": 0, "optimizer": 1, "parameters": 3}[self.offload]
        if self.zero_stage < least:
            raise InputError(f"training.offload={self.offload} needs training.zero_stage={least} or more")

    def loss_weights(self) -> LossWeights:
        """What each cell counts in the loss. InputError for weights below 0."""
        return LossWeights(
            streams=self.stream_weights, levels=self.level_weights, pad=self.pad_weight, ends=self.end_weight
        )


@dataclass(kw_only=True)
class InferenceGroup:
    temperature: float = 0.9
    """Divides the logits before sampling; 0 takes the likeliest code."""
    top_k: int = 0
    """Sample among this many likeliest codes; 0 is off."""
    top_p: float = 0.95
    """Sample among the likeliest codes that hold this much probability; 1 is off."""
    seconds: float = 4.0
    """Length of a continuation in seconds."""
    prompt_seconds: float = 2.0
    """Length of the prompt in seconds."""
    seed: int = 0
    """Seed of the sampler."""

    def __post_init__(self) -> None:
        for key in ("temperature", "top_k", "prompt_seconds", "seed"):
            _at_least(self, "inference", key, 0)
        if not 0 < self.top_p <= 1:
            raise InputError(f"inference.top_p is {self.top_p}, but must be above 0 and at most 1")
        if not self.seconds > 0:
            raise InputError(f"inference.seconds is {self.seconds}, but must be above 0")


@dataclass(kw_only=True)
class Recipe:
    name: str = "run"
    """The run's name, which is also its folder under runs/."""
    output: str = "runs/${name}"
    """The run folder."""
    codec: CodecGroup = field(default_factory=CodecGroup)
    vocab: VocabGroup = field(default_factory=VocabGroup)
    interleave: InterleaveGroup = field(default_factory=InterleaveGroup)
    model: ModelGroup = field(default_factory=ModelGroup)
    data: DataGroup = field(default_factory=DataGroup)
    training: TrainingGroup = field(default_factory=TrainingGroup)
    inference: InferenceGroup = field(default_factory=InferenceGroup)
    sweep: dict[str, list[str]] = field(default_factory=dict)
    """What `-m` trains without lists of values: runs by name, each with its overrides."""

    def __post_init__(self) -> None:
        if self.model.warm_start is None:
            complete = _complete(self.model)
            for key in SHAPE_KEYS:
                setattr(self.model, key, getattr(complete, key))

    def to_dict(self) -> dict[str, Any]:
        """Nested plain dict, as config.yaml holds it."""
        return asdict(self)


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"model": {"dim": 8}} -> {"model.dim": 8}. Weights by stream are one value, not a group; so is a sweep."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        is_group = isinstance(value, dict) and not key.endswith("_weights") and key != "sweep"
        flat |= flatten(value, f"{prefix}{key}.") if is_group else {prefix + key: value}
    return flat
