"""The tokenising job on a Ray cluster: the same runs made by actors on other machines, the same bytes out.

    driver: walks the source, cuts runs ──Ray Data──▶ actors, each with its codecs, on a GPU or CPUs of its own
            commits shards as they come  ◀──rows and rejected clips──

An actor reads the audio itself, so the source must be readable from every machine: a shared folder, or a URL. Runs
come back in any order. A run whose actor or machine dies is made again by another; the driver alone writes, so a run
that was made twice is written once.
"""

import logging
import os
import pickle
import socket
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

from hocket.data.tokenizing.job import Made, Maker
from hocket.data.tokenizing.runs import Run
from hocket.errors import InputError

RUNS_AT_ONCE = 4096
"""Runs whose clips the driver holds; the actors live for so many."""

RESTARTS = 16
"""Of an actor, before the job gives up and says so; what is finished stays finished."""

TRIES = 4
"""Of a run, on one actor after the other."""

CONNECT_SECONDS = 10.0


class RunMaker:
    """What an actor is: it makes one run after the other. It reads in a process of its own, which a clip may crash."""

    def __init__(self, maker: Maker, device: str):
        self._maker = replace(maker, n_workers=max(1, maker.n_workers))
        for stream in maker.streams.values():
            stream.codec.to(device)

    def __call__(self, row: dict[str, bytes]) -> dict[str, bytes]:
        run, rows, rejected = next(self._maker.make([pickle.loads(row["run"])]))
        return {"made": pickle.dumps((run.number, rows, rejected))}


def on_ray(
    n_actors: int = 2, *, gpus: float = 0.0, cpus: float = 1.0, address: str | None = None
) -> Callable[[Maker, Iterable[Run]], Iterator[Made]]:
    """An engine for `tokenize` that makes runs on a Ray cluster.

    Args:
        n_actors: how many runs are made at once.
        gpus, cpus: what each actor holds; a share of a GPU lets several work on one.
        address: of the cluster, as `ray.init` takes it; None takes RAY_ADDRESS, or starts Ray on this machine.

    Raises:
        InputError: Ray is not installed or cannot be reached; while it runs: runs failed again and again.
    """
    try:
        import ray  # noqa: PLC0415
        import ray.data  # noqa: PLC0415
        import ray.exceptions  # noqa: PLC0415
    except ImportError as error:
        raise InputError("the engine ray needs the package ray: pip install 'hocket[ray]'") from error
    if not ray.is_initialized():
        _refuse_silent(address or os.environ.get("RAY_ADDRESS", ""))
        try:
            ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False)
        except (ConnectionError, ValueError) as error:
            raise InputError(f"the Ray cluster {address or ''} cannot be reached: {error}") from error

    def make(maker: Maker, runs: Iterable[Run]) -> Iterator[Made]:
        waiting = iter(runs)
        while chunk := list(islice(waiting, RUNS_AT_ONCE)):
            by_number = {run.number: run for run in chunk}
            rows = [{"run": pickle.dumps(run)} for run in chunk]
            made = ray.data.from_items(rows, override_num_blocks=len(chunk)).map(
                RunMaker,  # pyright: ignore[reportArgumentType]
                fn_constructor_args=(maker, "cuda" if gpus else "cpu"),
                compute=ray.data.ActorPoolStrategy(size=min(n_actors, len(chunk))),
                num_cpus=cpus,
                num_gpus=gpus,
                max_restarts=RESTARTS,
                max_task_retries=TRIES,
            )
            try:
                for row in made.iter_rows():
                    number, rows, rejected = pickle.loads(row["made"])
                    yield by_number[number], rows, rejected
            except ray.exceptions.RayError as error:
                reason = str(error).strip().splitlines()[0]
                raise InputError(
                    f"Ray gave up ({reason}); the same command goes on from the finished shards"
                ) from error

    _be_quiet(ray.data.DataContext.get_current())
    return make


def _refuse_silent(address: str) -> None:
    """Raise InputError where nobody listens at host:port, which Ray itself would try for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise InputError(f"the Ray cluster {address} cannot be reached: {error}") from error


def _be_quiet(context: Any) -> None:
    """Ray Data draws bars and logs of its own, which would tear ours apart."""
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray").setLevel(logging.ERROR)
    logging.getLogger("ray.data").setLevel(logging.ERROR)
