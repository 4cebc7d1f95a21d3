"""Where speech begins and ends, by silero VAD (Silero Team, 2021; the ONNX model that faster-whisper carries).

Only the ends of a recording are looked at, 30 s at a time until speech is found, so that an hour costs as much as a
minute. The model is loaded once a process and runs on one thread of the CPU, 800 times as fast as real time.

Shapes: C channels, S samples.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import soxr

from hocket.data.decoding import BadAudio, Stretch
from hocket.data.preparing.measuring import Source, take
from hocket.errors import InputError

RATE = 16000
MARGIN_SECONDS = 0.15
PIECE_SECONDS = 30.0
OVERLAP_SECONDS = 2.0
"""Pieces overlap, so that speech at the edge of one is met whole in another."""

MIN_SPEECH_MS = 100


def find_speech(stretch: Stretch, sources: Sequence[Source]) -> tuple[int, int]:
    """First and last sample (exclusive) of what is kept: from the first speech of any source to the last of any.

    Raises BadAudio where there is no speech, InputError where faster-whisper is not installed.
    """
    pieces = _pieces(stretch)
    found = {pieces[0]: _speech(stretch, sources, *pieces[0])}
    begin = _first(pieces, stretch, sources, found)
    if begin is None:
        raise BadAudio(stretch.name, "no speech is found in it (trim looks for voice activity)")
    end = _first(pieces[::-1], stretch, sources, found, at=1)
    assert end is not None
    margin = round(MARGIN_SECONDS * stretch.sample_rate)
    return max(0, begin - margin), min(stretch.n_samples, end + margin)


def _first(
    pieces: Sequence[tuple[int, int]], stretch: Stretch, sources: Sequence[Source], found: dict, at: int = 0
) -> int | None:
    """Where speech begins (0) or ends (1) in the first of the pieces that has any."""
    for piece in pieces:
        if piece not in found:
            found[piece] = _speech(stretch, sources, *piece)
        if found[piece]:
            return found[piece][at]
    return None


def _pieces(stretch: Stretch) -> list[tuple[int, int]]:
    size, step = (round(seconds * stretch.sample_rate) for seconds in (PIECE_SECONDS, PIECE_SECONDS - OVERLAP_SECONDS))
    n_pieces = max(1, -(-(stretch.n_samples - size) // step) + 1)
    return [(i * step, min(i * step + size, stretch.n_samples)) for i in range(n_pieces)]


def _speech(stretch: Stretch, sources: Sequence[Source], first: int, last: int) -> tuple[int, int] | None:
    """From the first to the last speech between two samples, or None."""
    wav_CS = stretch.whole(first, last)
    spans = [span for source in sources for span in _spans(take(wav_CS, source), stretch.sample_rate)]
    if not spans:
        return None
    return first + min(begin for begin, _ in spans), min(last, first + max(end for _, end in spans))


def _spans(wav_S: np.ndarray, sample_rate: int) -> Iterator[tuple[int, int]]:
    """Stretches of speech in samples."""
    try:
        from faster_whisper.vad import VadOptions, get_speech_timestamps  # type: ignore[import-not-found]  # noqa: PLC0415
    except ImportError as error:
        raise InputError('trimming by voice activity needs faster-whisper: pip install "hocket[prepare]"') from error
    options = VadOptions(min_speech_duration_ms=MIN_SPEECH_MS, min_silence_duration_ms=MIN_SPEECH_MS, speech_pad_ms=0)
    heard_S = wav_S if sample_rate == RATE else soxr.resample(wav_S, sample_rate, RATE)
    for span in get_speech_timestamps(np.ascontiguousarray(heard_S), options, RATE):
        yield span["start"] * sample_rate // RATE, -(-span["end"] * sample_rate // RATE)
