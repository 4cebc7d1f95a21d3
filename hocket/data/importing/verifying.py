"""Some recordings encoded again: do the rows hold what the codec makes of them?

Level 0 must agree in 95 % of the frames. What differs on other hardware are ties between near entries, which deeper
levels inherit; there a quarter is asked for, of which levels in a wrong order, at about 1 in 1,000, fall far short.

Shapes: T frames, K levels.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from hocket.codec import Codec
from hocket.data.clips import Clip
from hocket.data.importing.entries import CodeRow, CodeSource
from hocket.data.importing.rules import LENGTH_TOLERANCE, Rules
from hocket.errors import InputError

MOST_ROWS = 8
LEAST_EQUAL = 0.95
LEAST_EQUAL_DEEPER = 0.25
SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".m4a", ".aiff", ".aif")


@dataclass(frozen=True)
class Verification:
    """How an import is verified: with which codec, and where the recordings lie."""

    codec: Codec
    folder: str | Path

    def run(self, source: CodeSource, rules: Rules) -> str:
        """Encode up to 8 recordings that rows name, and compare. Returns a sentence.

        Raises InputError where no row names a recording of the folder, or codes differ.
        """
        if self.codec.identity.with_levels(rules.codec.levels).fingerprint != rules.codec.fingerprint:
            raise InputError(f'the codec to verify with is not "{rules.codec.name}", which the codes are said to be of')
        recordings = _Recordings(Path(self.folder))
        equal, total, n_rows = np.zeros(rules.codec.levels), 0, 0
        for entry in source.entries():
            if n_rows == MOST_ROWS:
                break
            try:
                row = entry.read()
                codes_TK, _ = rules.check(row)
            except InputError:
                continue  # the import names it with its reason
            if path := recordings.find(row):
                agreed_K, frames = self._compare(codes_TK, path, row.clip, entry.name)
                equal, total, n_rows = equal + agreed_K, total + frames, n_rows + 1
        if not n_rows:
            raise InputError(
                f'no row of "{source.name}" names a recording in "{self.folder}", so nothing can be verified'
            )
        return _judge(equal / total, n_rows, self.codec)

    def _compare(self, codes_TK: np.ndarray, path: Path, clip: Clip, name: str) -> tuple[np.ndarray, int]:
        """In how many frames each level agrees, and of how many."""
        recording = Clip(id=clip.id, name=path.name, audio=path, start=clip.start, end=clip.end)
        wav_S = recording.read(self.codec.input_rate)
        with torch.inference_mode():
            made = self.codec.encode(wav_S[None].to(self.codec.device), self.codec.input_rate)
        made_TK = made.tokens_BTK[0].cpu().numpy()[:, : codes_TK.shape[1]]
        frames, share = LENGTH_TOLERANCE
        if abs(len(made_TK) - len(codes_TK)) > max(frames, share * len(made_TK)):
            raise InputError(
                f'"{name}" has {len(codes_TK)} frames, but codec "{self.codec.identity.name}" makes {len(made_TK)} '
                f'of its recording "{path}"'
            )
        shorter = min(len(made_TK), len(codes_TK))
        return (made_TK[:shorter] == codes_TK[:shorter]).sum(axis=0), shorter


class _Recordings:
    """The audio of a folder, found by what a row calls it."""

    def __init__(self, folder: Path):
        if not folder.is_dir():
            raise InputError(f'there is no folder "{folder}" of recordings to verify with')
        self._by_name: dict[str, Path] = {}
        for path in sorted(folder.rglob("*")):
            if path.suffix.lower() in SUFFIXES:
                relative = path.relative_to(folder).with_suffix("").as_posix()
                self._by_name[relative] = path
                self._by_name.setdefault(path.stem, path)

    def find(self, row: CodeRow) -> Path | None:
        """By the row's id or audio: as a path in the folder first, by the last part of it else."""
        for called in (row.clip.id, row.clip.name):
            stem = os.path.splitext(called)[0] if called.lower().endswith((*SUFFIXES, ".npy", ".pt")) else called
            if found := self._by_name.get(stem) or self._by_name.get(stem.replace("\\", "/").rsplit("/", 1)[-1]):
                return found
        return None


def _judge(share_K: np.ndarray, n_rows: int, codec: Codec) -> str:
    shares = ", ".join(f"{100 * share:.1f}" for share in share_K)
    found = f"{shares} % of the codes of {n_rows} recordings are equal, level by level"
    least_K = np.where(np.arange(len(share_K)) == 0, LEAST_EQUAL, LEAST_EQUAL_DEEPER)
    if (share_K < least_K).any():
        level = int((share_K < least_K).argmax())
        raise InputError(
            f'the codes are not those that codec "{codec.identity.name}" makes: level {level} agrees in '
            f"{100 * share_K[level]:.1f} % of the frames of {n_rows} recordings, which should be at least "
            f"{100 * least_K[level]:.0f} % (by level: {shares})"
        )
    return found
