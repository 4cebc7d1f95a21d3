"""Two-channel dialogues made from single utterances: channel 0 is the model's own voice, channel 1 the user's.

    audio  ──[ utterance ]──────────────[ utterance ][ utterance ]────────
    user   ──────────────[ utterance ]─────────────────[mhm]────[ utterance ]
                         └ gap      └ overlap (negative gap)

Who speaks next starts `gap` seconds after the other has stopped. In ten languages the gap's mode lies between 0 and
200 ms and its mean is 208 ms (Stivers et al., Universals and cultural variation in turn-taking in conversation, PNAS
2009); about 40 % of all changes of speaker overlap, most by less than a second (Heldner and Edlund, Pauses, gaps and
overlaps in conversations, Journal of Phonetics 2010). The default is a normal distribution with that mean and .45 s of
deviation, of which 32 % is below 0, cut off at -1 and 2 s; a speaker goes on after a pause instead with a probability
of .3. Short utterances of the listener also fall into long turns, as backchannels do.

Nothing of an utterance is lost or summed with another: each lies whole in its speaker's channel, and a channel is
exactly zero where its speaker says nothing. The gaps count from where sound is heard. Mixing runs at about 2,000 times
real time; reading the utterances, at 400, costs more.

Shapes: S samples, 2 channels, F frames of 10 ms.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from hocket.data.clips import BadAudio, Clip
from hocket.data.words import Word, join_words
from hocket.errors import InputError

STREAMS = ("audio", "user")
"""The streams of the channels 0 and 1."""

LEVEL = 10 ** (-26 / 20)
"""Root mean square of what is heard of each utterance: 26 dB below full scale, as is usual for telephone speech."""

HEARD_DB = -40.0
"""Frames that are quieter than the loudest by more than this are silence."""


@dataclass(frozen=True, kw_only=True)
class Utterance:
    """What one speaker says at a stretch."""

    id: str
    speaker: str
    text: str
    wav_S: np.ndarray
    """Float32, at the level of `LEVEL`."""
    sample_rate: int
    words: tuple[Word, ...]
    """Seconds from the first sample."""
    timed: bool
    """Whether the words' times come from the source; otherwise they are spread over what is heard."""
    begin: float
    """Seconds until something is heard."""
    end: float
    """Seconds after which nothing more is heard."""

    @property
    def seconds(self) -> float:
        return len(self.wav_S) / self.sample_rate


@dataclass(frozen=True, kw_only=True)
class Timing:
    """How turns follow one another; seconds, and probabilities."""

    gap_mean: float = 0.208
    gap_deviation: float = 0.45
    gap_range: tuple[float, float] = (-1.0, 2.0)
    going_on: float = 0.3
    """How often the same speaker says one more utterance."""
    pause_mean: float = 0.5
    """Between two utterances of one turn."""
    backchannel: float = 0.3
    """How often the listener says something short during a turn of `backchannel_from` seconds or more."""
    backchannel_from: float = 2.0
    backchannel_to: float = 1.2
    """What is short."""


@dataclass(frozen=True)
class Turn:
    """One utterance in its place."""

    utterance: Utterance
    channel: int
    start: float  # seconds into the dialogue of the utterance's first sample

    @property
    def begin(self) -> float:
        """When it begins to be heard."""
        return self.start + self.utterance.begin

    @property
    def end(self) -> float:
        """When it stops to be heard."""
        return self.start + self.utterance.end

    @property
    def stop(self) -> float:
        """Where its last sample is."""
        return self.start + self.utterance.seconds


