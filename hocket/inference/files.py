"""Generation from files to files.

    hello.wav     prompt and continuation       hello.json    every setting, and what came out
    hello.npy     its codes, uint16 [T, K]      hello.txt     the text, where the model writes one
    hello.STREAM.npy, hello.STREAM.wav          further streams that the model writes

The settings are written last: a row that has them is done, and is not made again by the same command. A row that
cannot be made is named, and the others are made all the same.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from hocket.codec import write_audio
from hocket.errors import InputError
from hocket.inference.generator import Generator
from hocket.inference.guidance import Guidance
from hocket.inference.masking import MaskSampling
from hocket.inference.request import Generation
from hocket.inference.rows import Row
from hocket.model import find_model_folder, load_model
from hocket.vocab import ALIGNED_TEXT, TEXT

SETTINGS_SUFFIX = ".json"
REJECTED_FILE = "rejected.jsonl"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class Maker(Protocol):
    """What generates: a `Generator` of one model, or a `Pipeline` of several."""

    @property
    def settings(self) -> dict[str, Any]:
        """What it is made of: checkpoints, layouts, codec."""
        ...

    @property
    def in_place(self) -> bool:
        """Whether it predicts in place, all of it."""
        ...

    @property
    def request(self) -> Callable[..., Any]:
        """Makes a request of what a row gives."""
        ...

    @property
    def generate_batch(self) -> Callable[..., list[Generation]]:
        """Makes several items together."""
        ...


@dataclass(kw_only=True)
class Job:
    """Rows to generate, and how.

    Args:
        maker: what generates.
        folder: where files go.
        include_prompt: a wav begins with the prompt, as the codec renders it.
        batch: rows that are made together.
        beams: of models that write text, the width of the beam search; 1 samples.
        best_of: of models that speak and recognise, attempts at each row of which the best is kept.
        names_rows: a row that cannot be made is named in the sentence that says why.
        on_progress: told how many of the rows are done (a fraction counts), of how many, and how many times faster than
            real time; 0 where no audio is made.
    """

    maker: Maker
    folder: Path
    include_prompt: bool = True
    batch: int = 8
    guidance: Guidance | None = None
    masks: MaskSampling | None = None
    beams: int = 1
    best_of: int = 1
    names_rows: bool = True
    on_progress: Callable[[float, float, float], None] = lambda done, total, seconds: None
    rejected: list[dict[str, str]] = field(default_factory=list)
    """Rows that could not be made: their name and why."""

    def run(self, rows: Sequence[Row | InputError], *, fresh: bool = False) -> dict[str, Any]:
        """Makes all rows that are not there yet; a summary that can be written as JSON."""
        began = time.perf_counter()
        kept = [] if fresh else [row for row in rows if isinstance(row, Row) and self._is_there(row)]
        wanted = []
        for row in rows:
            if isinstance(row, InputError):
                self._reject("", str(row))
            elif row not in kept:
                wanted += self._prepare(row)
        wanted.sort(key=lambda pair: (repr(pair[0].sampling), _size(pair[1])))
        outputs: list[dict[str, Any]] = []
        self._began, self._seconds = time.perf_counter(), 0.0
        for group in _batches(wanted, self.batch):
            made = self._make(group, len(outputs), len(wanted))
            outputs += made
            self._seconds += sum(item["generated_seconds"] for item in made)
        wall = time.perf_counter() - began
        return {
            "outputs": sorted(outputs, key=lambda item: item["name"]),
            "kept": [row.name for row in kept],
            "rejected": self.rejected,
            "generated_seconds": self._seconds,
            "wall_seconds": wall,
            "real_time_factor": self._seconds / wall,
        }

    def write_rejected(self) -> None:
        """Puts down what could not be made and why, or takes the list of an earlier run away."""
        path = self.folder / REJECTED_FILE
        path.unlink(missing_ok=True)
        if self.rejected:
            self.folder.mkdir(parents=True, exist_ok=True)
            lines = [json.dumps(row, ensure_ascii=False) for row in self.rejected]
            path.write_text("\n".join(lines) + "\n", encoding="utf-8")

    def _prepare(self, row: Row) -> list[tuple[Row, Any]]:
        """The row with its request; none where it cannot be made."""
        arguments = {
            "prompt": row.prompt,
            "text": row.text,
            "seconds": row.seconds,
            "seed": row.seed,
            "prompt_seconds": row.prompt_seconds,
            "task": row.task,
        }
        extra = {"overlap": row.overlap, "min_seconds": row.min_seconds, "prompt_text": row.prompt_text}
        arguments |= {name: value for name, value in extra.items() if value is not None}
        try:
            if row.streams:
                arguments["streams"] = row.load_streams()
            return [(row, self.maker.request(**arguments))]
        except InputError as error:
            self._reject(row.name, str(error))
            return []

    def _make(self, group: list[tuple[Row, Any]], done: int, total: int) -> list[dict[str, Any]]:
        asked = sum(row.seconds or 0.0 for row, _ in group)

        def on_step(step: int, n_steps: int) -> None:
            share = min(step / max(n_steps, 1), 1.0)
            seconds = self._seconds + share * asked
            self.on_progress(done + share * len(group), total, seconds / (time.perf_counter() - self._began))

        how: dict[str, Any] = {"guidance": self.guidance, "masks": self.masks}
        how |= {"beams": self.beams, "best_of": self.best_of}
        how = {name: value for name, value in how.items() if value not in (None, 1)}
        try:
            items = self.maker.generate_batch([request for _, request in group], group[0][0].sampling, on_step, **how)
        except InputError as error:
            if len(group) > 1:  # the others can be made without it
                return [made for pair in group for made in self._make([pair], done, total)]
            self._reject(group[0][0].name, str(error))
            return []
        return [self._write(row, item) for (row, _), item in zip(group, items, strict=True)]

    def _write(self, row: Row, item: Generation) -> dict[str, Any]:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / row.name
        streams = [name for name in item.made if name not in (TEXT, ALIGNED_TEXT)]
        facts: dict[str, Any] = {"name": row.name, "wav": None, "codes": {}, "text": item.text}
        if len(item.full_wav_T):
            facts["wav"] = f"{path}.wav"
            write_audio(Path(facts["wav"]), item.full_wav_T if self.include_prompt else item.wav_T, item.sample_rate)
        for number, name in enumerate(streams):
            file = f"{path}{f'.{name}' if number else ''}.npy"
            np.save(file, item.streams[name].astype(np.uint16))
            facts["codes"][name] = file
        if item.text is not None and {TEXT, ALIGNED_TEXT} & set(item.made):
            Path(f"{path}.txt").write_text(item.text + "\n", encoding="utf-8")
        drawn = np.concatenate([scores.reshape(-1) for scores in item.log_probabilities.values()] or [np.zeros(0)])
        drawn = drawn[~np.isnan(drawn)]
        facts |= {
            "prompt_seconds": len(item.prompt_wav_T) / item.sample_rate,
            "generated_seconds": item.seconds if streams else 0.0,
            "ended": item.ended,
            "steps": item.steps,
            "codes_drawn": len(drawn),
            "mean_log_probability": float(drawn.mean()) if len(drawn) else None,
            "wall_seconds": item.wall_seconds,
        }
        content = {"asked": self._settings(row)} | facts
        Path(f"{path}{SETTINGS_SUFFIX}").write_text(
            json.dumps(content, indent=1, ensure_ascii=False, default=str) + "\n", encoding="utf-8"
        )
        return facts | {"seed": row.seed}

    def _settings(self, row: Row) -> dict[str, Any]:
        """What decides the row's result."""
        asked = {key: value for key, value in asdict(row).items() if key != "name"}
        how: dict[str, Any] = {"guidance": self.guidance, "masks": self.masks}
        how = {name: asdict(value) if value else None for name, value in how.items()} | {
            "beams": self.beams,
            "best_of": self.best_of,
        }
        content = self.maker.settings | asked | how | {"include_prompt": self.include_prompt}
        return json.loads(json.dumps(content, default=str))

    def _is_there(self, row: Row) -> bool:
        """Whether a run with the same settings made it."""
        try:
            content = json.loads(Path(f"{self.folder / row.name}{SETTINGS_SUFFIX}").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        return content.get("asked") == self._settings(row)

    def _reject(self, name: str, reason: str) -> None:
        place = f'row "{name}": ' if name and self.names_rows else ""
        self.rejected.append({"name": name, "reason": place + reason})


def open_generator(checkpoint: str | Path, device: str = "cpu", dtype: str = "float32") -> Generator:
    """A generator of a run, one of its checkpoints, or a model folder.

    Args:
        dtype: of the weights while they are used: float32 or bfloat16.
    """
    if dtype not in DTYPES:
        raise InputError(f'dtype is {" or ".join(DTYPES)}, not "{dtype}"')
    folder = find_model_folder(checkpoint)
    model = load_model(folder, device).to(DTYPES[dtype])
    return Generator(model, {"checkpoint": str(checkpoint), "weights": str(folder), "dtype": dtype})


def copies_of(row: Row, n: int) -> list[Row]:
    """The row n times, with the seeds that follow and numbered names."""
    if n < 1:
        raise InputError(f"n must be at least 1, not {n}")
    if n == 1:
        return [row]
    return [replace(row, name=f"{row.name}-{i + 1}", seed=row.seed + i) for i in range(n)]


def _size(request: Any) -> int:
    """Frames that are asked for: rows of a batch should be about as long as each other."""
    return sum(getattr(request, "limits", {}).values())


def _batches(wanted: list[tuple[Row, Any]], size: int) -> list[list[tuple[Row, Any]]]:
    """Neighbours that are drawn in the same way, at most `size` together."""
    groups: list[list[tuple[Row, Any]]] = []
    for pair in wanted:
        fits = groups and len(groups[-1]) < size and groups[-1][0][0].sampling == pair[0].sampling
        if fits:
            groups[-1].append(pair)
        else:
            groups.append([pair])
    return groups
