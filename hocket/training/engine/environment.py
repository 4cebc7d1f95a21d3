"""What this machine can run, and the few environment variables by which DeepSpeed learns where it is."""

import contextlib
import importlib.util
import io
import logging
import os
import shutil
import socket
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch

from hocket.errors import InputError

ALONE = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}
"""What a launcher would set for one process."""


def why_no_deepspeed() -> str | None:
    """What DeepSpeed lacks on this machine, or None if it can run."""
    _put_interpreter_on_path()
    if importlib.util.find_spec("deepspeed") is None:
        return "deepspeed is not installed"
    if torch.backends.mps.is_available():
        return "DeepSpeed has no Apple GPU support"
    if torch.cuda.is_available():
        return None
    return why_no_compiler() or (None if shutil.which("ninja") else "ninja is not on the PATH")


def why_no_compiler() -> str | None:
    """torch.compile and DeepSpeed build C++ on CPU."""
    return None if shutil.which(os.environ.get("CXX", "c++")) else "there is no C++ compiler"


def _put_interpreter_on_path() -> None:
    """`ninja` is installed beside the interpreter, whose folder is on the PATH only in an activated environment."""
    folder = str(Path(sys.executable).parent)
    if folder not in os.environ.get("PATH", "").split(os.pathsep):
        os.environ["PATH"] = folder + os.pathsep + os.environ.get("PATH", "")


def choose_engine(wanted: str) -> tuple[str, str | None]:
    """`("deepspeed" | "accelerate", a line to show or None)`. InputError if DeepSpeed is demanded and cannot run."""
    if wanted == "accelerate":
        return "accelerate", None
    lacking = why_no_deepspeed()
    if lacking is None:
        return "deepspeed", None
    if wanted == "deepspeed":
        raise InputError(f"training.engine=deepspeed cannot run here: {lacking}; training.engine=accelerate can")
    return "accelerate", f"DeepSpeed cannot run here ({lacking}): training with plain Accelerate"


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """DeepSpeed prints and logs while it starts, saves and loads; nothing of it concerns the user."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@contextlib.contextmanager
def modern() -> Iterator[None]:
    """DeepSpeed calls functions of torch.distributed that have new names by now; under autocast, QK norms meet heads in
    bfloat16 and gains in float32, which is meant."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Mismatch dtype between input and weight", category=UserWarning)
        warnings.filterwarnings("ignore", message=r".*torch\.distributed\..* is deprecated", category=FutureWarning)
        yield
