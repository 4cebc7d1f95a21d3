"""Jobs that are stopped, disturbed or cannot write: one sentence, nothing lost, nobody left behind."""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from recordings import write_noise

from hocket.data import Corpus, Settings, read_rejected, tokenize
from hocket.data.alignment import align
from hocket.data.clips import Rejected
from hocket.data.preparing import Preparation
from hocket.data.tokenizing.on_ray import on_ray
from hocket.data.tokenizing.reading import Reader
from hocket.data.words import Word
from hocket.errors import InputError

SETTINGS = Settings(batch_seconds=1.0, shard_seconds=1.0)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def half_way(maker, runs) -> Iterator:
    """An engine that dies after its first run."""
    yield next(iter(maker.make(runs)))
    raise KeyboardInterrupt


@pytest.fixture
def recordings(tmp_path) -> Path:
    src = tmp_path / "audio"
    for i in range(6):
        src.mkdir(exist_ok=True)
        write_noise(src / f"{i}.wav", seconds=0.5, seed=i)
    return src


@pytest.fixture
def begun(recordings, tmp_path, codec) -> Path:
    """A corpus of which one shard is finished."""
    with pytest.raises(KeyboardInterrupt):
        tokenize(recordings, tmp_path / "corpus", codec, settings=SETTINGS, engine=half_way)
    return tmp_path / "corpus"


@pytest.fixture
def whole(recordings, tmp_path, codec) -> dict[str, bytes]:
    """What the finished corpus holds."""
    tokenize(recordings, tmp_path / "whole", codec, settings=SETTINGS)
    return contents(tmp_path / "whole")


def test_two_jobs_do_not_write_one_corpus(recordings, tmp_path, codec, whole):
    def disturbed(maker, runs):
        with pytest.raises(InputError, match="another job is at work"):
            tokenize(recordings, tmp_path / "corpus", codec, settings=SETTINGS)
        yield from maker.make(runs)

    tokenize(recordings, tmp_path / "corpus", codec, settings=SETTINGS, engine=disturbed)
    assert contents(tmp_path / "corpus") == whole


def test_two_jobs_do_not_write_one_manifest(recordings, tmp_path):
    def hear(wav_T, language):
        with pytest.raises(InputError, match="another job is writing"):
            align(recordings, tmp_path / "a.jsonl", lambda wav_T, language: [])
        return [Word(text="word", start=0.0, end=0.1)]

    assert align(recordings, tmp_path / "a.jsonl", hear).n_clips == 6
    assert {path.name for path in tmp_path.iterdir()} == {"audio", "a.jsonl", "a.jsonl.report.json"}


def full_disk(monkeypatch: pytest.MonkeyPatch, n_writes: int) -> Callable[[], None]:
    """Let the disk be full after some writes; what is returned makes room again."""
    left = iter(range(n_writes))

    def fsync(descriptor: int) -> None:
        if next(left, None) is None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("hocket.data.places.os.fsync", fsync)
    return monkeypatch.undo


@pytest.mark.parametrize("n_writes", [0, 1, 3, 7, 8])
def test_a_full_disk_loses_no_finished_shard(recordings, tmp_path, codec, whole, monkeypatch, n_writes):
    dst = tmp_path / "new" / "corpus"
    make_room = full_disk(monkeypatch, n_writes)
    with pytest.raises(InputError, match="cannot be written: No space left on device") as refused:
        tokenize(recordings, dst, codec, settings=SETTINGS)
    make_room()
    assert ("the same command goes on" in str(refused.value)) == (n_writes > 2) == dst.exists() == dst.parent.exists()
    assert not list(tmp_path.rglob("*.partial"))
    tokenize(recordings, dst, codec, settings=SETTINGS)
    assert contents(dst) == whole


