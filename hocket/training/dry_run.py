"""What a recipe would take, before anything is spent: parameters, work, memory, time and disk.

No weight is made (the model is laid out on torch's device "meta") and no audio is read. A corpus that is there is
opened, and batches of it are drawn, so that work is counted over its real documents; where none is named or the bundled
speech has not been tokenised yet, random codes of the recipe's codec stand in, in documents that nearly fill the
context, and what is assumed is said.

    hours   operations of all steps / (processes x peak x MFU)

with the operations of `flops.py` and an MFU that is assumed, 40 % unless given: what well-kept trainers reach on H100
(torchtitan 33 to 39 %, nanochat 46 %). It takes a few seconds, most of them imports.
"""

import os
import tempfile
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hocket.codec import CodecIdentity, load_codec
from hocket.data import Mixture
from hocket.data.shards import Row
from hocket.data.tokenizing.workspace import Job, Workspace
from hocket.data.words import Word
from hocket.errors import InputError
from hocket.model import Model
from hocket.training.adapters import choose_what_trains
from hocket.training.bundled import bundled_kind
from hocket.training.config import BUNDLED, Recipe
from hocket.training.flops import PEAK_FLOPS, peak_flops
from hocket.training.memory import DEEPSPEED, Counts, Memory, checkpoint_bytes, disk_bytes, plan_memory
from hocket.training.optimizers import engine_for, is_hidden_matrix
from hocket.training.parts import ModelParts, all_streams, find_stage, open_mixture, plan_model
from hocket.training.recipes import load_recipe
from hocket.training.sweep import plan_jobs
from hocket.training.work import Work, steps_of
from hocket.vocab import ALIGNED_TEXT, TEXT

