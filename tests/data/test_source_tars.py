"""WebDataset shards: members of one key are one clip, read where they lie or held; torn shards are named."""

import io
import json
import pickle
import tarfile
from pathlib import Path

import fsspec
import numpy as np
import pytest
from recordings import write_noise

from hocket.data.clips import Clip, HeldAudio, Rejected
from hocket.data.sources import open_source, read_clips
from hocket.data.sources.tars import TarAudio, expand
from hocket.data.words import Word
from hocket.errors import InputError


def write_tar(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, mode) as tar:  # pyright: ignore[reportCallIssue, reportArgumentType]
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


@pytest.fixture
def members(tmp_path) -> dict[str, bytes]:
    flac, wav = write_noise(tmp_path / "x.flac", 0.4).read_bytes(), write_noise(tmp_path / "y.wav", 0.5).read_bytes()
    row = {"text": "From JSON.", "speaker": "anna", "start": 7, "words": [{"word": "one", "start": 0.1, "end": 0.2}]}
    return {
        "sub/a.flac": flac,
        "sub/a.txt": b"Text.\n",
        "sub/a.cls": b"3",
        "b.seg1.wav": wav,
        "b.json": json.dumps(row).encode(),
        "._c.wav": b"resource fork",
        "text.txt": b"Text alone.",
    }


@pytest.mark.parametrize("suffix", ["tar", "tar.gz"])
def test_samples(tmp_path, members, suffix):
    path = write_tar(tmp_path / "s" / f"talks-000.{suffix}", members, "w:gz" if suffix == "tar.gz" else "w")
    a, b, text = read_clips(path)
    assert (a.id, a.text, a.name) == ("talks-000/sub/a", "Text.", f"talks-000.{suffix}/sub/a.flac")
    assert (b.id, b.text, b.speaker, b.start) == ("talks-000/b", "From JSON.", "anna", None)
    assert b.words == (Word(text="one", start=0.1, end=0.2),)
    assert (text.text, text.audio) == ("Text alone.", None)
    assert isinstance(a.audio, TarAudio if suffix == "tar" else HeldAudio)
    np.testing.assert_array_equal(a.read(8000), read_clips(tmp_path / "x.flac")[0].read(8000))
    np.testing.assert_array_equal(
        pickle.loads(pickle.dumps(b)).read(8000), read_clips(tmp_path / "y.wav")[0].read(8000)
    )
    assert open_source(path).n_clips is None


@pytest.mark.parametrize("src", ["s/*.tar", "s", "s/talks-{000..002}.tar", "s/talks-{000,001,002}.tar"])
def test_shards(tmp_path, members, src):
    for i in range(3):
        write_tar(tmp_path / "s" / f"talks-{i:03d}.tar", members)
    ids = [clip.id for clip in open_source(tmp_path / src)]
    assert ids == [f"talks-{i:03d}/{key}" for i in range(3) for key in ("sub/a", "b", "text")]


def test_shards_behind_a_url(tmp_path, members):
    memory = fsspec.filesystem("memory")
    for i in range(2):
        memory.pipe(f"/tars/t-{i}.tar", write_tar(tmp_path / "t.tar", members).read_bytes())
    for src in ("memory://tars/t-{0..1}.tar", "memory://tars/*.tar", "memory://tars"):
        clips = [item for item in open_source(src) if isinstance(item, Clip)]
        assert [clip.id for clip in clips] == [f"t-{i}/{key}" for i in range(2) for key in ("sub/a", "b", "text")]
        assert isinstance(clips[0].audio, HeldAudio)
        assert len(clips[0].read(8000)) == 3200


def test_bad_samples(tmp_path):
    members = {"a.json": b"{", "b.json": b"[1]", "c.json": b"{}", "d.txt": b"\xff", "e.wav": b"", "f.TextGrid": b"?"}
    bad = {
        item.id: item.reason
        for item in open_source(write_tar(tmp_path / "t.tar", members))
        if isinstance(item, Rejected)
    }
    wanted = {"a": "not valid", "b": "no object", "c": "neither audio nor text", "d": "not UTF-8", "f": "neither audio"}
    assert list(bad) == [f"t/{key}" for key in wanted]
    assert all(wanted[id.removeprefix("t/")] in reason for id, reason in bad.items())


def test_one_torn_shard_does_not_end_the_rest(tmp_path, members):
    whole = write_tar(tmp_path / "s" / "t-0.tar", members).read_bytes()
    write_tar(tmp_path / "s" / "t-4.tar", members)
    (tmp_path / "s" / "t-1.tar").write_bytes(whole[: len(whole) // 2 - 1000])
    (tmp_path / "s" / "t-2.tar").write_bytes(b"no tar file" * 100)
    (tmp_path / "s" / "t-3.tar").write_bytes(whole[:3584] + b"garbage" * 500)
    found = list(open_source(tmp_path / "s" / "t-{0..5}.tar"))
    bad = {item.id: item.reason for item in found if isinstance(item, Rejected)}
    assert list(bad) == ["t-1.tar", "t-2.tar", "t-3.tar", "t-5.tar"]
    assert all("cannot be read after" in reason for reason in bad.values())
    assert "after 0 clips" in bad["t-2.tar"]
    assert [clip.id for clip in found if clip.id.startswith("t-4/")] == ["t-4/sub/a", "t-4/b", "t-4/text"]


def test_patterns(tmp_path):
    assert expand("a-{08..10}.tar") == ["a-08.tar", "a-09.tar", "a-10.tar"]
    assert expand("{x,y}-{1..2}.tar") == ["x-1.tar", "x-2.tar", "y-1.tar", "y-2.tar"]
    with pytest.raises(InputError, match="there is no tar file like"):
        expand(str(tmp_path / "*.tar"))
    with pytest.raises(InputError, match="there is no file or folder"):
        open_source(tmp_path / "none.tar")