def test_a_place_below_a_file_cannot_be_written(recordings, codec):
    with pytest.raises(InputError, match="cannot be written: Not a directory"):
        tokenize(recordings, recordings / "0.wav" / "corpus", codec)
    with pytest.raises(InputError, match="cannot be written: File exists"):
        align(recordings, recordings / "0.wav" / "a.jsonl", lambda wav_T, language: [])


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"shard": 1}', "\udcff"])
@pytest.mark.parametrize("name", ["00000", "job"])
def test_damaged_records_are_named(recordings, begun, codec, whole, name, content):
    record = begun / ".tokenizing" / f"{name}.json"
    record.write_bytes(os.fsencode(content))
    with pytest.raises(InputError, match=rf'{name}.json" is damaged .* delete'):
        tokenize(recordings, begun, codec, settings=SETTINGS)
    record.unlink()
    tokenize(recordings, begun, codec, settings=SETTINGS)
    assert contents(begun) == whole


def test_a_torn_shard_is_made_again(recordings, begun, codec, whole):
    os.truncate(begun / "data-00000.arrow", 100)
    tokenize(recordings, begun, codec, settings=SETTINGS)
    assert contents(begun) == whole


def test_a_finished_corpus_is_looked_at(recordings, tmp_path, codec, whole):
    dst = tmp_path / "whole"
    os.truncate(dst / "data-00001.arrow", 100)
    with pytest.raises(InputError, match=r"damaged: data-00001\.arrow has 100 bytes"):
        tokenize(recordings, dst, codec, settings=SETTINGS)
    (dst / "rejected.jsonl").write_text("{}\n")
    with pytest.raises(InputError, match=r"rejected\.jsonl holds a line"):
        read_rejected(dst)


def test_a_card_that_does_not_fit_its_shards_is_refused(tmp_path, whole):
    card = json.loads(whole["corpus.json"])
    card["shards"][0]["n_examples"] += 1
    (tmp_path / "whole" / "corpus.json").write_text(json.dumps(card))
    with pytest.raises(InputError, match="its card counts 6 examples and 7 rows"):
        Corpus.open(tmp_path / "whole")
    card["shards"][1]["n_examples"] -= 1
    (tmp_path / "whole" / "corpus.json").write_text(json.dumps(card))
    with pytest.raises(InputError, match=r"data-00000\.arrow has 2 rows and the card says 3"):
        Corpus.open(tmp_path / "whole")[0]


def test_a_dead_fork_server_is_replaced(monkeypatch):
    pools = []

    class Pool:
        def __init__(self):
            pools.append(self)

        def submit(self, *task):
            if len(pools) == 1:
                raise EOFError
            return task

    monkeypatch.setattr(Reader, "_open", lambda self: Pool())
    task: Any = Reader([], Preparation())._submit(Rejected(id="x", audio="x", reason="bad"))
    assert task[1].id == "x"
    assert len(pools) == 2


def test_a_ray_cluster_that_is_not_there_is_refused_at_once():
    pytest.importorskip("ray")
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        with pytest.raises(InputError, match=f"the Ray cluster {address} cannot be reached: .*refused"):
            on_ray(address=address)


COMMAND = [sys.executable, "-m", "hocket", "tokenize", "bundled"]
OPTIONS = ["--shard-seconds", "30", "--workers", "2", "--json"]


def start(dst: Path) -> subprocess.Popen:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*COMMAND, str(dst), *OPTIONS],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def stop(dst: Path, number: int) -> tuple[int, str, str, list[psutil.Process]]:
    """Start the command and send a signal to all its processes once a shard is finished."""
    job = start(dst)
    while len(list(dst.glob(".tokenizing/0*.json"))) < 1 and job.poll() is None:
        time.sleep(0.01)
    processes = psutil.Process(job.pid).children(recursive=True)
    assert len(processes) >= 3
    send = os.kill if number == signal.SIGKILL else os.killpg
    send(job.pid, number)
    out, said = job.communicate(timeout=60)
    _, left = psutil.wait_procs(processes, timeout=20)
    return job.returncode, out, said, left


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_a_stopped_command_leaves_nobody_behind(tmp_path, number, code):
    got, out, said, left = stop(tmp_path / "corpus", number)
    assert (got, out, left) == (code, "", [])
    assert "Traceback" not in said
    if code > 0:
        assert said.splitlines()[-1].startswith(f"stopped by {signal.Signals(number).name}")
    assert (tmp_path / "corpus" / ".tokenizing" / "00000.json").exists()
