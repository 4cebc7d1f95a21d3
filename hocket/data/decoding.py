"""Encoded audio in, samples out: whatever the file is, either its samples come or a reason why not.

    clip ──open_audio──▶ Stretch (rate, channels, length by header) ──blocks──▶ wav_CS, a few seconds each

libsndfile decodes (WAV, FLAC, Ogg, Opus, MP3, AIFF and more) by the file's content, whatever its name says; for MP4,
AAC, WebM and WMA see `containers`. A file that ends before its header says is refused, not shortened: its text would
no longer fit. libsndfile itself shortens such files without a word, so its log is read for what the header stated.

Cost: 16-bit FLAC at 22 kHz decodes at about 5,000 times real time on one thread. Memory is one block, unless the whole
is asked for.

Shapes: C channels, S samples.
"""

import io
import math
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
import soundfile

from hocket.codec.audio import UNSTATED
from hocket.data.containers import container, decode_container
from hocket.errors import InputError

END_TOLERANCE = 0.1
"""Seconds by which a clip's `end` may lie behind the end of its file (manifests round), and an MP3's estimated length
behind its last sample."""

MAX_WHOLE_BYTES = 2 << 30
"""Samples that are held as one piece may take this much memory; 9 hours of one channel at 16 kHz."""

MAX_SAMPLE = 1e6
"""Full scale is 1; floats beyond this are no audio, and their squares and sums would overflow."""

BLOCK_SECONDS = 10.0

_UNSTATED_BYTES = 0x7FF00000
"""Programs that write WAV into a pipe state a size of about 2 or 4 GiB, which means none."""

_LOGGED_SIZE = re.compile(r"(?:data|Data Size|SSND|Riff size|riff)\s*: (\d+) \(should be (\d+)\)")
_TAG_BYTES = 4096
_TAG_MARKS = (b"APETAGEX", b"LYRICS", b"TAG")
"""An MP3 may end with tags; if it goes on for longer without one, there is more sound."""

_LOGGED_NO_END = re.compile("Last page lacks an end-of-stream bit|Junk after the last page")


class BadAudio(InputError):
    """One clip whose audio cannot be used: `name` says which one, `reason` why."""

    def __init__(self, name: str, reason: str):
        super().__init__(f'"{name}" cannot be used: {reason}')
        self.name, self.reason = name, reason


class AudioSource(Protocol):
    """Where encoded audio comes from, other than a path on this machine; it is pickled on its way to a worker."""

    def file(self) -> Path | BinaryIO | None:
        """The encoded audio, or None where there is none. Raises OSError where it cannot be had."""
        ...


class Recorded(Protocol):
    """What is known about where a clip's samples lie; `hocket.data.clips.Clip` describes the fields."""

    @property
    def name(self) -> str: ...
    @property
    def audio(self) -> Path | AudioSource | None: ...
    @property
    def start(self) -> float | None: ...
    @property
    def end(self) -> float | None: ...
    @property
    def channel(self) -> int | None: ...


class Stretch:
    """The samples of one clip while its file is open, to be read in blocks and as often as one likes."""

    def __init__(self, name: str, sample_rate: int, n_channels: int, n_samples: int):
        self.name = name
        self.sample_rate = sample_rate  # Hz
        self.n_channels = n_channels
        self.n_samples = n_samples  # of each channel, by the header
        self.seconds = n_samples / sample_rate

    def blocks(self, first: int = 0, last: int | None = None) -> Iterator[np.ndarray]:
        """`wav_CS` float32 of about ten seconds each, between two samples of the clip.

        Raises BadAudio where the file ends too early, is damaged, or holds NaN or infinity.
        """
        last = self.n_samples if last is None else min(last, self.n_samples)
        size = max(1, round(BLOCK_SECONDS * self.sample_rate))
        for position in range(first, last, size):
            wav_CS = self._read(position, min(position + size, last))
            if not (np.abs(wav_CS) <= MAX_SAMPLE).all():
                finite = np.isfinite(wav_CS).all()
                what = f"beyond {MAX_SAMPLE:,.0f}" if finite else "that are not finite (NaN or infinity)"
                raise BadAudio(self.name, f"it holds samples {what}")
            if wav_CS.shape[1]:
                yield wav_CS

    def whole(self, first: int = 0, last: int | None = None) -> np.ndarray:
        """`wav_CS` float32 in one piece. Raises BadAudio as `blocks` does, and where the piece is too large to hold."""
        last = self.n_samples if last is None else min(last, self.n_samples)
        self.check_size(self.n_channels, last - first)
        blocks = list(self.blocks(first, last))
        if not blocks:
            raise BadAudio(self.name, "it holds no samples")
        return blocks[0] if len(blocks) == 1 else np.concatenate(blocks, axis=1)

    def held(self) -> "Stretch":
        """The same samples, read once and kept."""
        return _HeldStretch(self.name, self.whole(), self.sample_rate)

    def check_size(self, n_channels: int, n_samples: int) -> None:
        """Raise BadAudio for more samples than are held as one piece."""
        n_bytes = 4 * n_channels * n_samples
        if n_bytes > MAX_WHOLE_BYTES:
            hours = n_samples / self.sample_rate / 3600
            reason = f"{hours:.1f} h of it in one piece take {n_bytes / 2**30:.1f} GiB of memory"
            raise BadAudio(self.name, f"{reason} and {MAX_WHOLE_BYTES / 2**30:g} are allowed; cut it (cut_seconds)")

    def _read(self, first: int, last: int) -> np.ndarray:
        raise NotImplementedError


