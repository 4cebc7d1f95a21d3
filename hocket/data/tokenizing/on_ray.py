"""The tokenising job on a Ray cluster: the same runs made by actors on other machines, the same bytes out.

    driver: walks the source, cuts runs ──Ray Data──▶ actors, each with its codecs, on a GPU or CPUs of its own
            commits shards as they come  ◀──rows and rejected clips──

An actor reads the audio itself, so the source must be readable from every machine: a shared folder, or a URL. Runs
come back in any order. A run whose actor or machine dies is made again by another; the driver alone writes, so a run
that was made twice is written once.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

from hocket.data.tokenizing.job import Made, Maker
from hocket.data.tokenizing.runs import Run
from hocket.errors import InputError

RUNS_AT_ONCE = 4096
"""Runs whose clips the driver holds; the actors live for so many."""


class RunMaker:
    """What an actor is: it makes one run after the other."""

    def __init__(self, maker: Maker, device: str):
        self._maker = maker
        for stream in maker.streams.values():
            stream.codec.to(device)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        run, rows, rejected = next(self._maker.make([row["run"]]))
        return {"made": (run.number, rows, rejected)}


def on_ray(
    n_actors: int = 2, *, gpus: float = 0.0, cpus: float = 1.0, address: str | None = None
) -> Callable[[Maker, Iterable[Run]], Iterator[Made]]:
    """An engine for `tokenize` that makes runs on a Ray cluster.

    Args:
        n_actors: how many runs are made at once.
        gpus, cpus: what each actor holds; a share of a GPU lets several work on one.
        address: of the cluster, as `ray.init` takes it; None takes RAY_ADDRESS, or starts Ray on this machine.

    Raises:
        InputError: Ray is not installed, or cannot be reached.
    """
    try:
        import ray  # noqa: PLC0415
        import ray.data  # noqa: PLC0415
    except ImportError as error:
        raise InputError("the engine ray needs the package ray: pip install 'hocket[ray]'") from error
    if not ray.is_initialized():
        try:
            ray.init(address=address, logging_level="ERROR", log_to_driver=False)
        except (ConnectionError, ValueError) as error:
            raise InputError(f"the Ray cluster {address or ''} cannot be reached: {error}") from error

    def make(maker: Maker, runs: Iterable[Run]) -> Iterator[Made]:
        device, waiting = "cuda" if gpus else "cpu", iter(runs)
        _be_quiet(ray.data.DataContext.get_current())
        while chunk := list(islice(waiting, RUNS_AT_ONCE)):
            by_number = {run.number: run for run in chunk}
            dataset = ray.data.from_items([{"run": run} for run in chunk], override_num_blocks=len(chunk))
            made = dataset.map(
                RunMaker,
                fn_constructor_args=(maker, device),
                compute=ray.data.ActorPoolStrategy(size=min(n_actors, len(chunk))),
                num_cpus=cpus,
                num_gpus=gpus,
            )
            for row in made.iter_rows():
                number, rows, rejected = row["made"]
                yield by_number[number], rows, rejected

    return make


def _be_quiet(context: Any) -> None:
    """Ray Data draws bars of its own, which would tear ours apart."""
    context.enable_progress_bars = False
    context.print_on_execution_start = False
