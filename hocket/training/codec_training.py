"""`hocket codec train`: a residual codec from any folders of audio, in one resumable folder.

OUT/split.json      what is never trained on, written before training, read at every start
OUT/settings.json   what the run was started with; another start with other settings is refused
OUT/rejected.jsonl  clips that cannot be used, with the reason
OUT/audio/          the training audio, memory-mapped
OUT/reconstruction/ OUT/adversarial/   metrics.jsonl and checkpoint of the two phases
OUT/codec/          the codec, which `load_codec` opens
"""

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from hocket.codec import SpectralCodec, load_codec
from hocket.codec.learning import (
    AdversarialTrainer,
    AdversarialTraining,
    AudioStore,
    ReconstructionTrainer,
    ReconstructionTraining,
)
from hocket.codec.learning.crops import INDEX
from hocket.codec.learning.loop import ScheduledTrainer
from hocket.codec.learning.losses import WINDOWS, MultiScaleDistance
from hocket.data import Clip, read_clips
from hocket.data.clips import BadAudio
from hocket.data.held_out import HeldOut, set_name
from hocket.errors import InputError
from hocket.training.loop import StopSignal

VALID_CLIPS = 30
MAX_VALID_SECONDS = 8.0
MIN_SAMPLES = max(WINDOWS)  # the longest window of the distance


@dataclass(frozen=True, kw_only=True)
class CodecRecipe:
    """What a codec is trained from and how."""

    sources: tuple[str, ...]  # folders, manifests: what `read_clips` takes
    name: str = "codec"
    start: str | None = None  # a spectral codec to go on from, such as "bundled"; None: from scratch
    split: str | None = None  # a split file; None: one is made
    network: dict[str, int] | None = None  # sizes that differ from `SpectralConfig`'s
    reconstruction: ReconstructionTraining
    adversarial: AdversarialTraining | None = None


@dataclass
class CodecResult:
    """What a training ended with."""

    folder: str
    steps: int
    adversarial_steps: int
    minutes: float
    n_clips: int
    audio_minutes: float
    n_held_out: int
    n_rejected: int
    held_out_mel: dict[int, float]  # log-mel distance on held-out clips (nats), by number of levels
    signal: int = 0

    @property
    def summary(self) -> str:
        if self.signal:
            return f"stopped by signal {self.signal} after {self.minutes:.1f} minutes; the same command goes on"
        mels = ", ".join(f"{mel:.3f} with {levels}" for levels, mel in self.held_out_mel.items())
        distance = f"; held-out log-mel distance by levels: {mels}" if mels else ""
        return (
            f"{self.folder}: {self.steps:,} steps and {self.adversarial_steps:,} adversarial ones in "
            f"{self.minutes:.1f} minutes on {self.n_clips:,} clips, {self.audio_minutes:.1f} minutes{distance}"
        )


def train_codec(
    recipe: CodecRecipe,
    folder: Path,
    *,
    device: str = "cpu",
    on_progress: Callable[[float, float, str], object] = lambda done, total, note: None,
) -> CodecResult:
    """Trains, or goes on training, and saves the codec in `folder/codec`.

    `on_progress(done, total, note)` gets the share of the current phase. Raises InputError where the sources are
    unusable, or `folder` holds another training.
    """
    codec = _start_codec(recipe).to(device)
    clips = {str(source): read_clips(source) for source in recipe.sources}
    _claim(folder, recipe, clips, codec)
    held_out = _split(folder, recipe, clips)
    training = {source: [c for c in own if not held_out.has(source, c)] for source, own in clips.items()}
    store = _open_store(folder, training, codec.sample_rate)
    phases, signal = _run(recipe, codec, store, folder, on_progress)
    valid = [clip for source, own in clips.items() for clip in own if held_out.has(source, clip)]
    if not signal:
        steps = "+".join(str(phase.step) for phase in phases)
        codec.identity = replace(codec.identity, revision=f"{codec.identity.revision}, {steps} steps".lstrip(", "))
        codec.save(folder / "codec")
    return CodecResult(
        folder=str(folder / "codec"),
        steps=phases[0].step,
        adversarial_steps=phases[1].step if len(phases) > 1 else 0,
        minutes=sum(phase.seconds for phase in phases) / 60,
        n_clips=len(store),
        audio_minutes=store.seconds / 60,
        n_held_out=len(valid),
        n_rejected=_count_lines(folder / "rejected.jsonl"),
        held_out_mel={} if signal else _held_out_mel(codec, valid),
        signal=signal,
    )


def _run(
    recipe: CodecRecipe,
    codec: SpectralCodec,
    store: AudioStore,
    folder: Path,
    on_progress: Callable[[float, float, str], object],
) -> tuple[list[ScheduledTrainer], int]:
    """Runs phase after phase; those that began, and the number of the signal that ended the last one early, or 0.

    The adversarial phase is made once the first has ended, since it keeps the decoder that it finds.
    """
    phases: list[ScheduledTrainer] = []
    with StopSignal() as stop:
        phases.append(ReconstructionTrainer(codec, store, recipe.reconstruction, folder / "reconstruction"))
        _run_phase(phases[0], stop, on_progress)
        if recipe.adversarial and not stop.number:
            phases.append(AdversarialTrainer(codec, store, recipe.adversarial, folder / "adversarial"))
            _run_phase(phases[1], stop, on_progress)
    return phases, stop.number