MFU = 0.4
DEVICE = "H200"
NO_CORPUS = "none"
PASSES = 4
"""Micro-batches that an assumed corpus fills."""
FILL = 0.98
"""Of the context, by an assumed document."""
UNITS = 500
WORDS_PER_SECOND = 2.5


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run would take. Bytes, operations, seconds; of all processes unless it says otherwise."""

    recipe: str
    layout: str
    learned: str
    """Objective, attention and head."""
    processes: int
    engine: str
    zero_stage: int
    dtype: str
    parameters: Counts
    steps: int
    micro_batch: int
    """Grid steps, at most."""
    grid_steps_per_step: float
    codes_per_step: float
    """Cells of codes and text that are predicted in an optimizer step."""
    audio_seconds_per_step: float
    flops_per_step: float
    memory: Memory
    """Of one process."""
    device_memory: int | None
    """Bytes of the GPU at hand."""
    codes: float
    audio_hours: float
    epochs: float | None
    """Passes over the corpus; None where there is none."""
    device: str
    peak_flops: float
    mfu: float
    hours: float
    checkpoint: dict[str, int]
    """Bytes of one, by part."""
    disk: int
    """Bytes at the fullest moment."""
    assumed: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """For `--json`, with the sums that people ask for."""
        memory = asdict(self.memory) | {"states": self.memory.states, "total": self.memory.total}
        return asdict(self) | {"memory": memory, "flops": self.flops_per_step * self.steps}

    def __str__(self) -> str:
        return "\n".join(f"{name:<11}{line}" for name, line in self._lines())

    def _lines(self) -> list[tuple[str, str]]:
        p, m, c = self.parameters, self.memory, self.checkpoint
        per = "a process" if self.processes > 1 else "in all"
        offloaded = f"; {in_bytes(m.host)} in the host's memory" if m.host else ""
        of = f" of {in_bytes(self.device_memory)}" if self.device_memory else ""
        extra = [f"{in_bytes(size)} {name}" for name, size in (("average", m.average), ("buckets", m.buffers)) if size]
        passes = f", {self.epochs:,.1f} epochs" if self.epochs is not None else ""
        shape = f"{self.processes} x {self.micro_batch:,} grid steps at most a micro-batch"
        return [
            ("recipe", f"{self.recipe}: {self.layout}, {self.learned}"),
            *(("assumed", line) for line in self.assumed),
            (
                "parameters",
                f"{in_count(p.trunk)} trunk + {in_count(p.embeddings)} embeddings + {in_count(p.heads)} heads = "
                f"{in_count(p.total)}, of which {in_count(p.trainable)} train",
            ),
            (
                "step",
                f"{self.grid_steps_per_step:,.0f} grid steps ({shape}), {in_count(self.codes_per_step)} cells, "
                f"{in_seconds(self.audio_seconds_per_step)} of audio, {in_count(self.flops_per_step)}FLOP",
            ),
            (
                "memory",
                f"{in_bytes(m.total)} {per}{of}: {in_bytes(m.weights)} weights + {in_bytes(m.gradients)} gradients + "
                f"{in_bytes(m.masters)} masters + {in_bytes(m.optimizer)} optimizer + {' + '.join(extra)}"
                f"{' + ' if extra else ''}~{in_bytes(m.activations)} activations ({self.engine}"
                f"{f', ZeRO {self.zero_stage}' if self.engine == DEEPSPEED else ''}, {self.dtype}){offloaded}",
            ),
            (
                "run",
                f"{self.steps:,} steps, {in_count(self.codes)} cells, {self.audio_hours:,.1f} h of audio{passes}, "
                f"{in_count(self.flops_per_step * self.steps)}FLOP",
            ),
            (
                "time",
                f"{in_seconds(3600 * self.hours)} on {self.processes} x {self.device} at {100 * self.mfu:g} % of "
                f"{in_count(self.peak_flops)}FLOP/s",
            ),
            (
                "disk",
                f"{in_bytes(self.disk)}: a checkpoint is {in_bytes(c['exported'])} exported weights + "
                f"{in_bytes(c['engine'])} to go on, {self.disk // sum(c.values())} at most at once",
            ),
        ]


def dry_run(recipe: str | Path, overrides: list[str] | None = None, mfu: float = MFU) -> Plan:
    """What a recipe would take.

    Raises:
        InputError: the recipe cannot be composed, its corpus or codec cannot be used, or there is no word on the codec.
    """
    if not 0 < mfu <= 1:
        raise InputError(f"--mfu is {mfu:g}, but must be above 0 and at most 1")
    composed = load_recipe(recipe, overrides, fill={"data.corpus": NO_CORPUS})
    with tempfile.TemporaryDirectory(prefix="hocket-dry-run-") as folder:
        return _plan(composed, Path(folder), mfu)


def plan_runs(recipe: str | Path, overrides: list[str], mfu: float = MFU, multirun: bool = False) -> list[Plan]:
    """The plan of a run, or of each run of a sweep. InputError as `dry_run`."""
    jobs = list(plan_jobs(recipe, overrides).values()) if multirun else [overrides]
    return [dry_run(recipe, job, mfu) for job in jobs]


def _plan(recipe: Recipe, aside: Path, mfu: float) -> Plan:
    assumed: list[str] = []
    corpus = _real_corpus(recipe)
    is_real = corpus is not None
    if corpus is None:
        corpus = _assume_corpus(recipe, aside, assumed)
    parts = _plan_model(recipe, corpus, assumed)
    recipe.model = parts.config  # type: ignore[assignment]
    model, training = parts.sketch(), recipe.training
    choose_what_trains(model, training)
    counts = count_parameters(model, training.optimizer == "muon")
    processes = int(os.environ.get("WORLD_SIZE", training.processes))
    engine = "accelerate" if engine_for(training)[0] == "accelerate" else DEEPSPEED
    work = Work.of(recipe, model, corpus)
    per_step = processes * training.accumulation
    training.processes = processes
    device, peak = _device(training.peak_flops, assumed)
    assumed.append(f"{100 * mfu:g} % MFU")
    flops = work.flops * per_step
    if training.flops is not None:
        training.steps = steps_of(training.flops, flops)
    return Plan(
        recipe=recipe.name,
        layout=str(model.layout),
        learned=f"{model.stage.objective}, {model.stage.attention}, {model.stage.head} head",
        processes=processes,
        engine=engine,
        zero_stage=training.zero_stage,
        dtype=training.dtype,
        parameters=counts,
        steps=training.steps,
        micro_batch=recipe.data.batch_steps,
        grid_steps_per_step=work.grid_steps * per_step,
        codes_per_step=work.cells * per_step,
        audio_seconds_per_step=work.audio_seconds * per_step,
        flops_per_step=flops,
        memory=plan_memory(
            counts,
            parts.config,
            training,
            engine=engine,
            batch_steps=recipe.data.batch_steps,
            n_rows=model.layout.n_rows,
        ),
        device_memory=torch.cuda.get_device_properties(0).total_memory if torch.cuda.is_available() else None,
        codes=work.cells * per_step * training.steps,
        audio_hours=work.audio_seconds * per_step * training.steps / 3600,
        epochs=work.grid_steps * per_step * training.steps / work.epoch_steps if is_real else None,
        device=device,
        peak_flops=peak,
        mfu=mfu,
        hours=flops * training.steps / (processes * peak * mfu) / 3600,
        checkpoint=checkpoint_bytes(counts, training, engine),
        disk=disk_bytes(counts, training, engine),
        assumed=assumed,
    )


def _plan_model(recipe: Recipe, corpus: Mixture, assumed: list[str]) -> ModelParts:
    """As training plans it; where the source of a warm start is not at hand, of the dimensions that the recipe says."""
    start = recipe.model.warm_start
    try:
        return plan_model(recipe, corpus)
    except InputError:
        if not start or recipe.model.dim is None:
            raise
        parts = plan_model(replace(recipe, model=replace(recipe.model, warm_start=None)), corpus)
        assumed.append(f"{start} is not at hand: its dimensions are those that the recipe states")
        return parts


def _device(stated: float | None, assumed: list[str]) -> tuple[str, float]:
    """Whose peak counts, and what it is."""
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    known = peak_flops(name) if name else None
    if stated:
        return name or "GPU", stated
    if name and known:
        return name, known
    assumed.append(f"{DEVICE}, for there is no GPU here that is known (training.peak_flops=… counts for another)")
    return DEVICE, PEAK_FLOPS[DEVICE]


def count_parameters(model: Model, muon: bool = False) -> Counts:
    """Parameters by part, adapters with the trunk."""
    named = [(name, p.numel(), p.requires_grad, p) for name, p in model.named_parameters()]
    embeddings = sum(n for name, n, *_ in named if name.startswith("decoder.embedding."))
    trunk = sum(n for name, n, *_ in named if name.startswith("decoder.")) - embeddings
    total = sum(n for _, n, *_ in named)
    return Counts(
        trunk=trunk,
        embeddings=embeddings,
        heads=total - trunk - embeddings,
        total=total,
        trainable=sum(n for _, n, trains, _ in named if trains),
        by_muon=sum(n for name, n, trains, p in named if muon and trains and is_hidden_matrix(name, p)),
    )


# --- the corpus, or what stands in for it ----------------------------------------------------------------------------


def _real_corpus(recipe: Recipe) -> Mixture | None:
    """The recipe's corpus, if it is named and made."""
    source = recipe.data.corpus
    if source == NO_CORPUS:
        return None
    if source != BUNDLED:
        return open_mixture(recipe, source)
    folder = Path(recipe.output).parent / bundled_kind(all_streams(recipe.interleave)).folder
    return open_mixture(recipe, folder) if (folder / "corpus.json").is_file() else None


