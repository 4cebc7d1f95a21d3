"""When each word is said, heard by Whisper: a source in, a manifest with word times out.

    {"id": "a", "audio": "a.flac", "text": "Hello, you.", "matched": 1.0,
     "words": [{"text": "Hello,", "start": 0.1, "end": 0.42}, {"text": "you.", "start": 0.5, "end": 0.8}]}

A clip keeps its own words: they are matched with the recognised ones (case and punctuation aside) and take over their
times. Words between two matched ones share the time between these by their letters; where something else was heard
instead, they share its time. `matched` is the share of a clip's words that were recognised as they are written. A
clip without text takes the recognised one.

The manifest grows line by line in the order of the source, so a job that was killed and is run again goes on behind
its last whole line. On one CPU core tiny.en takes about a tenth of the audio's time.

Shapes: T samples.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeGuard

import numpy as np
from filelock import FileLock, Timeout

from hocket.data.clips import BadAudio, Clip, Rejected, RemoteAudio
from hocket.data.sources import Source, is_manifest_of, open_source
from hocket.data.word_matching import in_order, match_words, word_key
from hocket.data.words import Word, join_words
from hocket.errors import InputError

RATE = 16000
"""Hz of the audio that Whisper hears."""

_REPORT_SUFFIX = ".report.json"


class Recogniser(Protocol):
    """Hears words and their times."""

    def __call__(self, wav_T: np.ndarray, language: str | None) -> Sequence[Word]:
        """The words of float32 audio at 16 kHz. `language`: a code such as en; None leaves it to be heard.

        Raises InputError for a language that it does not know.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Aligned:
    """What came of an alignment."""

    n_clips: int = 0
    """Rows in the manifest, those of earlier runs among them."""
    n_kept: int = 0
    """Rows that an earlier run had written."""
    n_words: int = 0
    """Words of clips that came with text."""
    n_matched: int = 0
    """Those that were recognised as they are written."""
    rejected: list[Rejected] = field(default_factory=list)

    @property
    def matched(self) -> float | None:
        """Share of the words that were recognised; None where no clip came with text."""
        return self.n_matched / self.n_words if self.n_words else None


def align(
    src: str | Path,
    dst: str | Path,
    model: str | Path | Recogniser,
    *,
    language: str | None = None,
    device: str = "cpu",
    on_progress: Callable[[int, int | None], object] | None = None,
) -> Aligned:
    """Write the clips of `src` (see `open_source`) with word times to the manifest `dst`; go on where a run stopped.

    Rows that cannot be used are named in the result and in DST.report.json, which also holds the totals. A clip that
    has word times already keeps them.

    Args:
        model: a name or folder that faster-whisper loads, or whatever hears words.
        language: of all clips; their own where it is None, and heard where they have none.
        on_progress: gets the clips done and in all (None for streams).

    Raises:
        InputError: the source or the model cannot be used, or `dst` is something else than this job's manifest.
    """
    source, path = open_source(src), Path(dst)
    job = {"source": str(src), "model": str(model) if isinstance(model, str | Path) else "", "language": language}
    _refuse_place(path, job)
    hear = whisper(model, device) if isinstance(model, str | Path) else model
    try:
        with _alone(path):
            return _Alignment(path, job, hear, language).run(source, on_progress or _ignore)
    except OSError as error:
        raise InputError(f'"{error.filename or path}" cannot be written: {error.strerror or error}') from error


@dataclass(frozen=True)
class _Alignment:
    """A job under way."""

    path: Path
    job: dict[str, Any]
    hear: Recogniser
    language: str | None

    def run(self, source: Source, on_progress: Callable[[int, int | None], object]) -> Aligned:
        kept = _start(self.path, self.job)
        rows, rejected = list(kept.values()), []
        with self.path.open("a", encoding="utf-8") as file:
            for number, item in enumerate(source, start=1):
                made = _row(item, self.path.parent, self.hear, self.language) if _is_new(item, kept) else item
                if isinstance(made, Rejected):
                    rejected.append(made)
                elif isinstance(made, dict):
                    rows.append(_counts(made))
                    file.write(json.dumps(made, ensure_ascii=False) + "\n")
                    file.flush()
                on_progress(number, source.n_clips)
        return self._report(rows, rejected, len(kept))

    def _report(self, rows: Sequence[tuple[int, int]], rejected: list[Rejected], n_kept: int) -> Aligned:
        n_words, n_matched = sum(row[0] for row in rows), sum(row[1] for row in rows)
        result = Aligned(n_clips=len(rows), n_kept=n_kept, n_words=n_words, n_matched=n_matched, rejected=rejected)
        _write_report(self.path, self.job | asdict(result) | {"matched": result.matched})
        return result


def whisper(model: str | Path, device: str = "cpu") -> Recogniser:
    """A Whisper model of faster-whisper, by name or folder. Raises InputError where it or the library lacks."""
    try:
        import faster_whisper  # type: ignore[import-not-found]  # noqa: PLC0415
    except ImportError as error:
        raise InputError("word times need faster-whisper: pip install 'hocket[eval]'") from error
    is_path = str(model).startswith((".", "/", "~")) or str(model).count("/") > 1
    if is_path and not Path(model).is_dir():
        raise InputError(f'there is no folder "{model}" of a Whisper model; give one converted for faster-whisper')
    kind, _, index = device.partition(":")
    precision = "int8" if kind == "cpu" else "float16"
    try:
        loaded = faster_whisper.WhisperModel(
            str(model), device=kind, device_index=int(index or 0), compute_type=precision, cpu_threads=1
        )
    except (RuntimeError, ValueError, OSError) as error:
        said = " ".join(str(error).split())
        raise InputError(f'"{model}" is no Whisper model that faster-whisper can load: {said}') from error
    return _Whisper(loaded, str(model))


