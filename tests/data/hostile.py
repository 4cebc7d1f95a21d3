"""Files that no program should be given, and good ones that look like them: each with what should become of it.

`CASES` has a name, a file name, how the file is made, and "ok" or a pattern that the reason must match.

Shapes: S samples, C channels.
"""

import gzip
import io
import os
import socket
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

RATE = 16000
NOT_AUDIO = r"not audio that can be read \(libsndfile: "
TRUNCATED = r"^truncated: header says \d+\.\d+ s, \d+\.\d+ s could be read$"
NO_END = "^truncated: its last Ogg page is torn or not marked as the end"
SILENT = "^it is silent: every sample is zero$"
NOT_FINITE = r"^it holds samples that are not finite \(NaN or infinity\)$"
EMPTY = r"^the file is empty \(0 bytes\)$"
NO_SAMPLES = "^it holds no samples$"
NO_TORCHCODEC = "torchcodec"

SUFFIXES = ("wav", "flac", "ogg", "oga", "opus", "mp3", "aiff", "aif", "aifc", "au", "caf", "w64", "rf64",
            "m4a", "aac", "mp4", "wma", "webm")  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One hostile file."""

    name: str
    file: str | bytes
    make: bytes | Callable[[Path], object]
    expect: str

    def write(self, folder: Path) -> Path:
        path = Path(os.fsdecode(os.path.join(os.fsencode(folder), os.fsencode(self.file))))
        if isinstance(self.make, bytes):
            path.write_bytes(self.make)
        else:
            self.make(path)
        return path


def noise(seconds: float = 0.5, channels: int = 1, rate: int = RATE) -> np.ndarray:
    return 0.1 * np.random.default_rng(0).standard_normal((round(seconds * rate), channels)).clip(-3, 3)


def encoded(
    wav_SC: np.ndarray | None = None, rate: int = RATE, format: str = "WAV", subtype: str | None = None
) -> bytes:
    """Audio as a file's bytes."""
    file = io.BytesIO()
    soundfile.write(file, noise() if wav_SC is None else wav_SC, rate, format=format, subtype=subtype)
    return file.getvalue()


def chunk(name: bytes, content: bytes, size: int | None = None) -> bytes:
    return name + struct.pack("<I", len(content) if size is None else size) + content + b"\0" * (len(content) % 2)


def riff(*chunks: bytes, size: int | None = None) -> bytes:
    content = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(content) if size is None else size) + content


def fmt(channels: int = 1, rate: int = RATE, bits: int = 16, kind: int = 1) -> bytes:
    align = channels * bits // 8
    return chunk(
        b"fmt ", struct.pack("<HHIIHH", kind, channels % 65536, rate, rate * align % 2**32, align % 65536, bits)
    )