def _run_phase(phase: ScheduledTrainer, stop: StopSignal, on_progress: Callable[[float, float, str], object]) -> None:
    phase.resume()
    phase.run(on_log=_reporter(phase, on_progress), stopped=lambda: bool(stop.number))
    if not stop.number:
        phase.conclude()


def _reporter(
    phase: ScheduledTrainer, on_progress: Callable[[float, float, str], object]
) -> Callable[[dict[str, float]], None]:
    """Turns a logged row into a line of progress."""
    name = phase.folder.name

    def report(row: dict[str, float]) -> None:
        shown = [f"{key} {row[key]:.3f}" for key in ("mel", "spectral", "adversarial") if key in row]
        on_progress(row["progress"], 1.0, ", ".join([f"{name} step {row['step']:,.0f}", *shown]))

    return report


def _start_codec(recipe: CodecRecipe) -> SpectralCodec:
    """A fresh codec, or the one to go on from."""
    if recipe.start is None:
        sizes = recipe.network or {}
        codec = SpectralCodec.random(recipe.reconstruction.seed, recipe.name, **sizes)
        codec.identity = replace(codec.identity, revision="")
        return codec
    if recipe.network:
        raise InputError(f'a codec that goes on from "{recipe.start}" has its sizes, so none can be given')
    codec = load_codec(recipe.start)
    if not isinstance(codec, SpectralCodec):
        raise InputError(
            f'codec "{recipe.start}" cannot be trained further here, only spectral codecs such as "bundled"'
        )
    codec.identity = replace(codec.identity, name=recipe.name, revision=f"from {codec.identity.fingerprint}")
    return codec


def _claim(folder: Path, recipe: CodecRecipe, clips: dict[str, list[Clip]], codec: SpectralCodec) -> None:
    """Makes the folder this training's; InputError where it is another's. Only the schedule's end may change."""
    digest = hashlib.sha256()
    for source, own in clips.items():
        digest.update(json.dumps([set_name(source), [clip.id for clip in own]]).encode())
    settings: dict[str, Any] = {"start": recipe.start, "network": codec.config.to_dict(), "clips": digest.hexdigest()}
    settings |= {"seed": recipe.reconstruction.seed}
    file = folder / "settings.json"
    if file.is_file():
        stored = json.loads(file.read_text(encoding="utf-8"))
        changed = [name for name in settings if stored.get(name) != settings[name]]
        if changed:
            raise InputError(
                f'"{folder}" holds a training with other {" and ".join(changed)}; give another --out, or --fresh to '
                "start over"
            )
        return
    folder.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")


def _split(folder: Path, recipe: CodecRecipe, clips: dict[str, list[Clip]]) -> HeldOut:
    """The split that the run began with, the one given, or a new one; written before anything is trained."""
    own_file = folder / "split.json"
    given = own_file if own_file.is_file() else recipe.split
    held_out = HeldOut.draw(clips) if given is None else HeldOut.read(given)
    held_out.write(own_file)
    return held_out


def _open_store(folder: Path, training: dict[str, list[Clip]], sample_rate: int) -> AudioStore:
    """The audio that was written before, or what the clips hold now; bad clips are left out and named."""
    if (folder / "audio" / INDEX).is_file():
        return AudioStore(folder / "audio")
    rejected: list[dict[str, str]] = []

    def waves() -> Iterator[torch.Tensor]:
        for clip in (clip for own in training.values() for clip in own):
            try:
                yield clip.read(sample_rate)
            except BadAudio as bad:
                rejected.append({"id": clip.id, "audio": bad.name, "reason": bad.reason})

    try:
        store = AudioStore.write(folder / "audio", waves(), sample_rate)
    except InputError as error:
        why = f'; the first, "{rejected[0]["audio"]}": {rejected[0]["reason"]}' if rejected else ""
        raise InputError(f"{error}{why}") from error
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rejected)
    (folder / "rejected.jsonl").write_text(lines, encoding="utf-8")
    return store


def _count_lines(file: Path) -> int:
    return len(file.read_text(encoding="utf-8").splitlines()) if file.is_file() else 0


@torch.no_grad()
def _held_out_mel(codec: SpectralCodec, clips: Sequence[Clip]) -> dict[int, float]:
    """Mean log-mel distance (nats) of decoded held-out clips with all levels, half of them, and one."""
    distance = MultiScaleDistance(codec.sample_rate)
    sums = dict.fromkeys(sorted({codec.levels, max(codec.levels // 2, 1), 1}, reverse=True), 0.0)
    usable = [wav_S for wav_S in _read_some(clips, codec.sample_rate) if len(wav_S) >= MIN_SAMPLES]
    for wav_S in usable:
        codes = codec.encode(wav_S, codec.sample_rate)
        for levels in sums:
            sums[levels] += float(distance(codec.decode(codes.prefix(levels)).cpu(), wav_S[None]).mel)
    return {levels: round(total / len(usable), 4) for levels, total in sums.items()} if usable else {}


def _read_some(clips: Sequence[Clip], sample_rate: int) -> Iterator[torch.Tensor]:
    """Up to 8 seconds of up to 30 clips, evenly thinned; those that cannot be read are left out."""
    for clip in clips[:: max(1, len(clips) // VALID_CLIPS)][:VALID_CLIPS]:
        with contextlib.suppress(BadAudio):
            yield clip.read(sample_rate)[: int(MAX_VALID_SECONDS * sample_rate)]