@dataclass(frozen=True)
class Dialogue:
    """A mixed dialogue; unpacks as `wav_2S, words`."""

    wav_2S: np.ndarray  # float32
    words: tuple[Word, ...]  # by their starts, stream "audio" or "user"
    turns: tuple[Turn, ...] = field(repr=False)
    sample_rate: int  # Hz

    def __iter__(self) -> Iterator:
        return iter((self.wav_2S, self.words))

    @property
    def seconds(self) -> float:
        return self.wav_2S.shape[1] / self.sample_rate

    def shares(self) -> dict[str, float]:
        """Shares of the time in which the own voice, the user, either, both and nobody is heard."""
        heard_2F = np.zeros((2, round(100 * self.seconds)), bool)
        for turn in self.turns:
            heard_2F[turn.channel, round(100 * turn.begin) : round(100 * turn.end)] = True
        own_F, user_F = heard_2F
        shares = {"own": own_F, "user": user_F, "speech": own_F | user_F, "overlap": own_F & user_F}
        return {name: float(heard_F.mean()) for name, heard_F in shares.items()} | {
            "silence": float(1 - (own_F | user_F).mean())
        }

    def gaps(self) -> list[float]:
        """Seconds between the end of a turn and the beginning of the other speaker's next; below 0 where they overlap.

        A turn that lies within the other's is a backchannel and has no gap.
        """
        found: list[float] = []
        floor: Turn | None = None
        for turn in sorted(self.turns, key=lambda turn: turn.begin):
            if floor is not None and turn.end <= floor.end:
                continue
            if floor is not None and turn.channel != floor.channel:
                found.append(turn.begin - floor.end)
            floor = turn
        return found


def make_utterance(clip: Clip, sample_rate: int, speaker: str | None = None) -> Utterance:
    """Read a clip with text; words without times are spread over what is heard, by their letters.

    `speaker` is who speaks where the clip does not say. Raises BadAudio.
    """
    wav_S = clip.read(sample_rate).numpy()
    if not wav_S.any():
        raise BadAudio(clip.name, "it is silent: every sample is zero")
    begin, end, level = heard(wav_S, sample_rate)
    gain = min(LEVEL / level, 1 / float(np.abs(wav_S).max()))
    words = tuple(word for word in clip.words if word.start < len(wav_S) / sample_rate)
    text = clip.text or join_words(words)
    who = clip.speaker or speaker
    if text is None or who is None:
        raise BadAudio(clip.name, "a dialogue needs utterances with text and speaker")
    if words:
        begin, end = min(begin, words[0].start), max(end, *(word.end for word in words))
    return Utterance(
        id=clip.id,
        speaker=who,
        text=text,
        wav_S=wav_S * np.float32(gain),
        sample_rate=sample_rate,
        words=words or spread_words(text, begin, end),
        timed=bool(words),
        begin=begin,
        end=min(end, len(wav_S) / sample_rate),
    )