def data(size: int | None = None, n_samples: int = RATE // 2) -> bytes:
    pcm = (noise(n_samples / RATE)[:, 0] * 32767).astype("<i2").tobytes()
    return chunk(b"data", pcm, size)


def with_samples(*values: float) -> bytes:
    """Noise with a few samples in its middle replaced, as 32-bit floats."""
    wav_SC = noise()
    wav_SC[100 : 100 + len(values), 0] = values
    return encoded(wav_SC, subtype="FLOAT")


def flac_with_length(n_samples: int) -> bytes:
    """A FLAC whose header states another number of samples."""
    content = bytearray(encoded(format="FLAC"))
    stated = int.from_bytes(content[18:26], "big") >> 36 << 36 | n_samples
    content[18:26] = stated.to_bytes(8, "big")
    return bytes(content)


def mp3_without_length() -> bytes:
    """An MP3 of variable bit rate without its first frame, the Xing header; loud at first, so that it seems short."""
    wav_SC = noise(8.0) * np.where(np.arange(8 * RATE) < RATE // 2, 1.0, 1e-3)[:, None]
    file = io.BytesIO()
    soundfile.write(file, wav_SC, RATE, format="MP3", bitrate_mode="VARIABLE", compression_level=0.3)
    content = file.getvalue()
    assert b"Xing" in content[:50]
    return content[content.index(content[:2], 4) :]


def damaged(content: bytes, share: float = 0.5, n_bytes: int = 200) -> bytes:
    """Bytes in the middle replaced."""
    at = int(len(content) * share)
    return content[:at] + np.random.default_rng(1).bytes(n_bytes) + content[at + n_bytes :]


def cut(content: bytes, share: float) -> bytes:
    return content[: int(len(content) * share)]


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.wav", encoded())
    return file.getvalue()


def listen(path: Path) -> None:
    """A Unix socket; its path must be short, so it is bound from its folder."""
    here = os.getcwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.chdir(here)


def loop(path: Path) -> None:
    other = path.with_name("loop-back.link")
    path.symlink_to(other)
    other.symlink_to(path)


def unreadable(path: Path) -> None:
    path.write_bytes(encoded())
    path.chmod(0)


def good() -> Iterator[Case]:
    for subtype in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW", "IMA_ADPCM", "MS_ADPCM",
                    "GSM610"):  # fmt: skip
        rate = 8000 if subtype == "GSM610" else RATE
        yield Case(f"wav {subtype}", f"{subtype}.wav", encoded(noise(rate=rate), rate, subtype=subtype), "ok")
    for rate in (100, 4000, 11025, 44100, 96000, 192000):
        yield Case(f"{rate} Hz", f"rate{rate}.wav", encoded(noise(rate=rate), rate), "ok")
    for n in (2, 6, 16):
        yield Case(f"{n} channels", f"channels{n}.wav", encoded(noise(channels=n)), "ok")
    for suffix, format, subtype in (
        ("flac", "FLAC", "PCM_16"), ("24.flac", "FLAC", "PCM_24"), ("ogg", "OGG", "VORBIS"), ("opus", "OGG", "OPUS"),
        ("mp3", "MP3", None), ("aiff", "AIFF", None), ("au", "AU", None), ("caf", "CAF", None), ("w64", "W64", None),
        ("rf64", "RF64", None),
    ):  # fmt: skip
        yield Case(f"good {suffix}", f"good.{suffix}", encoded(format=format, subtype=subtype), "ok")
    for format, suffix in (("FLAC", "wav"), ("MP3", "flac"), ("WAV", "mp3"), ("OGG", "opus"), ("WAV", "m4a"),
                           ("AIFF", "ogg"), ("FLAC", "aac")):  # fmt: skip
        yield Case(f"{format} called .{suffix}", f"really-{format}.{suffix}", encoded(format=format), "ok")
    for name in ("żółć 声音.wav", "a b  c.wav", "new\nline.wav", "tab\there.wav", "it's \"quoted\".wav", "100%20#?.wav",
                 "-rf.wav", "UPPER.WAV", "two.dots.wav", "[a]*{b}.wav", "e\u0301.wav", "\u202eleft.wav",
                 "x" * 250 + ".wav", b"\xff\xfe.wav"):  # fmt: skip
        yield Case(f"name {os.fsencode(name)[:20]!r}", name, encoded(), "ok")


def odd_but_good() -> Iterator[Case]:
    samples = encoded()
    yield Case("size of a stream", "size-ffffffff.wav", riff(fmt(), data(0xFFFFFFFF), size=0xFFFFFFFF), "ok")
    yield Case("size of sox's stream", "size-7ffff000.wav", riff(fmt(), data(0x7FFFF000), size=0x7FFFF024), "ok")
    yield Case("wrong size of RIFF", "riff-size.wav", riff(fmt(), data(), size=7), "ok")
    yield Case("size too small", "size-small.wav", riff(fmt(), data(8000)), "ok")
    yield Case(
        "chunk before fmt", "list-first.wav", riff(chunk(b"LIST", b"INFOISFT\4\0\0\0hi\0\0"), fmt(), data()), "ok"
    )
    yield Case("chunk after data", "junk-last.wav", riff(fmt(), data(), chunk(b"junk", b"x" * 99)), "ok")
    yield Case("unknown chunks", "unknown.wav", riff(fmt(), chunk(b"zzzz", b"?" * 9), data()), "ok")
    yield Case("text behind wav", "appended.wav", samples + b"and more", "ok")
    yield Case("ID3 before mp3", "id3.mp3", b"ID3\3\0\0\0\0\0\x0a" + b"\0" * 10 + encoded(format="MP3"), "ok")
    yield Case("ID3v1 behind mp3", "id3v1.mp3", encoded(format="MP3") + b"TAG" + b"x" * 125, "ok")
    yield Case("constant", "dc.wav", encoded(np.full(8000, 0.5)), "ok")
    yield Case("clipped", "clipped.wav", encoded(np.sign(noise())), "ok")
    yield Case("barely audible", "tiny.wav", encoded(noise() * 1e-30, subtype="FLOAT"), "ok")
    yield Case("beyond full scale", "loud.wav", encoded(noise() * 1e4, subtype="FLOAT"), "ok")
    yield Case("one sample in silence", "click.wav", encoded(np.eye(8000)[4000]), "ok")
    yield Case("the same once", "same1.wav", samples, "ok")
    yield Case("the same twice", "same2.wav", samples, "ok")
    yield Case("a link", "link.wav", lambda path: (path.parent / "target.bin").write_bytes(samples) and
               path.symlink_to("target.bin"), "ok")  # fmt: skip


def truncated() -> Iterator[Case]:
    for share in (0.02, 0.1, 0.5, 0.9, 0.999):
        yield Case(f"FLAC cut at {share}", f"cut{share}.flac", cut(encoded(noise(2), format="FLAC"), share), TRUNCATED)
    for share in (0.05, 0.5, 0.9, 0.999):
        yield Case(f"WAV cut at {share}", f"cut{share}.wav", cut(encoded(), share), TRUNCATED)
    for suffix in ("aiff", "au", "w64", "rf64"):
        yield Case(f"{suffix} cut", f"cut.{suffix}", cut(encoded(format=suffix.upper()), 0.5), TRUNCATED)
    for share in (0.5, 0.9):
        yield Case(f"MP3 cut at {share}", f"cut{share}.mp3", cut(encoded(noise(3), format="MP3"), share), TRUNCATED)
        yield Case(f"Ogg cut at {share}", f"cut{share}.ogg", cut(encoded(noise(3), format="OGG"), share), NO_END)
        opus = encoded(noise(3), format="OGG", subtype="OPUS")
        yield Case(f"Opus cut at {share}", f"cut{share}.opus", cut(opus, share), NO_END)
    for suffix, share in (("flac", 0.001), ("mp3", 0.002), ("ogg", 0.01), ("caf", 0.5), ("wav", 0.001)):
        yield Case(
            f"{suffix} cut in its header", f"stub.{suffix}", cut(encoded(format=suffix.upper()), share), NOT_AUDIO
        )
    yield Case("header alone", "header-only.wav", riff(fmt(), data(n_samples=0)), NO_SAMPLES)
    yield Case("header that promises", "promise.wav", riff(fmt(), data(size=16000, n_samples=0)), TRUNCATED)
    yield Case("damaged FLAC", "damaged.flac", damaged(encoded(noise(2), format="FLAC")), "^truncated")
    yield Case("FLAC that states nothing", "unstated.flac", flac_with_length(0), "states no length")
    yield Case("MP3 that states nothing", "unstated.mp3", mp3_without_length(), "^the MP3 states no length")
    yield Case("FLAC that states 2^35", "huge.flac", flac_with_length(1 << 35), "in one piece take")
    yield Case("FLAC that states 10 s", "ten.flac", flac_with_length(10 * RATE), TRUNCATED)


def samples() -> Iterator[Case]:
    yield Case("one NaN", "nan.wav", with_samples(np.nan), NOT_FINITE)
    yield Case("infinity", "inf.wav", with_samples(np.inf), NOT_FINITE)
    yield Case("minus infinity", "minus-inf.wav", with_samples(-np.inf), NOT_FINITE)
    yield Case("all NaN", "all-nan.wav", encoded(np.full(8000, np.nan), subtype="DOUBLE"), NOT_FINITE)
    yield Case("NaN at the end", "last-nan.wav", encoded(np.append(noise(), np.nan), subtype="FLOAT"), NOT_FINITE)
    yield Case("far too large", "1e30.wav", with_samples(1e30), "^it holds samples beyond 1,000,000$")
    yield Case("silence", "silence.wav", encoded(np.zeros(8000)), SILENT)
    yield Case("silent FLAC", "silence.flac", encoded(np.zeros(8000), format="FLAC"), SILENT)
    yield Case("silence in stereo", "silence2.wav", encoded(np.zeros((8000, 2))), SILENT)
    yield Case("one sample", "one.wav", encoded(np.ones(1)), "^it is too short: it lasts 0.0625 ms and at least 20 ms")
    yield Case("no sample", "none.wav", encoded(np.zeros(0)), NO_SAMPLES)
    yield Case("no sample in FLAC", "none.flac", encoded(np.zeros(0), format="FLAC"), f"{EMPTY}|{NO_SAMPLES}")
    yield Case("10 ms", "short.flac", encoded(noise(0.01), format="FLAC"), "^it is too short: it lasts 10 ms")


def not_audio() -> Iterator[Case]:
    for suffix in SUFFIXES:
        yield Case(f"random .{suffix}", f"random.{suffix}", np.random.default_rng(5).bytes(5000), NOT_AUDIO)
    for suffix in ("wav", "flac", "ogg", "mp3", "m4a"):
        yield Case(f"empty .{suffix}", f"empty.{suffix}", b"", EMPTY)
        yield Case(f"zeros .{suffix}", f"zeros.{suffix}", bytes(5000), NOT_AUDIO)
    image = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", bytes(13)) + zlib.compress(bytes(99))
    for name, content in {
        "text.wav": b"I am no sound.\n" * 99, "page.mp3": b"<!DOCTYPE html><html><title>404</title></html>" * 9,
        "wav.gz.wav": gzip.compress(encoded(), mtime=0), "zip.ogg": zipped(), "png.flac": image,
        "pdf.mp3": b"%PDF-1.7\n" + bytes(999), "utf16.wav": "I am no sound.".encode("utf-16"),
        "elf.au": b"\x7fELF" + bytes(99), "json.wav": b'{"error": "not found"}', "one-byte.wav": b"R",
        "RIFF.wav": b"RIFF", "RIFX.wav": b"RIFX" + bytes(40),
        "avi.wav": b"RIFF" + struct.pack("<I", 40) + b"AVI " + bytes(40), "fLaC.flac": b"fLaC",
        "OggS.ogg": b"OggS",
        "id3-only.mp3": b"ID3\4\0\0\0\0\x10\0" + np.random.default_rng(7).bytes(4000), "ff.mp3": b"\xff" * 5000,
        "snd.au": b".snd" + bytes(20),
        "lfs.flac": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
    }.items():  # fmt: skip
        yield Case(f"not audio: {name}", name, content, NOT_AUDIO)
    for name, head in (("mp4.m4a", b"\0\0\0\x20ftypM4A "), ("webm.webm", b"\x1aE\xdf\xa3"),
                       ("adts.aac", b"\xff\xf1P\x80"), ("asf.wma", b"0&\xb2u\x8ef\xcf\x11"),
                       ("mp4.wav", b"\0\0\0\x18ftypisom")):  # fmt: skip
        yield Case(f"container {name}", name, head + bytes(3000), NO_TORCHCODEC)


def bad_headers() -> Iterator[Case]:
    for name, header in {
        "rate 0": fmt(rate=0), "no channels": fmt(channels=0), "no bits": fmt(bits=0),
        "unknown codec": fmt(kind=0x4321),
        "65,535 channels": fmt(channels=65535),
    }.items():  # fmt: skip
        yield Case(name, f"{name}.wav", riff(header, data()), f"{NOT_AUDIO}|{NO_SAMPLES}")
    yield Case("data before fmt", "data-first.wav", riff(data(), fmt()), NOT_AUDIO)
    yield Case("no fmt", "no-fmt.wav", riff(data()), NOT_AUDIO)
    yield Case("no data", "no-data.wav", riff(fmt()), f"{NOT_AUDIO}|{NO_SAMPLES}")
    yield Case("4 GHz", "fast.wav", riff(fmt(rate=2**32 - 1), data()), "too short|not audio")


def not_files() -> Iterator[Case]:
    yield Case("a folder", "folder.wav", Path.mkdir, "is a folder")
    yield Case("a named pipe", "fifo.wav", os.mkfifo, "a pipe, a socket or a device")
    yield Case("a socket", "socket.wav", listen, "a pipe, a socket or a device")
    yield Case(
        "a link to a device", "zero.wav", lambda path: path.symlink_to("/dev/zero"), "a pipe, a socket or a device"
    )
    yield Case(
        "a link to nothing", "gone.wav", lambda path: path.symlink_to("gone.bin"), 'link to "gone.bin", which is not'
    )
    yield Case("links in a circle", "loop.wav", loop, "cannot be opened")
    yield Case("a link to a folder", "up.wav", lambda path: path.symlink_to("."), "is a folder")
    if os.geteuid() != 0:
        yield Case("no permission", "secret.wav", unreadable, r"cannot be opened \(Permission denied\)")


CASES = [
    *good(), *odd_but_good(), *truncated(), *samples(), *not_audio(), *bad_headers(), *not_files(),
]  # fmt: skip