class _Whisper:
    """Words by greedy-as-possible, repeatable decoding: no sampling, no memory of earlier windows."""

    def __init__(self, model: Any, name: str):
        self._model, self._name = model, name

    def __call__(self, wav_T: np.ndarray, language: str | None) -> list[Word]:
        code = language.lower().replace("_", "-").split("-")[0] if language else None
        if code and code not in self._model.supported_languages:
            raise InputError(f'the model "{self._name}" does not know the language "{language}"')
        segments, _ = self._model.transcribe(
            wav_T, language=code, word_timestamps=True, condition_on_previous_text=False, temperature=0.0
        )
        heard = [word for segment in segments for word in segment.words or ()]
        return [Word(text=word.word.strip(), start=word.start, end=word.end) for word in heard if word.word.strip()]


def _row(clip: Clip, folder: Path, hear: Recogniser, language: str | None) -> dict[str, Any] | Rejected:
    """The line of the manifest, or why there is none."""
    try:
        told = {"id": clip.id, "audio": _address(clip, folder), "start": clip.start, "end": clip.end}
        told |= {"duration": clip.seconds if clip.end is None and clip.start is None else None}
        text, words, matched = _hear(clip, hear, language)
    except BadAudio as bad:
        return Rejected(id=clip.id, audio=clip.name, reason=bad.reason)
    except InputError as error:
        return Rejected(id=clip.id, audio=clip.name, reason=str(error))
    told |= {"channel": clip.channel, "text": text, "speaker": clip.speaker, "language": clip.language or language}
    told |= {"split": clip.split, "matched": matched}
    row = {name: value for name, value in told.items() if value is not None}
    return row | {"words": [_word_row(word) for word in words]}


def _hear(clip: Clip, hear: Recogniser, language: str | None) -> tuple[str | None, tuple[Word, ...], float | None]:
    """Text, words and the share of them that was recognised as written."""
    if clip.words:
        return clip.text, clip.words, None
    wav_T = clip.read(RATE).numpy()
    seconds = len(wav_T) / RATE
    heard = hear(wav_T, language or clip.language)
    if not heard:
        raise BadAudio(clip.name, "no word was recognised in it")
    if clip.text is None:
        words = in_order(heard, seconds)
        return join_words(words), words, None
    words, n_words, n_matched = match_words(clip.text, heard, seconds)
    return clip.text, words, round(n_matched / n_words, 4) if n_words else None


def _address(clip: Clip, folder: Path) -> str:
    """The audio as a manifest in `folder` names it."""
    if isinstance(clip.audio, RemoteAudio):
        return clip.audio.url
    if not isinstance(clip.audio, Path):
        why = "it is text without audio" if clip.audio is None else "its audio has no file of its own to name"
        raise BadAudio(clip.name, why)
    path, home = clip.audio.absolute(), folder.absolute()
    return path.relative_to(home).as_posix() if path.is_relative_to(home) else path.as_posix()


def _word_row(word: Word) -> dict[str, Any]:
    row = {"text": word.text, "start": word.start, "end": word.end}
    return row if word.stream == "audio" else row | {"stream": word.stream}


def _counts(row: dict[str, Any]) -> tuple[int, int]:
    """Words and matched words of a line whose clip came with text."""
    if "matched" not in row:
        return 0, 0
    n_words = sum(1 for word in row["words"] if word_key(word["text"]))
    return n_words, round(row["matched"] * n_words)


def _is_new(item: Clip | Rejected, kept: Mapping[str, object]) -> TypeGuard[Clip]:
    return isinstance(item, Clip) and item.id not in kept


def _ignore(*args: object) -> None:
    """What is called where the caller wants to hear nothing."""


def _refuse_place(path: Path, job: dict[str, Any]) -> None:
    """Raise InputError where the manifest cannot be `path`."""
    if path.is_dir():
        raise InputError(f'"{path}" is a folder; the manifest is a file')
    if path.absolute() == Path(job["source"]).absolute() or is_manifest_of(job["source"], path):
        raise InputError(f'"{path}" would take the place of the source "{job["source"]}": choose another name')
    if path.exists():
        _refuse_other(path, path.with_name(path.name + _REPORT_SUFFIX), job)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Be the only job that writes this manifest; a job that was killed holds nothing. Raises InputError, OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    held = path.with_name(f".{path.name}.lock")
    try:
        with FileLock(held, timeout=0):
            try:
                yield
            finally:
                held.unlink(missing_ok=True)
    except Timeout as error:
        raise InputError(f'another job is writing "{path}": wait for its end or choose another name') from error


def _start(path: Path, job: dict[str, Any]) -> dict[str, tuple[int, int]]:
    """The counts of the lines that are there, by id; a torn last line is taken away. Raises InputError."""
    if path.exists():
        return _kept(path)
    _write_report(path, job)
    return {}


def _refuse_other(path: Path, report: Path, job: dict[str, Any]) -> None:
    try:
        made = json.loads(report.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        made = {}
    if differing := [name for name in job if made.get(name, object()) != job[name]]:
        raise InputError(f'"{path}" is there and was not made with this {differing[0]}: choose another name')


def _kept(path: Path) -> dict[str, tuple[int, int]]:
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        os.truncate(path, len(whole))
    try:
        rows = [json.loads(line) for line in whole.splitlines()]
        return {row["id"]: _counts(row) for row in rows}
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f'"{path}" holds a line that is no row of an alignment: delete it to begin anew') from error


def _write_report(path: Path, content: dict[str, Any]) -> None:
    report = path.with_name(path.name + _REPORT_SUFFIX)
    partial = report.with_name(report.name + ".partial")
    partial.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    os.replace(partial, report)
