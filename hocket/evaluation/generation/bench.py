"""Where the outputs of a protocol are made, judged and summed up.

Kinds of sound that need no model are made here: recordings, and recordings through the codec.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from hocket.evaluation.continuations import decode_at_own_rate
from hocket.evaluation.generation import asking
from hocket.evaluation.generation.asking import Maker
from hocket.evaluation.generation.judging import Count, Judging, Progress
from hocket.evaluation.generation.outputs import PROMPT, Made, Output, Outputs, Wanted
from hocket.evaluation.generation.panel import Panel
from hocket.evaluation.generation.summing import KINDS, summarise
from hocket.evaluation.generation.utterances import Utterance
from hocket.evaluation.results import MODEL, Clip, Heard
from hocket.inference import Generation, Guidance, MaskSampling, Sampling


class Found(NamedTuple):
    """What a protocol found."""

    heard: list[Heard]  # a line for each kind of sound
    clips: list[Clip]  # all utterances, to listen to
    left_out: list[str]  # a sentence about each thing that was not measured


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Where the outputs of a protocol are made and judged.

    Args:
        folder: of the evaluation.
        weights: what tells the model from others, such as a hash of its weights.
    """

    maker: Maker
    folder: Path
    panel: Panel
    how: Any
    sampling: Sampling | None = None
    guidance: Guidance | None = None
    masks: MaskSampling | None = None
    weights: str = ""
    seed: int = 0
    on_progress: Progress | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the outputs."""
        drawn = {"sampling": repr(self.sampling), "guidance": repr(self.guidance), "masks": repr(self.masks)}
        model = self.weights or self.maker.settings
        return {"model": model, "how": asdict(self.how), "seed": self.seed, **drawn}

    def run(
        self,
        protocol: str,
        utterances: Sequence[Utterance],
        makes: dict[str, Any],
        seeds: Sequence[int | None],
        *,
        says_text: bool,
        reads: bool,
    ) -> Found:
        """Makes the outputs of every kind, judges them, and sums up.

        Args:
            makes: by kind, what makes a batch of outputs.
            seeds: of the model's outputs.
        """
        outputs = Outputs(self.folder, protocol, self.settings)
        wanted = {kind: outputs.name(utterances, kind, seeds if kind == MODEL else (None,)) for kind in makes}
        judged = sum(len(some) for kind, some in wanted.items() if kind in KINDS)
        count = Count(sum(map(len, wanted.values())) + judged, self.on_progress)
        made = {kind: outputs.fill(some, makes[kind], self.how.batch, count) for kind, some in wanted.items()}
        prompts = {one.utterance: one for one in made.get(PROMPT, ())}
        judging = Judging(self.folder, protocol, self.panel, self.settings, says_text=says_text, reads=reads)
        by_id = {one.id: one for one in utterances}
        rows = judging.rows([one for kind in KINDS for one in made.get(kind, ())], by_id, prompts, count)
        return Found(summarise(protocol, rows, by_id), clips_of(protocol, utterances, rows, prompts), [])

    def generate(self, requests: Sequence[Any], **more: Any) -> list[Generation]:
        drawn = {"guidance": self.guidance, "masks": self.masks}
        given = {name: value for name, value in drawn.items() if value is not None}
        return self.maker.generate_batch(requests, self.sampling, **given, **more)

    # --- kinds of sound that need no model --------------------------------------------------------------------------

    def originals(self, some: Sequence[Wanted], prompt_frames: int = 0) -> list[Made]:
        codec = asking.codec_of(self.maker)
        seam = prompt_frames * codec.hop / codec.sample_rate
        wavs = [one.utterance.read(codec.sample_rate) for one in some]
        return [Made(wav_S=wav_S, sample_rate=codec.sample_rate, seam=seam) for wav_S in wavs]

    @torch.inference_mode()
    def resyntheses(self, some: Sequence[Wanted], prompt_frames: int = 0) -> list[Made]:
        codec = asking.codec_of(self.maker)
        seam = prompt_frames * codec.hop / codec.sample_rate
        codes = [asking.codes_heard(self.maker, asking.with_codes(self.maker, one.utterance)) for one in some]
        wavs = [decode_at_own_rate(codec, codes_TK) for codes_TK in codes]
        return [Made(wav_S=wav_S, sample_rate=codec.sample_rate, seam=seam) for wav_S in wavs]

    def starts(self, some: Sequence[Wanted], prompt_frames: int) -> list[Made]:
        """The prompts of continuations: recordings where they are at hand, else as the codec renders them."""
        at_hand = all(one.utterance.recording for one in some)
        whole = self.originals(some) if at_hand else self.resyntheses(some)
        n_samples = prompt_frames * asking.codec_of(self.maker).hop
        wavs = [one.wav_S[..., :n_samples] for one in whole if one.wav_S is not None]
        return [Made(wav_S=wav_S, sample_rate=whole[0].sample_rate) for wav_S in wavs]


def made_of(maker: Maker, item: Generation, *, with_prompt: bool) -> Made:
    return Made(
        wav_S=item.full_wav_T if with_prompt else item.wav_T,
        sample_rate=item.sample_rate,
        seam=item.prompt_wav_T.shape[-1] / item.sample_rate if with_prompt else 0.0,
        ended=None if maker.in_place else item.ended,
    )


def clips_of(
    protocol: str, utterances: Sequence[Utterance], rows: Sequence[dict[str, Any]], prompts: dict[str, Output]
) -> list[Clip]:
    """One of each utterance, with the first sample of the model."""
    clips = []
    for one in utterances:
        own = {row["kind"]: row for row in reversed(rows) if row["utterance"] == one.id}
        prompt = prompts.get(one.id)
        wavs = {PROMPT: prompt.wav} if prompt else {}
        wavs |= {kind: own[kind]["wav"] for kind in KINDS if kind in own}
        heard = {kind: row["continuation" if row["transcript"] is None else "transcript"] for kind, row in own.items()}
        seams = [row["seam"] for row in own.values() if row["wav"]]
        clips.append(
            Clip(
                id=one.id,
                protocol=protocol,
                text=one.text,
                wavs={kind: wav for kind, wav in wavs.items() if wav},
                transcripts={kind: text for kind, text in heard.items() if text is not None},
                seam=max(seams, default=0.0) or None,
            )
        )
    return clips
