"""From recordings to the streams that a model scores: its own codec's codes, units by theirs, texts as they are told.

    clip.wav ──codec of "audio"────▶ audio     [T, 8]
             ──codec of "semantic"─▶ semantic  [U, 1]     ──▶ a corpus in the cache folder, scored like any other
    manifest ───────────────────────▶ text

Codes are kept by the content of the file and the codec's fingerprint, so that a file is encoded once, whatever it is
called and whichever model asks, and a job that was killed goes on where it was. They are those that `hocket tokenize`
makes of the same file. Encoding by the bundled codec takes some 10 ms a second of audio on one core, reading from the
cache nothing beside it.

Shapes: T, U frames, K levels.
"""

import hashlib
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hocket.codec import Codec, load_codec
from hocket.data import Clip, Corpus, read_clips
from hocket.data.places import cache_folder
from hocket.data.shards import Row
from hocket.data.tokenizing.encoding import encode_waves
from hocket.data.tokenizing.workspace import Job, Workspace
from hocket.errors import InputError
from hocket.evaluation.likelihood.scorer import Progress
from hocket.evaluation.likelihood.summary import score_corpus
from hocket.evaluation.results import Likelihood
from hocket.model import Model
from hocket.vocab import ALIGNED_TEXT, TEXT

BATCH_SECONDS = 60.0
READ = 256  # recordings that are in memory at once, at most


def find_codecs(model: Model, sources: Mapping[str, str] | None = None) -> dict[str, Codec]:
    """The codec of each stream of codes of a model's layout.

    Args:
        sources: by stream, where its codec lies, for those that the model cannot name (units).

    Raises:
        InputError: a stream comes from no codec, or from another speaker or channel than what is to be scored.
    """
    sources = dict(sources or {})
    wanted = [name for name in model.layout.streams if name not in (TEXT, ALIGNED_TEXT)]
    for name in sources:
        if name not in wanted:
            raise InputError(f'{model.layout} has no stream "{name}" to name a codec for (it has {", ".join(wanted)})')
    return {name: _find_codec(model, name, sources.get(name)) for name in wanted}


def _find_codec(model: Model, stream: str, source: str | None) -> Codec:
    fingerprint = model.vocabulary.codecs.get(stream)
    if source is None and stream == model.main_stream:
        return model.codec
    if source is None:
        known = model.codec_identities.get(stream)
        if known == model.codec_identity:
            raise InputError(
                f'{model.layout} needs "{stream}", the codes of another speaker or channel, which a recording of one '
                "channel does not have: score a corpus that holds them instead"
            )
        named = f' ("{known.name}", fingerprint {known.fingerprint})' if known else ""
        raise InputError(
            f'{model.layout} needs "{stream}", whose codec{named} the checkpoint cannot find: say where it lies with '
            f"{stream}=FOLDER"
        )
    codec = load_codec(source, levels=model.layout.streams[stream])
    if fingerprint and codec.identity.fingerprint != fingerprint:
        raise InputError(
            f'"{stream}" was learned as codes with fingerprint {fingerprint}; those of "{source}" have '
            f"{codec.identity.fingerprint}"
        )
    return codec


