"""Models of judges, read from folders of transformers without any hub."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hocket.codec.adapters.transformers_codec import quiet_transformers
from hocket.errors import InputError


@contextmanager
def reading(folder: str | Path, what: str) -> Iterator[Path]:
    """Opens a folder of `what` ("a recogniser"); what goes wrong in reading it becomes one sentence.

    Raises InputError: there is no such folder, or nothing that can be loaded in it.
    """
    if not Path(folder).is_dir():
        raise InputError(f'there is no folder "{folder}" of {what}')
    try:
        with quiet_transformers():
            yield Path(folder)
    except (OSError, ValueError, ImportError, KeyError, RuntimeError) as error:
        if isinstance(error, InputError):
            raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(f'"{folder}" holds no model of {what} that can be loaded: {reason}') from error
