"""What can be heard of a comparison: for each clip the prompt, the original, its resynthesis, and every run.

Clips are matched by protocol and id; those that most runs have come first. Sound is embedded as MP3, which every
browser plays, 16 kHz mono at about 50 kbit/s: a clip of 7 s is 45 kB, a sixth of its wav; where libsndfile cannot write
MP3, as 16-bit wav. Spectrograms have 16 shades, 3 kB a second.

Shapes: S samples.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile

from hocket.codec import read_audio
from hocket.errors import InputError
from hocket.evaluation.comparison.charts import Look
from hocket.evaluation.comparison.subject import Subject
from hocket.evaluation.listening import Player, encode
from hocket.evaluation.plots import frequency_ticks, spectrogram_png, time_ticks
from hocket.evaluation.results import MODEL, ORIGINAL, RESYNTHESIS, Clip, Evaluation

RATE, SHADES = 16_000, 16
MOST_BYTES = 12_000_000
"""Of sound and pictures in a page, as they are embedded."""
PROMPT = "prompt"
SHARED = {
    PROMPT: "what each model is given",
    ORIGINAL: "what was really said",
    RESYNTHESIS: "through the codec only",
}
"""Kinds that are the same for all runs, and what they are."""
TITLES = {
    "continuation": "Continuation",
    "revoice": "Continuation of given units",
    "tts": "Text to speech",
    "recognition": "Recognition",
}


@dataclass(frozen=True, kw_only=True)
class Sound:
    """One thing to hear, or what a run made of a clip without sound."""

    title: str
    note: str
    look: Look | None
    """Of a run's; None of what all share."""
    player: Player | None
    seconds: float = 0.0
    transcript: str | None = None


@dataclass(frozen=True, kw_only=True)
class Take:
    """A clip with all that was made of it."""

    id: str
    protocol: str
    text: str | None
    sounds: list[Sound] = field(default_factory=list)

    @property
    def title(self) -> str:
        return TITLES.get(self.protocol, self.protocol)

    @property
    def size(self) -> int:
        players = [sound.player for sound in self.sounds if sound.player]
        return sum(len(player.audio) + len(player.picture) for player in players)


@dataclass(frozen=True, kw_only=True)
class Heard:
    """The takes of a page, and what was left out."""

    takes: list[Take]
    n_clips: int
    """Clips that the runs have in all."""
    notes: list[str]


Owned = tuple[Subject, Evaluation, Clip]


def gather_takes(subjects: Sequence[Subject], styles: dict[str, Look], most: int) -> Heard:
    """At most `most` clips of each protocol, as long as they fit the page.

    Raises:
        InputError: a sound that an evaluation names is not there.
    """
    found = _match(subjects)
    takes, notes, size = [], [], 0
    counts: dict[str, int] = {}
    for (protocol, clip), owned in found.items():
        if counts.get(protocol, 0) >= most:
            continue
        take = _take(protocol, clip, owned, styles)
        size += take.size
        if size > MOST_BYTES:
            notes.append(
                f"The page holds no more than {MOST_BYTES / 1e6:.0f} MB of sound, so fewer clips than asked for."
            )
            break
        takes.append(take)
        counts[protocol] = counts.get(protocol, 0) + 1
    return Heard(takes=takes, n_clips=len(found), notes=notes)


def _match(subjects: Sequence[Subject]) -> dict[tuple[str, str], list[Owned]]:
    """Clips of the newest evaluation of each run, those that most have first."""
    found: dict[tuple[str, str], list[Owned]] = {}
    for subject in subjects:
        for clip in subject.newest.clips if subject.newest else ():
            found.setdefault((clip.protocol, clip.id), []).append((subject, subject.newest, clip))  # type: ignore[arg-type]
    order = {protocol: place for place, protocol in enumerate(TITLES)}
    return dict(sorted(found.items(), key=lambda item: (order.get(item[0][0], len(order)), -len(item[1]))))


def _take(protocol: str, clip_id: str, owned: list[Owned], styles: dict[str, Look]) -> Take:
    sounds = []
    for kind, note in SHARED.items():
        once = {_maker(own, kind): own for own in reversed(owned) if kind in own[2].wavs}
        for codec, own in reversed(once.items()):
            sounds.append(_sound(own, kind, f"{kind}, {codec}" if len(once) > 1 else kind, note, None))
    for own in owned:
        subject, evaluation, clip = own
        if MODEL in clip.wavs or MODEL in clip.transcripts:
            note = f"step {evaluation.step:,}" if evaluation.step is not None else ""
            sounds.append(_sound(own, MODEL, subject.label, note, styles[subject.label]))
    text = next((clip.text for _, _, clip in owned if clip.text), None)
    return Take(id=clip_id, protocol=protocol, text=text, sounds=sounds)


def _maker(own: Owned, kind: str) -> str:
    """What tells apart sounds that runs share: of a resynthesis the codec and its levels."""
    subject = own[0]
    return f"{subject.codec.name} ×{subject.levels}" if kind == RESYNTHESIS and subject.codec else ""


def _sound(own: Owned, kind: str, title: str, note: str, look: Look | None) -> Sound:
    subject, evaluation, clip = own
    transcript = clip.transcripts.get(kind)
    if kind not in clip.wavs:
        return Sound(title=title, note=note, look=look, player=None, transcript=transcript)
    path = subject.evaluation_folder(evaluation) / clip.wavs[kind]
    if not path.is_file():
        raise InputError(f'the sound "{path}" of clip "{clip.id}" is not there: evaluate the checkpoint again')
    player, seconds = _player(path, title, None if kind == PROMPT else clip.seam)
    note = ", ".join(filter(None, (note, f"{seconds:.1f} s")))
    return Sound(title=title, note=note, look=look, player=player, seconds=seconds, transcript=transcript)


def _player(path: Path, title: str, seam: float | None) -> tuple[Player, float]:
    """A player of a sound, with a mark where its prompt ends, and its length in seconds."""
    wav_S = read_audio(path, RATE)[0].numpy()
    media, content = compress(wav_S)
    duration = len(wav_S) / RATE
    player = Player(
        title=title,
        note="",
        wide=False,
        picture=encode(spectrogram_png(wav_S, RATE, SHADES)),
        audio=encode(content),
        seam=100 * seam / duration if seam and seam < duration else None,
        x_ticks=time_ticks(duration, most=5),
        y_ticks=frequency_ticks(RATE),
        media=media,
    )
    return player, duration


def compress(wav_S: np.ndarray) -> tuple[str, bytes]:
    """Media type and content: MP3 where libsndfile writes it, else 16-bit wav; 16 kHz mono."""
    target = io.BytesIO()
    wav_S = np.clip(wav_S, -1, 1)
    if "MP3" in soundfile.available_formats():
        how = {"format": "MP3", "subtype": "MPEG_LAYER_III", "bitrate_mode": "VARIABLE", "compression_level": 0.3}
        soundfile.write(target, wav_S, RATE, **how)
        return "audio/mpeg", target.getvalue()
    soundfile.write(target, wav_S, RATE, format="WAV", subtype="PCM_16")
    return "audio/wav", target.getvalue()


def say_clips(heard: Heard) -> str:
    """How many of the clips the page has."""
    shown, there = len(heard.takes), heard.n_clips
    if shown < there:
        return f"{shown} of the {there} clips that were evaluated; --clips says how many of each protocol."
    return f"All {there} clips that were evaluated." if there > 1 else "The one clip that was evaluated."