class CodeCache:
    """Codes of recordings by their content, on disk.

    Args:
        folder: the cache; the folder `codes` of hocket's cache unless given.
    """

    def __init__(self, folder: Path | None = None):
        self.folder = folder or cache_folder() / "codes"

    def codes(
        self, clips: Mapping[str, Clip], codec: Codec, on_progress: Progress | None = None
    ) -> dict[str, np.ndarray]:
        """Codes `[T, K]` of clips, both by `content_hash`; what is not in the cache is encoded.

        Raises:
            InputError: a recording cannot be read; the sentence names it.
        """
        todo = [name for name in clips if not self._path(codec, name).is_file()]
        for first in range(0, len(todo), READ):
            some = todo[first : first + READ]
            self._encode({name: clips[name] for name in some}, codec)
            if on_progress:
                on_progress(first + len(some), len(todo))
        return {name: np.load(self._path(codec, name)) for name in clips}

    def _encode(self, clips: Mapping[str, Clip], codec: Codec) -> None:
        waves = {name: clip.read(codec.input_rate).numpy() for name, clip in clips.items()}
        batch: list[str] = []
        for name in sorted(waves, key=lambda name: -len(waves[name])):
            if batch and (len(batch) + 1) * len(waves[batch[0]]) > BATCH_SECONDS * codec.input_rate:
                self._write(batch, waves, codec)
                batch = []
            batch.append(name)
        self._write(batch, waves, codec)

    def _write(self, names: Sequence[str], waves: Mapping[str, np.ndarray], codec: Codec) -> None:
        for name, codes_TK in zip(names, encode_waves(codec, [waves[name] for name in names]), strict=True):
            path = self._path(codec, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            aside = path.with_name(f".{path.stem}.{os.getpid()}.npy")
            np.save(aside, codes_TK)
            aside.replace(path)

    def _path(self, codec: Codec, name: str) -> Path:
        return self.folder / codec.identity.fingerprint[:16] / name[:2] / f"{name}.npy"


def content_hash(clip: Clip) -> str:
    """Of the bytes of a clip's audio, and of which stretch and channel of them it is. InputError without audio."""
    if clip.audio is None:
        raise InputError(f'"{clip.id}" is text alone: there is no sound to score')
    if isinstance(clip.audio, Path):
        content = clip.audio.read_bytes()
    else:
        file = clip.audio.file()
        content = file.read_bytes() if isinstance(file, Path) else file.read() if file else b""
    return hashlib.sha256(content + f"{clip.start} {clip.end} {clip.channel}".encode()).hexdigest()[:32]


def check_files(clips: Iterable[Clip]) -> None:
    """InputError, with the first and how many, where files are missing."""
    files = [clip.audio for clip in clips if isinstance(clip.audio, Path)]
    missing = [path for path in files if not path.is_file()]
    if missing:
        raise InputError(f'{len(missing)} of {len(files)} recordings are missing, "{missing[0]}" first')


def make_corpus(
    model: Model,
    clips: Sequence[Clip],
    *,
    codecs: Mapping[str, str] | None = None,
    cache: Path | None = None,
    on_progress: Progress | None = None,
) -> Corpus:
    """Clips as a corpus of the streams that a model needs, in the cache folder: made once, mapped from then on.

    Args:
        codecs: by stream, where its codec lies, for those that the model cannot name.
        cache: folder of codes; hocket's own unless given.

    Raises:
        InputError: a file is missing or cannot be read, a stream cannot be had, or the layout has a text that a clip
            lacks.
    """
    check_files(clips)
    _check_texts(model, clips)
    held, found = CodeCache(cache), find_codecs(model, codecs)
    hashes = [content_hash(clip) for clip in clips]
    by_hash = dict(zip(hashes, clips, strict=True))
    codes = {name: held.codes(by_hash, codec, on_progress) for name, codec in found.items()}
    rates = {name: float(codec.frame_rate) for name, codec in found.items()}
    rows = []
    for clip, key in zip(clips, hashes, strict=True):
        streams = {name: codes[name][key] for name in found}
        seconds = max(len(codes_TK) / rates[name] for name, codes_TK in streams.items())
        rows.append(_row(clip, streams, seconds))
    job = Job(
        streams={name: codec.identity for name, codec in found.items()},
        source="recordings to be scored",
        source_fingerprint=_fingerprint(clips, hashes),
        settings={},
    )
    return _write(held.folder / "corpora", job, rows)


def score_audio(
    model: Model,
    source: str | Path | Sequence[Path],
    *,
    codecs: Mapping[str, str] | None = None,
    cache: Path | None = None,
    name: str | None = None,
    split: str = "all",
    **more: Any,
) -> Likelihood:
    """What a model needs to name recordings.

    Args:
        source: files, or whatever `hocket tokenize` reads: a folder, a manifest, a data set.
        codecs, cache: as `make_corpus`.
        more: as `score_corpus`.

    Raises:
        InputError: as `make_corpus` and `score_corpus`.
    """
    if isinstance(source, str | Path):
        clips, label = read_clips(source), str(source)
    else:
        clips = [Clip(id=str(path), name=str(path), audio=Path(path)) for path in source]
        label = f"{len(clips)} files"
    corpus = make_corpus(model, clips, codecs=codecs, cache=cache)
    return score_corpus(model, corpus, name=name or label, split=split, **more)


def _check_texts(model: Model, clips: Sequence[Clip]) -> None:
    if not clips:
        raise InputError("there are no recordings to score")
    if not {TEXT, ALIGNED_TEXT} & set(model.layout.streams):
        return
    without = [clip.name for clip in clips if not clip.text]
    if without:
        raise InputError(
            f"{model.layout} needs the text of each recording, which {len(without)} of {len(clips)} do not have, "
            f'"{without[0]}" first: score a manifest with texts, or a model of audio alone'
        )


def _row(clip: Clip, streams: Mapping[str, np.ndarray], seconds: float) -> Row:
    return Row(
        id=clip.id,
        streams=streams,
        text=clip.text,
        words=clip.words,
        speaker=clip.speaker,
        language=clip.language,
        split="valid",
        recording=clip.id,
        duration=seconds,
        audio=clip.name,
    )


def _fingerprint(clips: Sequence[Clip], hashes: Sequence[str]) -> str:
    told = [(clip.id, clip.text, clip.words, key) for clip, key in zip(clips, hashes, strict=True)]
    return hashlib.sha256(repr(told).encode()).hexdigest()


def _write(folder: Path, job: Job, rows: Sequence[Row]) -> Corpus:
    """The corpus of a job, written aside and renamed where there is none yet."""
    streams = "".join(f"{name}{codec.fingerprint}" for name, codec in job.streams.items())
    made = folder / hashlib.sha256(f"{job.source_fingerprint}{streams}".encode()).hexdigest()[:24]
    if not (made / "corpus.json").is_file():
        aside = made.with_name(f".{made.name}.{os.getpid()}")
        shutil.rmtree(aside, ignore_errors=True)
        work = Workspace(aside, job)
        work.start()
        work.commit(0, rows, [], n_clips=len(rows), clips_hash=job.source_fingerprint)
        work.finish()
        work.close()
        if not (made / "corpus.json").is_file():
            aside.rename(made)
    return Corpus.open(made)