def _assume_corpus(recipe: Recipe, folder: Path, assumed: list[str]) -> Mixture:
    """A few examples of random codes, as long as fills the context."""
    identity = _assume_codec(recipe)
    names = [name for name in all_streams(recipe.interleave) if name not in (TEXT, ALIGNED_TEXT)]
    is_units = identity.levels == 1
    units = replace(identity, name="units", weight_hash="assumed units", codebook_sizes=(UNITS,))
    streams = {name: units if name == "semantic" and not is_units else identity for name in names}
    if set(streams) == {"semantic"}:
        streams["audio"] = identity
    seconds = FILL * recipe.model.context / _steps_per_second(recipe, streams)
    what = "the bundled speech is not tokenised yet" if recipe.data.corpus == BUNDLED else "no corpus is named"
    shape = f"{identity.levels} x {identity.codebook_sizes[0]:,} at {float(identity.frame_rate):g} Hz"
    assumed.append(
        f"{what}: documents of {in_seconds(seconds)}, {100 * FILL:g} % of the context, of {identity.name} ({shape})"
    )
    if "semantic" in streams and not is_units:
        assumed.append(f"semantic: {UNITS} units, as many a second as there are frames")
    if len(names) < len(all_streams(recipe.interleave)):
        assumed.append(f"text: {WORDS_PER_SECOND:g} words of five letters a second")
    work = Workspace(folder, Job(streams=streams, source="assumed", source_fingerprint="", settings={}))
    work.start()
    count = PASSES * max(1, recipe.data.batch_steps // recipe.model.context)
    rows = [_random_row(number, streams, seconds) for number in range(count)]
    work.commit(0, rows, [], n_clips=len(rows), clips_hash="")
    work.finish()
    return Mixture.open(folder)


def _steps_per_second(recipe: Recipe, streams: dict[str, CodecIdentity]) -> float:
    rates = {name: of.frame_rate for name, of in streams.items()}
    aligned = {ALIGNED_TEXT: next(iter(rates.values()))}
    stage = find_stage(recipe.interleave, {name: of.levels for name, of in streams.items()}, rates | aligned)
    return float(stage.layout.steps_per_second(rates))


def _assume_codec(recipe: Recipe) -> CodecIdentity:
    facts = recipe.codec.facts
    if facts.are_given:
        assert facts.sample_rate is not None
        assert facts.hop is not None
        return CodecIdentity(
            name=facts.name or "the recipe's codec",
            revision="",
            weight_hash="assumed",
            sample_rate=facts.sample_rate,
            hop=facts.hop,
            codebook_sizes=(facts.entries or 0,) * (facts.levels or 0),
        )
    if recipe.codec.name is None:
        raise InputError(
            "the recipe takes whatever codec its corpus has, and no corpus is named: add data.corpus=FOLDER, "
            "codec=bundled, or codec.facts (codec=mimi has those of Mimi)"
        )
    return load_codec(recipe.codec.name).identity


def _random_row(number: int, streams: dict[str, CodecIdentity], seconds: float) -> Row:
    rng = np.random.default_rng(number)
    codes = {
        name: rng.integers(0, of.codebook_sizes[0], (max(1, int(seconds * of.frame_rate)), of.levels))
        for name, of in streams.items()
    }
    times = np.arange(0, seconds, 1 / WORDS_PER_SECOND)
    letters = rng.integers(97, 123, (len(times), 5), dtype=np.uint8)
    spoken = [bytes(word).decode() for word in letters]
    words = [
        Word(text=text, start=float(start), end=float(start) + 0.3, stream=name)
        for start, text in zip(times, spoken, strict=True)
        for name in (streams if len(streams) == 1 else [n for n in streams if n != "semantic"])
    ]
    return Row(
        id=f"assumed-{number}",
        streams={name: values.astype(np.uint16) for name, values in codes.items()},
        text=" ".join(spoken),
        words=words,
        split="train",
        recording=f"assumed-{number}",
        duration=seconds,
        audio="",
    )


# --- how numbers are shown -------------------------------------------------------------------------------------------


def in_count(number: float) -> str:
    """1234567 -> "1.23 M"."""
    for size, name in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g} {name}" if number < 1e3 * size else f"{number / size:,.0f} {name}"
    return f"{number:.3g} "


def in_bytes(number: float) -> str:
    """1234567 -> "1.23 MB", by powers of ten."""
    return f"{in_count(number)}B"


def in_seconds(seconds: float) -> str:
    """5400 -> "1.5 h"."""
    for size, name in ((48 * 3600, "days"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / (86400 if name == 'days' else size):,.1f} {name}"
    return f"{seconds:.1f} s"
