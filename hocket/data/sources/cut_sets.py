"""Lhotse cut sets: one cut a line of JSON, read with the lhotse library.

A MonoCut is a clip; so is a MultiCut, as the streams of its channels or, where it takes one of several, of that one.
Supervisions give text (in order), speaker and language where all agree, and the alignment "word" the word times, the
first channel's in the stream "audio", the second's in "user". A MixedCut is no stretch of one recording, and audio
that is transformed or piped on the way is not recorded sound: both are refused, row by row, with the reason.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from hocket.data.clips import Clip, Rejected
from hocket.data.sources import files
from hocket.data.sources.listing import Found, attempt
from hocket.data.sources.manifests import count_lines, json_rows
from hocket.data.sources.rows import as_text
from hocket.data.sources.timings import STREAMS
from hocket.data.words import Word, check_words, join_words
from hocket.errors import InputError

_CUTS = ("MonoCut", "MultiCut", "Cut")
_TOLERANCE = 1e-3
"""Seconds by which a cut of a whole recording may miss its end."""


@dataclass(frozen=True)
class CutSet:
    """The cuts of a file, one JSON object a line."""

    location: str

    def find(self) -> Iterator[Found]:
        for line, row in json_rows(self.location):
            where = f"{self.location}, line {line},"
            id = f"{files.stem(self.location)}:{line}"
            if isinstance(row, str):
                yield where, Rejected(id=id, audio=id, reason=f"{where} {row}")
            else:
                id = as_text(row.get("id")) or id
                yield attempt(where, id, id, partial(_clip, row, files.parent(self.location), where))

    def count(self) -> int:
        return count_lines(self.location)

    def nothing(self) -> str:
        return f'the cut set "{self.location}" has no cuts'


def is_cut_set(location: str) -> bool:
    """Whether the first row of a file of JSON lines is a cut."""
    for _, row in json_rows(location):
        is_row = isinstance(row, dict) and str(row.get("type", "")).endswith("Cut")
        return is_row and ("duration" in row or "tracks" in row)
    return False


def _clip(row: dict[str, Any], folder: str, where: str) -> Clip:
    kind = row.get("type")
    if kind not in _CUTS:
        raise InputError(f"{where} is a {kind}, which is no stretch of one recording; MonoCut and MultiCut are read")
    cut = _cut(row, where)
    location, channel = _audio(cut, where)
    end = cut.start + cut.duration
    words = _words(cut, where)
    return Clip(
        id=cut.id,
        name=location,
        audio=files.audio_at(files.locate(folder, location)),
        text=" ".join(text for one in cut.supervisions if (text := as_text(one.text))) or join_words(words),
        words=words,
        speaker=_agreed(one.speaker for one in cut.supervisions),
        language=_agreed(one.language for one in cut.supervisions),
        start=cut.start or None,
        end=None if abs(end - cut.recording.duration) < _TOLERANCE else end,
        seconds=cut.duration,
        channel=channel,
    )


def _cut(row: dict[str, Any], where: str) -> Any:
    try:
        from lhotse.cut.set import deserialize_cut  # noqa: PLC0415
    except ImportError as error:
        raise InputError(f"{where} is a cut of Lhotse's, which needs: pip install 'hocket[sources]'") from error
    try:
        cut = deserialize_cut(row)
    except (KeyError, TypeError, ValueError, AssertionError, AttributeError) as error:
        raise InputError(f"{where} is not a cut that lhotse reads: {error!r}") from error
    if not cut.has_recording:
        raise InputError(f"{where} has no recording, and codes cannot be made of features")
    return cut


def _audio(cut: Any, where: str) -> tuple[str, int | None]:
    """The file of a cut and the one channel of several that it takes."""
    recording = cut.recording
    if recording.transforms:
        raise InputError(f"{where} transforms its recording; save it as audio first (cut.save_audio)")
    wanted = [cut.channel] if isinstance(cut.channel, int) else list(cut.channel)
    source = next((source for source in recording.sources if set(wanted) <= set(source.channels)), None)
    if source is None:
        raise InputError(f"{where} takes the channels {wanted}, which do not lie in one file")
    if source.type not in ("file", "url"):
        raise InputError(f'{where} has audio of the type "{source.type}"; "file" and "url" are read')
    if sorted(wanted) == sorted(source.channels):
        return source.source, None
    if len(wanted) > 1:
        raise InputError(f"{where} takes {len(wanted)} of {len(source.channels)} channels; one or all are read")
    return source.source, source.channels.index(wanted[0])


def _words(cut: Any, where: str) -> tuple[Word, ...]:
    """The words of all supervisions on the cut's clock."""
    channels = [cut.channel] if isinstance(cut.channel, int) else list(cut.channel)
    words = []
    for supervision in cut.supervisions:
        own = supervision.channel if isinstance(supervision.channel, int) else supervision.channel[0]
        stream = channels.index(own) if own in channels else 0
        for item in (supervision.alignment or {}).get("word", ()):
            if stream < len(STREAMS) and item.symbol.strip() and 0 <= item.start < cut.duration:
                end = min(item.start + item.duration, cut.duration)
                words.append(Word(text=item.symbol.strip(), start=item.start, end=end, stream=STREAMS[stream]))
    return check_words(words, where)


def _agreed(values: Any) -> str | None:
    found = {value for value in values if value}
    return found.pop() if len(found) == 1 else None