def heard(wav_S: np.ndarray, sample_rate: int) -> tuple[float, float, float]:
    """From when to when something is heard, in seconds, and the root mean square of the frames where it is."""
    frame = max(1, sample_rate // 100)
    padded_S = np.pad(wav_S.astype(np.float64), (0, -len(wav_S) % frame))
    square_F = (padded_S.reshape(-1, frame) ** 2).mean(axis=1)
    loud_F = np.flatnonzero(square_F >= square_F.max() * 10 ** (HEARD_DB / 10))
    end = min((loud_F[-1] + 1) * frame, len(wav_S))
    return loud_F[0] * frame / sample_rate, end / sample_rate, float(np.sqrt(square_F[loud_F].mean()))


def spread_words(text: str, begin: float, end: float) -> tuple[Word, ...]:
    """The words of a text spread over a stretch, each in proportion to its letters."""
    parts = text.split()
    edges = begin + (end - begin) * np.cumsum([0, *(len(part) for part in parts)]) / sum(len(part) for part in parts)
    return tuple(
        Word(text=part, start=round(float(first), 6), end=round(float(last), 6))
        for part, first, last in zip(parts, edges, edges[1:], strict=False)
    )


def mix_dialogue(
    utterances_a: Sequence[Utterance],
    utterances_b: Sequence[Utterance],
    seed: int | Sequence[int],
    seconds: float = 60.0,
    timing: Timing | None = None,
) -> Dialogue:
    """A dialogue of `seconds`: the utterances of a on channel 0 ("audio") and of b on channel 1 ("user").

    Utterances are drawn without repetition until all were said. The same arguments give the same bytes.

    Raises:
        InputError: a side has no utterance, rates differ, or no first utterance fits into `seconds`.
    """
    sides = (list(utterances_a), list(utterances_b))
    rates = {utterance.sample_rate for side in sides for utterance in side}
    if not all(sides) or len(rates) != 1:
        raise InputError(f"a dialogue needs utterances of both sides at one sample rate, not at {sorted(rates)} Hz")
    turns = _Planner(sides, np.random.default_rng(seed), seconds, timing or Timing()).plan()
    if not turns:
        raise InputError(f"a dialogue of {seconds:g} s is shorter than the utterances; make it longer")
    rate = rates.pop()
    wav_2S = np.zeros((2, round(seconds * rate)), np.float32)
    words: list[Word] = []
    for turn in turns:
        first = round(turn.start * rate)
        wav_2S[turn.channel, first : first + len(turn.utterance.wav_S)] = turn.utterance.wav_S
        words += [
            replace(
                word,
                start=round(word.start + turn.start, 6),
                end=round(word.end + turn.start, 6),
                stream=STREAMS[turn.channel],
            )
            for word in turn.utterance.words
        ]
    return Dialogue(wav_2S, tuple(sorted(words, key=lambda word: word.start)), tuple(turns), rate)


class _Planner:
    """Places utterances one after another, on whole samples, until the next one would not fit."""

    def __init__(
        self, sides: tuple[list[Utterance], list[Utterance]], rng: np.random.Generator, seconds: float, timing: Timing
    ):
        self._sides, self._rng, self._timing = sides, rng, timing
        self._rate = sides[0][0].sample_rate
        self._seconds = round(seconds * self._rate) / self._rate
        self._left: list[list[int]] = [[], []]
        self._free = [0.0, 0.0]  # from when on a channel holds nothing yet
        self._turns: list[Turn] = []

    def plan(self) -> list[Turn]:
        """Turns in the order of their placing."""
        channel, earliest = int(self._rng.integers(2)), float(self._rng.uniform(0.2, 0.8))
        while turn := self._place(channel, self._draw(channel), earliest):
            self._backchannel(turn)
            if self._rng.random() < self._timing.going_on:
                earliest = turn.end + float(self._rng.exponential(self._timing.pause_mean))
            else:
                channel = 1 - channel
                gap = self._rng.normal(self._timing.gap_mean, self._timing.gap_deviation)
                earliest = turn.end + float(np.clip(gap, *self._timing.gap_range))
        return sorted(self._turns, key=lambda turn: turn.start)

    def _draw(self, channel: int) -> Utterance:
        side, left = self._sides[channel], self._left[channel]
        if not left:
            left.extend(self._rng.permutation(len(side)).tolist())
        return side[left.pop()]

    def _place(self, channel: int, utterance: Utterance, heard_from: float) -> Turn | None:
        """Put an utterance where it is heard from a time on, or later if its channel is taken; None where too late."""
        start = max(heard_from - utterance.begin, self._free[channel], 0.0)
        turn = Turn(utterance, channel, round(start * self._rate) / self._rate)
        if turn.stop > self._seconds:
            return None
        self._turns.append(turn)
        self._free[channel] = turn.stop
        return turn

    def _backchannel(self, turn: Turn) -> None:
        """Perhaps something short of the listener in the middle of a turn."""
        listener, length = 1 - turn.channel, turn.end - turn.begin
        short = [one for one in self._sides[listener] if one.end - one.begin <= self._timing.backchannel_to]
        wanted = self._rng.random() < self._timing.backchannel
        if not wanted or not short or length < self._timing.backchannel_from:
            return
        one = short[int(self._rng.integers(len(short)))]
        at = turn.begin + float(self._rng.uniform(0.3, 0.7)) * length
        if self._free[listener] <= at - one.begin and at + one.seconds < turn.end:
            self._place(listener, one, at)
