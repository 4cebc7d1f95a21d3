"""Speech that was made elsewhere, judged as our own: a folder of `{utt}.wav` beside a Seed-TTS-eval list.

Its official scripts pass over outputs that are not there, which makes a system that fails on hard texts look better;
here a missing one is an error.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch

from hocket.codec import read_audio
from hocket.errors import InputError
from hocket.evaluation.generation.asking import TTS
from hocket.evaluation.generation.bench import Found, clips_of
from hocket.evaluation.generation.judging import Count, Judging, Progress
from hocket.evaluation.generation.outputs import PROMPT, Made, Outputs, Wanted
from hocket.evaluation.generation.panel import Panel
from hocket.evaluation.generation.summing import KINDS, summarise
from hocket.evaluation.generation.utterances import of_metalist
from hocket.evaluation.results import MODEL, ORIGINAL

BATCH = 8


def rate_outputs(
    metalist: str | Path,
    outputs: str | Path,
    folder: Path,
    panel: Panel,
    *,
    language: str = "en",
    on_progress: Progress | None = None,
) -> Found:
    """Judges `{utt}.wav` of every row of a list.

    Args:
        outputs: the folder of these files.
        folder: where what was found is kept, with copies of the sounds.

    Raises:
        InputError: names the first output that is missing, or a row of the list that is wrong.
    """
    utterances, outputs = of_metalist(metalist, language), Path(outputs)
    files = {one.id: outputs / f"{one.id}.wav" for one in utterances}
    missing = [file.name for file in files.values() if not file.is_file()]
    if missing:
        raise InputError(
            f"{len(missing)} of {len(files)} outputs of {metalist} are missing in {outputs}, first {missing[0]}"
        )
    settings = {"outputs": [hashlib.sha256(file.read_bytes()).hexdigest()[:16] for file in files.values()]}
    kept, by_id = Outputs(folder, TTS, settings), {one.id: one for one in utterances}
    makes = {PROMPT: lambda some: [_read(one.utterance.prompt) for one in some]}
    if all(one.recording for one in utterances):
        makes[ORIGINAL] = lambda some: [_read(one.utterance.recording) for one in some]
    makes[MODEL] = lambda some: _copies(files, some)
    wanted = {kind: kept.name(utterances, kind) for kind in makes}
    count = Count((2 * len(makes) - 1) * len(utterances), on_progress)
    made = {kind: kept.fill(some, makes[kind], BATCH, count) for kind, some in wanted.items()}
    prompts = {one.utterance: one for one in made[PROMPT]}
    judging = Judging(folder, TTS, panel, settings, says_text=True, reads=False)
    rows = judging.rows([one for kind in KINDS for one in made.get(kind, ())], by_id, prompts, count)
    left_out = ["the codec's resynthesis is left out: outputs made elsewhere name no codec"]
    return Found(summarise(TTS, rows, by_id), clips_of(TTS, utterances, rows, prompts), left_out)


def _copies(files: dict[str, Path], some: Sequence[Wanted]) -> list[Made]:
    read = [read_audio(files[one.utterance.id]) for one in some]
    return [Made(wav_S=wav_S, sample_rate=rate) for wav_S, rate in read]


def _read(clip) -> Made:
    wav_S: torch.Tensor
    wav_S, rate = read_audio(clip.audio)
    return Made(wav_S=wav_S, sample_rate=rate)