class _FileStretch(Stretch):
    """Read by libsndfile, a block at a time."""

    def __init__(self, clip: Recorded, file: soundfile.SoundFile, raw: BinaryIO):
        self._file, self._raw = file, raw
        self._position = 0  # the sample of the file that is read next
        self._first, end = _span(clip, file)
        self._to_the_end = clip.end is None
        self._channels = slice(None) if clip.channel is None else slice(clip.channel, clip.channel + 1)
        _check_channel(clip, file.channels)
        n_channels = file.channels if clip.channel is None else 1
        super().__init__(clip.name, file.samplerate, n_channels, end - self._first)

    def _read(self, first: int, last: int) -> np.ndarray:
        self._seek(self._first + first)
        try:
            wav_SC = self._file.read(last - first, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise self._truncated(self._readable(first, last)) from error
        self._position += len(wav_SC)
        missing = last - first - len(wav_SC)
        if missing > (END_TOLERANCE * self.sample_rate if self._file.format == "MP3" else 0):
            raise self._truncated(first + len(wav_SC))
        if self._to_the_end and last == self.n_samples and self._file.format == "MP3":
            self._check_all_read()
        return wav_SC.T[self._channels]

    def _seek(self, position: int) -> None:
        """Go to a sample of the file, unless reading has led there: some formats cannot seek."""
        if position == self._position:
            return
        try:
            self._position = self._file.seek(position)
        except soundfile.LibsndfileError as error:
            reason = error.error_string.strip().rstrip(".")
            raise BadAudio(self.name, f"it cannot be read from its middle (libsndfile: {reason})") from error

    def _check_all_read(self) -> None:
        """Refuse an MP3 of variable bit rate whose length libsndfile estimated too short, for want of a Xing header."""
        position = self._raw.tell()
        rest = self._raw.read(_TAG_BYTES)
        self._raw.seek(position)
        if len(rest) == _TAG_BYTES and not any(mark in rest for mark in _TAG_MARKS):
            reason = f"states no length (variable bit rate without a Xing header); {self.seconds:.3f} s were expected"
            raise BadAudio(self.name, f"the MP3 {reason} and more follow; encode it again")

    def _readable(self, first: int, last: int) -> int:
        """Samples of the clip that come before the damage in a block, found with smaller and smaller reads."""
        while last - first > max(1, self.sample_rate // 100):
            middle = (first + last) // 2
            try:
                self._file.seek(self._first + first)
                self._file.read(middle - first, dtype="float32")
                first = middle
            except soundfile.LibsndfileError:
                last = middle
        return first

    def _truncated(self, n_readable: int) -> BadAudio:
        readable = (self._first + n_readable) / self.sample_rate
        stated = self._file.frames / self.sample_rate
        return BadAudio(self.name, f"truncated: header says {stated:.3f} s, {readable:.3f} s could be read")


class _HeldStretch(Stretch):
    """Decoded already."""

    def __init__(self, name: str, wav_CS: np.ndarray, sample_rate: int):
        self._wav_CS = wav_CS
        super().__init__(name, sample_rate, *wav_CS.shape)

    def _read(self, first: int, last: int) -> np.ndarray:
        return self._wav_CS[:, first:last]


def probe(clip: Recorded) -> float:
    """Seconds of audio by the file's header alone. Raises BadAudio."""
    with open_audio(clip) as stretch:
        return stretch.seconds


def decode(clip: Recorded) -> tuple[np.ndarray, int]:
    """`wav_CS` float32, all channels or the one that the clip names, and its rate in Hz. Raises BadAudio."""
    with open_audio(clip) as stretch:
        return stretch.whole(), stretch.sample_rate


@contextmanager
def open_audio(clip: Recorded) -> Iterator[Stretch]:
    """A clip's samples, to be read while the context lasts. Raises BadAudio, and nothing else, whatever the file is."""
    if not all(math.isfinite(time) for time in (clip.start or 0.0, clip.end or 0.0)):
        raise BadAudio(clip.name, f"its start and end are {clip.start} and {clip.end}; give seconds")
    with _bytes_of(clip) as (raw, path):
        head = raw.read(16)
        if not head:
            raise BadAudio(clip.name, "the file is empty (0 bytes)")
        raw.seek(0)
        try:
            file = soundfile.SoundFile(raw.fileno() if path else raw, closefd=False)
        except soundfile.LibsndfileError as error:
            yield _contained(clip, path or raw, head, error)
            return
        with file:
            yield _FileStretch(clip, file, raw)


@contextmanager
def _bytes_of(clip: Recorded) -> Iterator[tuple[BinaryIO, Path | None]]:
    """The encoded bytes, open, and the file's path where they lie in one."""
    if clip.audio is None:
        raise BadAudio(clip.name, "it is text without audio")
    try:
        source = clip.audio if isinstance(clip.audio, Path) else clip.audio.file()
    except (OSError, ImportError, ValueError) as error:
        raise BadAudio(clip.name, f"its audio cannot be fetched ({_first_line(error)})") from error
    if source is None:
        raise BadAudio(clip.name, "its row holds neither audio bytes nor a path")
    if not isinstance(source, Path):
        yield source, None
        return
    _check_regular(clip, source)
    try:
        raw = source.open("rb", buffering=0)
    except OSError as error:
        raise BadAudio(clip.name, f"it cannot be opened ({error.strerror})") from error
    with raw:
        yield raw, source


def _check_regular(clip: Recorded, path: Path) -> None:
    """Refuse what is no file before it is opened: opening a named pipe waits for somebody to write into it."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        gone = f'it is a link to "{path.readlink()}", which is not there' if path.is_symlink() else ""
        raise BadAudio(clip.name, gone or f"there is no file {path}") from error
    except (OSError, ValueError) as error:
        raise BadAudio(clip.name, f"it cannot be opened ({_first_line(error)})") from error
    if stat.S_ISDIR(mode):
        raise BadAudio(clip.name, "it is a folder, not a file")
    if not stat.S_ISREG(mode):
        raise BadAudio(clip.name, "it is a pipe, a socket or a device, not a file")


def _first_line(error: Exception) -> str:
    strerror = getattr(error, "strerror", None)
    return strerror or (str(error).strip() or type(error).__name__).splitlines()[0]


def _contained(clip: Recorded, file: Path | BinaryIO, head: bytes, error: soundfile.LibsndfileError) -> Stretch:
    """The samples of what libsndfile does not read, if torchcodec does."""
    kind = container(head)
    if kind is None:
        reason = error.error_string.strip().rstrip(".")
        raise BadAudio(clip.name, f"it is not audio that can be read (libsndfile: {reason})") from error
    if isinstance(file, io.IOBase):
        file.seek(0)
    try:
        wav_CS, sample_rate = decode_container(file, clip.start or 0.0, clip.end)
    except ValueError as why:
        raise BadAudio(clip.name, f"it is {kind}: {why}") from why
    _check_channel(clip, len(wav_CS))
    if not wav_CS.shape[1]:
        raise BadAudio(clip.name, "it holds no samples")
    seconds = (clip.start or 0.0) + wav_CS.shape[1] / sample_rate
    if clip.end is not None and clip.end > seconds + END_TOLERANCE:
        raise BadAudio(clip.name, _outside(clip, seconds))
    return _HeldStretch(clip.name, wav_CS if clip.channel is None else wav_CS[clip.channel][None], sample_rate)


def _check_channel(clip: Recorded, n_channels: int) -> None:
    if clip.channel is not None and not 0 <= clip.channel < n_channels:
        raise BadAudio(clip.name, f"channel {clip.channel} is asked for (from 0 on) and it has {n_channels}")


def _span(clip: Recorded, file: soundfile.SoundFile) -> tuple[int, int]:
    """First and last sample (exclusive) of the clip at the file's own rate."""
    rate, total = file.samplerate, file.frames
    if total >= UNSTATED:
        raise BadAudio(clip.name, "its header states no length; encode it again to a file")
    first = round((clip.start or 0.0) * rate)
    last = total if clip.end is None else round(clip.end * rate)
    if clip.end is None or last > total:
        _check_complete(clip, file)
    if total == 0:
        raise BadAudio(clip.name, "it holds no samples")
    if not 0 <= first < total or not first < last <= total + END_TOLERANCE * rate:
        raise BadAudio(clip.name, _outside(clip, total / rate))
    return first, min(last, total)


def _outside(clip: Recorded, seconds: float) -> str:
    wanted = f"start {clip.start or 0:g} s" + ("" if clip.end is None else f", end {clip.end:g} s")
    return f"the clip ({wanted}) lies outside its file of {seconds:.3f} s"


def _check_complete(clip: Recorded, file: soundfile.SoundFile) -> None:
    """Refuse a file that libsndfile found shorter than its header states."""
    log, seconds = file.extra_info, file.frames / file.samplerate
    for stated, there in _LOGGED_SIZE.findall(log):
        if int(there) < int(stated) and not _UNSTATED_BYTES <= int(stated) < 1 << 32:
            whole = seconds * int(stated) / max(int(there), 1)
            raise BadAudio(clip.name, f"truncated: header says {whole:.3f} s, {seconds:.3f} s could be read")
    if _LOGGED_NO_END.search(log):
        raise BadAudio(
            clip.name, f"truncated: its last Ogg page is torn or not marked as the end, after {seconds:.3f} s"
        )
