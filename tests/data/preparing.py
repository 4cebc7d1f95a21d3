"""Clips prepared in one call, for the tests."""

from pathlib import Path
from typing import Any

from hocket.data.clips import Clip, Rejected
from hocket.data.preparing import Preparation, Segment, StreamAudio, prepare

MONO = [StreamAudio("audio", None, 8000, 0.02)]
TWO = [StreamAudio("audio", 0, 8000, 0.02), StreamAudio("user", 1, 8000, 0.02)]


def a_clip(path: Path, **known: Any) -> Clip:
    return Clip(id="talk", name=path.name, audio=path, **known)


def made(clip: Clip, streams=MONO, **settings: Any) -> list[Segment]:
    segments = prepare(clip, streams, Preparation(**settings))
    assert all(isinstance(segment, Segment) for segment in segments), segments
    return [segment for segment in segments if isinstance(segment, Segment)]


def reason(clip: Clip, streams=MONO, **settings: Any) -> str:
    (rejected,) = prepare(clip, streams, Preparation(**settings))
    assert isinstance(rejected, Rejected)
    assert (rejected.id, rejected.audio) == (clip.id, clip.name)
    return rejected.reason
