"""When each word is said, from files beside the audio: Praat's TextGrid (the Montreal Forced Aligner's too) and CTM.

    a.ctm       a 1 0.10 0.30 hello        recording, channel, start, length, word; channel 1 or A is the stream
                a 2 0.90 0.25 hi           "audio", 2 or B is "user"
    a.TextGrid  tier "words"               the stream "audio"; a second tier of words, or one whose name starts
                tier "user words"          with "user", is "user"; "anna - words" is a tier of words too

Times in these files count from the start of the file of audio; a clip that is a part of it gets the words that begin
in it, on its own clock. A clip of one channel gets the words of that channel. Empty intervals are pauses.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

from hocket.data.clips import Clip
from hocket.data.sources import files
from hocket.data.sources.rows import number, pick
from hocket.data.words import Word, check_words, join_words, words_between
from hocket.errors import InputError

STREAMS = ("audio", "user")
"""Whose words the first and the second channel or tier hold."""

_CHANNELS = {"1": "audio", "A": "audio", "2": "user", "B": "user"}
_PAUSES = ("<eps>", "<sil>")


def with_times(clip: Clip, row: Mapping[str, Any], folder: str, where: str) -> Clip:
    """The clip with the words of the TextGrid or CTM file that its row names. Raises InputError."""
    if clip.words:
        return clip
    if (name := pick(row, "textgrid")) is not None:
        words = textgrid_words(_content(files.join(folder, str(name)), where), f'the TextGrid "{name}"')
    elif (name := pick(row, "ctm")) is not None:
        words = ctm_words_of(files.join(folder, str(name)), (clip.id, files.stem(clip.name)))
    else:
        return clip
    return place_words(clip, words)


def place_words(clip: Clip, words: Iterable[Word], of_file: bool = True) -> Clip:
    """The clip with those of its file's words that begin in it; where it has no text, the words are its text.

    `of_file`: the times count from the start of the file, not of the clip.
    """
    if of_file and (clip.start is not None or clip.end is not None):
        words = words_between(words, clip.start or 0.0, float("inf") if clip.end is None else clip.end)
    if clip.channel is not None:
        own = STREAMS[clip.channel] if clip.channel < len(STREAMS) else None
        words = tuple(replace(word, stream="audio") for word in words if word.stream == own)
    words = tuple(words)
    return replace(clip, words=words, text=clip.text or join_words(words))


def ctm_words_of(location: str, names: Iterable[str]) -> tuple[Word, ...]:
    """The words of a recording in a CTM file: the first of the names that it has; all where it is of one recording."""
    recordings = read_ctm(location)
    for name in names:
        if name in recordings:
            return recordings[name]
    return next(iter(recordings.values())) if len(recordings) == 1 else ()


@lru_cache(maxsize=4)
def read_ctm(location: str) -> dict[str, tuple[Word, ...]]:
    """The words of each recording in a CTM file. Raises InputError."""
    words: dict[str, list[Word]] = {}
    try:
        with files.open_text(location) as file:
            for line, text in enumerate(file, start=1):
                if text.strip() and not text.startswith(";;"):
                    recording, word = _ctm_word(text.split(), f"{location}, line {line},")
                    words.setdefault(recording, []).extend(word)
    except UnicodeDecodeError as error:
        raise InputError(f"{location} is not UTF-8 text (byte {error.start})") from error
    except OSError as error:
        raise InputError(f'the word times "{location}" cannot be read: {error}') from error
    return {name: check_words(of, f'{location}, recording "{name}",') for name, of in words.items()}


def _ctm_word(fields: list[str], where: str) -> tuple[str, list[Word]]:
    if len(fields) < 5:
        raise InputError(f"{where} has {len(fields)} fields; a line of CTM is: recording channel start length word")
    recording, channel, start, length, text = fields[:5]
    if channel.upper() not in _CHANNELS:
        raise InputError(f'{where} has the channel "{channel}", which should be 1 or A, 2 or B')
    begin = number(start, "the start of a word", where)
    end = round(begin + number(length, "the length of a word", where), 6)
    word = Word(text=text, start=begin, end=end, stream=_CHANNELS[channel.upper()])
    return recording, [] if text in _PAUSES else [word]


def textgrid_words(content: bytes, where: str) -> tuple[Word, ...]:
    """The words of a TextGrid file, in the long or the short format. Raises InputError."""
    tiers = [tier for tier in _tiers(content, where) if _is_of_words(tier)]
    if not tiers:
        raise InputError(f'{where} has no tier of intervals called "words" or "NAME - words"')
    if len(tiers) > len(STREAMS):
        raise InputError(f"{where} has {len(tiers)} tiers of words; one, or two for two channels, are understood")
    tiers.sort(key=lambda tier: tier["name"].lower().startswith("user"))
    streams = ("user",) if len(tiers) == 1 and tiers[0]["name"].lower().startswith("user") else STREAMS
    return check_words((word for pair in zip(tiers, streams) for word in _tier_words(*pair)), where)  # noqa: B905


def _is_of_words(tier: Mapping[str, Any]) -> bool:
    name = tier["name"].strip().lower()
    return tier["class"] == "IntervalTier" and (name in ("word", "words") or name.endswith((" words", "-words")))


def _tier_words(tier: Mapping[str, Any], stream: str) -> Iterator[Word]:
    for start, end, label in tier["entries"]:
        text = label.strip()
        if text and text not in _PAUSES:
            yield Word(text=text, start=float(start), end=float(end), stream=stream)


def _tiers(content: bytes, where: str) -> list[dict[str, Any]]:
    try:
        from praatio.utilities import textgrid_io  # noqa: PLC0415
        from praatio.utilities.errors import PraatioException  # noqa: PLC0415
    except ImportError as error:
        raise InputError(f"{where} needs the package praatio: pip install 'hocket[sources]'") from error
    try:
        text = content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
        return textgrid_io.parseTextgridStr(text, includeEmptyIntervals=False)["tiers"]
    except (PraatioException, ValueError, LookupError, AttributeError, TypeError) as error:
        raise InputError(f"{where} is not a TextGrid that can be read") from error


def _content(location: str, where: str) -> bytes:
    try:
        return files.read_bytes(location)
    except OSError as error:
        raise InputError(f'{where} names the word times "{location}", which cannot be read: {error}') from error
