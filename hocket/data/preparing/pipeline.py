"""The steps in their order.

Clips of up to two minutes are decoded once and kept. Longer ones are read in blocks: once for their levels if these
are needed, and once for the samples, so that what is in memory is a segment and 10 s, however long the recording is.

Shapes: C channels, S samples.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from hocket.codec.audio import resample
from hocket.data.clips import BadAudio, Clip, Rejected
from hocket.data.decoding import END_TOLERANCE, Stretch, open_audio
from hocket.data.preparing.cutting import find_cuts
from hocket.data.preparing.measuring import ABSOLUTE_GATE, Levels, Source, gains, measure, take
from hocket.data.preparing.segments import MIN_SECONDS, Preparation, Segment, StreamAudio
from hocket.data.preparing.trimming import find_speech
from hocket.data.words import Word, join_words, words_between

KEPT_SECONDS = 120.0
"""A clip of up to this is decoded once and kept while it is prepared."""


def prepare(clip: Clip, streams: Sequence[StreamAudio], preparation: Preparation) -> list[Segment | Rejected]:
    """All segments of a clip, or why there are none; see `iter_segments`."""
    return list(iter_segments(clip, streams, preparation))


def iter_segments(clip: Clip, streams: Sequence[StreamAudio], preparation: Preparation) -> Iterator[Segment | Rejected]:
    """Yield a clip's segments in their order; a clip that cannot be used gives one `Rejected` in their place.

    A piece of a clip that is silent or shorter than a frame is `Rejected` by itself. Without audio, or where no stream
    is wanted, there is one segment without waves. Only the segment that was yielded last is in memory.

    Raises InputError where a library that the preparation needs is not installed.
    """
    if clip.audio is None or not streams:
        yield _segment(clip, clip.id, clip.text, clip.words, 0.0, 0.0, {})
        return
    try:
        with open_audio(clip) as stretch:
            kept = stretch.held() if stretch.seconds <= KEPT_SECONDS else stretch
            yield from _Preparing(clip, kept, streams, preparation).segments()
    except BadAudio as bad:
        yield _rejected(clip, clip.id, bad)


@dataclass(frozen=True)
class _Preparing:
    """A clip that is open."""

    clip: Clip
    stretch: Stretch
    streams: Sequence[StreamAudio]
    preparation: Preparation

    def segments(self) -> Iterator[Segment | Rejected]:
        self._check_channels()
        words = self._words()
        first, last = self._trimmed(words)
        self._check_seconds((last - first) / self.stretch.sample_rate)
        words = words_between(words, self._seconds(first), self._seconds(last))
        levels = self._levels(first, last)
        gain = self._gains(levels)
        cuts = self._cuts(levels, last - first, words)
        if len(cuts) == 1:
            waves = self._waves(first, last, gain)
            yield self._made(self.clip.id, self.clip.text, words, first, last, waves)
            return
        for number, (begin, end) in enumerate(cuts):
            yield self._piece(f"{self.clip.id}#{number:06d}", first, begin, end, words, gain)

    @property
    def sources(self) -> list[Source]:
        """The channels and mixes that the streams are made from, each once."""
        return list(dict.fromkeys(stream.channel for stream in self.streams))

    def _seconds(self, sample: int) -> float:
        return sample / self.stretch.sample_rate

    def _check_channels(self) -> None:
        for stream in self.streams:
            if stream.channel is not None and not 0 <= stream.channel < self.stretch.n_channels:
                have = f"{self.stretch.n_channels} channel" + "s" * (self.stretch.n_channels != 1)
                reason = f'the stream "{stream.name}" is made from channel {stream.channel} (from 0 on)'
                raise BadAudio(self.clip.name, f"{reason} and it has {have}")

    def _words(self) -> tuple[Word, ...]:
        """The clip's words, moved into it where they begin a little behind its end."""
        seconds = self.stretch.seconds
        for word in self.clip.words:
            if not 0 <= word.start <= seconds + END_TOLERANCE:
                reason = f'the word "{word.text}" is said at {word.start:g} s and it ends at {seconds:.3f} s'
                raise BadAudio(self.clip.name, reason)
        latest = max(0.0, seconds - MIN_SECONDS)
        return tuple(word if word.start < seconds else replace(word, start=latest) for word in self.clip.words)

    def _trimmed(self, words: Sequence[Word]) -> tuple[int, int]:
        """First and last sample (exclusive) of what is kept; no word is trimmed away."""
        if not self.preparation.trim:
            return 0, self.stretch.n_samples
        first, last = find_speech(self.stretch, self.sources)
        if words:
            first = min(first, int(min(word.start for word in words) * self.stretch.sample_rate))
            last = max(last, -int(-max(word.end for word in words) * self.stretch.sample_rate // 1))
        return first, min(last, self.stretch.n_samples)

    def _check_seconds(self, seconds: float) -> None:
        _check_length(self.clip.name, seconds, self.streams)
        least, most = self.preparation.min_seconds, self.preparation.max_seconds
        lasts = f"it lasts {seconds:.3f} s" + " without the silence around it" * self.preparation.trim
        if least is not None and seconds < least:
            raise BadAudio(self.clip.name, f"{lasts} and min_seconds is {least:g}")
        if most is not None and seconds > most:
            raise BadAudio(self.clip.name, f"{lasts} and max_seconds is {most:g}")

    def _may_cut(self, n_samples: int) -> bool:
        limit = self.preparation.cut_seconds
        known = self.clip.text is None or bool(self.clip.words)
        return limit is not None and known and n_samples > limit * self.stretch.sample_rate

    def _levels(self, first: int, last: int) -> Levels | None:
        """What is to be known before the samples are used, in a pass of its own; None where that is nothing."""
        loudness = self.preparation.loudness is not None
        if not loudness and not self._may_cut(last - first):
            return None
        levels = measure(self.stretch, self.sources, first, last, loudness)
        if levels.silent:
            raise BadAudio(self.clip.name, "it is silent: every sample is zero")
        return levels

    def _gains(self, levels: Levels | None) -> dict[Source, float]:
        target = self.preparation.loudness
        if levels is None or target is None:
            return dict.fromkeys(self.sources, 1.0)
        if not any(np.isfinite(value) for value in levels.loudness.values()):
            raise BadAudio(self.clip.name, f"it is too quiet for its loudness to be measured ({ABSOLUTE_GATE:g} LUFS)")
        return gains(levels, self.sources, target)

    def _cuts(self, levels: Levels | None, n_samples: int, words: Sequence[Word]) -> list[tuple[int, int]]:
        limit = self.preparation.cut_seconds
        if levels is None or limit is None or not self._may_cut(n_samples):
            return [(0, n_samples)]
        return find_cuts(levels.energy_F, levels.frame, n_samples, self.stretch.sample_rate, limit, words)

    def _piece(
        self, id: str, offset: int, begin: int, end: int, words: Sequence[Word], gain: dict[Source, float]
    ) -> Segment | Rejected:
        """One of several segments; samples from the trimmed start."""
        mine = words_between(words, self._seconds(begin), self._seconds(end))
        try:
            _check_length(self.clip.name, self._seconds(end - begin), self.streams)
            waves = self._waves(offset + begin, offset + end, gain)
        except BadAudio as bad:
            return _rejected(self.clip, id, bad)
        return self._made(id, join_words(mine), mine, offset + begin, offset + end, waves)

    def _waves(self, first: int, last: int, gain: dict[Source, float]) -> dict[str, np.ndarray]:
        """The samples of each stream at its rate."""
        native = self._native(first, last)
        for source, wav_S in native.items():
            if gain[source] != 1:
                wav_S *= np.float32(gain[source])
        if not any(wav_S.any() for wav_S in native.values()):
            raise BadAudio(self.clip.name, "it is silent: every sample is zero")
        return {
            stream.name: _at_rate(native[stream.channel], self.stretch.sample_rate, stream.sample_rate)
            for stream in self.streams
        }

    def _native(self, first: int, last: int) -> dict[Source, np.ndarray]:
        """The samples of each source at the clip's own rate."""
        self.stretch.check_size(len(self.sources), last - first)
        waves = {source: np.empty(last - first, np.float32) for source in self.sources}
        done = 0
        for wav_CS in self.stretch.blocks(first, last):
            for source, wav_S in waves.items():
                wav_S[done : done + wav_CS.shape[1]] = take(wav_CS, source)
            done += wav_CS.shape[1]
        if not done:
            raise BadAudio(self.clip.name, "it holds no samples")
        return {source: wav_S[:done] for source, wav_S in waves.items()}

    def _made(
        self, id: str, text: str | None, words: Sequence[Word], first: int, last: int, waves: dict[str, np.ndarray]
    ) -> Segment:
        start, duration = self._seconds(first), self._seconds(last - first)
        return _segment(self.clip, id, text, words, start, duration, waves)


def _at_rate(wav_S: np.ndarray, from_rate: int, to_rate: int) -> np.ndarray:
    return resample(torch.from_numpy(wav_S), from_rate, to_rate).numpy()


def _check_length(name: str, seconds: float, streams: Sequence[StreamAudio]) -> None:
    frame = max(stream.frame_seconds for stream in streams)
    if seconds < max(frame, MIN_SECONDS) * (1 - 1e-9):
        least = f"at least {1000 * max(frame, MIN_SECONDS):g} ms are needed (a frame of the codec has {1000 * frame:g})"
        raise BadAudio(name, f"it is too short: it lasts {1000 * seconds:.3g} ms and {least}")


def _segment(
    clip: Clip,
    id: str,
    text: str | None,
    words: Sequence[Word],
    start: float,
    duration: float,
    waves: dict[str, np.ndarray],
) -> Segment:
    return Segment(
        id=id,
        recording=clip.id,
        name=clip.name,
        text=text,
        words=tuple(words),
        speaker=clip.speaker,
        language=clip.language,
        split=clip.split,
        start=start,
        duration=duration,
        waves=waves,
    )


def _rejected(clip: Clip, id: str, bad: BadAudio) -> Rejected:
    return Rejected(id=id, audio=clip.name, reason=bad.reason)
