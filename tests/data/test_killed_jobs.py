"""kill -9 at random moments, on this machine and under Ray: run again, the corpus is the same byte for byte."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from energy_codec import EnergyCodec
from recordings import write_noise

from hocket.data import Settings, tokenize

SETTINGS = Settings(batch_seconds=1.0, shard_seconds=2.0)
JOB = """
import sys
from energy_codec import EnergyCodec
from hocket.data import Settings, tokenize
from hocket.data.tokenizing.on_ray import on_ray

if __name__ == "__main__":
    src, dst, engine, n_workers, seconds = sys.argv[1:]
    tokenize(
        src,
        dst,
        EnergyCodec(seconds=float(seconds)),
        settings=Settings(batch_seconds=1.0, shard_seconds=2.0),
        n_workers=int(n_workers),
        engine=on_ray(2) if engine == "ray" else None,
    )
"""


@pytest.fixture
def recordings(tmp_path) -> Path:
    """30 clips, one of them bad."""
    src = tmp_path / "audio"
    src.mkdir()
    for i in range(30):
        write_noise(src / f"{i:02d}.wav", seconds=0.3 + 0.05 * i, seed=i)
    (src / "bad.wav").write_text("no sound")
    return src


@pytest.fixture
def job_file(tmp_path) -> Path:
    file = tmp_path / "job.py"
    file.write_text(JOB)
    return file


def start(job_file: Path, *arguments: object) -> subprocess.Popen:
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}
    return subprocess.Popen(
        [sys.executable, str(job_file), *map(str, arguments)], env=environment, start_new_session=True
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def has_begun(folder: Path) -> bool:
    return (folder / ".tokenizing" / "job.json").exists()


def wait_until(happened, job: subprocess.Popen, seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not happened() and job.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def kill_again_and_again(arguments: tuple, job_file: Path, dst: Path, n_kills: int, longest: float) -> int:
    """Start the job and kill it at a random moment after it has begun, `n_kills` times. How often it was still on."""
    rng, killed = random.Random(0), 0
    for _ in range(n_kills):
        job = start(job_file, *arguments)
        wait_until(lambda: has_begun(dst) or (dst / "corpus.json").exists(), job)
        time.sleep(rng.uniform(0, longest))
        killed += job.poll() is None
        job.send_signal(signal.SIGKILL)
        job.wait()
    return killed


@pytest.mark.slow
@pytest.mark.parametrize("n_workers", [0, 2])
def test_ten_kills_leave_no_trace(recordings, tmp_path, job_file, n_workers):
    tokenize(recordings, tmp_path / "whole", EnergyCodec(), settings=SETTINGS)
    dst = tmp_path / "corpus"
    arguments = (recordings, dst, "local", n_workers, 0.05)
    assert kill_again_and_again(arguments, job_file, dst, n_kills=10, longest=0.5) >= 8
    assert start(job_file, *arguments).wait() == 0
    assert contents(dst) == contents(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_kills_under_ray_leave_no_trace(recordings, tmp_path, job_file):
    """An actor is killed in each of six runs, then the driver in five; Ray makes the shard of a dead actor again."""
    pytest.importorskip("ray")
    tokenize(recordings, tmp_path / "whole", EnergyCodec(), settings=SETTINGS)
    dst = tmp_path / "corpus"
    arguments = (recordings, dst, "ray", 0, 0.3)
    for round_ in range(6):
        job = start(job_file, *arguments)
        records = len(list(dst.glob(".tokenizing/0*.json")))
        wait_until(lambda n=records: len(list(dst.glob(".tokenizing/0*.json"))) > n, job)
        if kill_an_actor(job) and round_ == 5:
            assert job.wait() == 0
        elif job.poll() is None:
            time.sleep(random.Random(round_).uniform(0, 1))
            stop_ray_job(job)
    assert start(job_file, *arguments).wait() == 0
    assert contents(dst) == contents(tmp_path / "whole")


def family(job: subprocess.Popen) -> list[psutil.Process]:
    """What the job has started, Ray's own processes among them."""
    try:
        return psutil.Process(job.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def kill_an_actor(job: subprocess.Popen) -> bool:
    actors = [process for process in family(job) if "RunMaker" in command_line(process)]
    for actor in actors[:1]:
        actor.send_signal(signal.SIGKILL)
    return bool(actors)


def command_line(process: psutil.Process) -> str:
    """Empty for a process that is gone."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def stop_ray_job(job: subprocess.Popen) -> None:
    """kill -9 the driver and all that it started."""
    processes = family(job)
    job.send_signal(signal.SIGKILL)
    job.wait()
    for process in processes:
        if process.is_running():
            process.kill()
