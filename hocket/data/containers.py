"""Audio in containers that libsndfile cannot read (MP4, raw AAC, Matroska and WebM, WMA), decoded by torchcodec.

torchcodec is optional: its wheel needs FFmpeg's libraries, and where these are missing it fails on import. Either way
a clip in such a container is refused with a reason that says so. What torchcodec decodes is decoded as one piece.

Shapes: C channels, S samples.
"""

from pathlib import Path
from typing import BinaryIO

import numpy as np

_MARKS = {
    b"\x1aE\xdf\xa3": "Matroska or WebM",
    b"0&\xb2u\x8ef\xcf\x11": "Windows Media (ASF)",
    b"ADIF": "AAC",
    b"#!AMR": "AMR",
    b"MAC ": "Monkey's Audio",
    b"wvpk": "WavPack",
}
"""First bytes of files, and what they are the mark of."""


def container(head: bytes) -> str | None:
    """What the first bytes of a file say it is, if that is something for torchcodec."""
    if head[4:8] == b"ftyp":
        return "MP4 or M4A"
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0:
        return "AAC (ADTS)"
    return next((kind for mark, kind in _MARKS.items() if head.startswith(mark)), None)


def decode_container(file: Path | BinaryIO, start: float, end: float | None) -> tuple[np.ndarray, int]:
    """`wav_CS` float32 between two times in seconds, and its rate in Hz.

    Raises ValueError, with a reason for the user, where torchcodec is missing or broken, or cannot decode the file.
    """
    try:
        from torchcodec.decoders import AudioDecoder  # noqa: PLC0415  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ValueError("libsndfile cannot read that and torchcodec, which can, is not installed") from error
    except (OSError, RuntimeError) as error:
        first = str(error).strip().splitlines()[0]
        raise ValueError(f"libsndfile cannot read that and torchcodec, which can, does not load ({first})") from error
    source = str(file) if isinstance(file, Path) else file.read()
    try:
        samples = AudioDecoder(source).get_samples_played_in_range(start, end)
    except (RuntimeError, ValueError, IndexError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else "no reason given"
        raise ValueError(f"torchcodec cannot decode it ({first})") from error
    return samples.data.numpy(), samples.sample_rate
