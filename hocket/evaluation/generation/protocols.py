"""What is heard from a model, beside the recordings and what the codec makes of them: three protocols.

    continuation   VALL-E (Wang et al. 2023): utterances of 4 to 10 s; the first 3 s are the prompt, and the model goes
                   on to the utterance's length. A model that is given the text is judged by the words of all of it,
                   one that is not by perplexity and repetition of what comes after the prompt.
    revoice        the same of models that are given what is said as units or levels
    tts            Seed-TTS-eval (Anastassiou et al. 2024): a text is said in the voice of another recording
    recognition    recordings are written down by the model; an outside recogniser hears recordings and resyntheses

    original       the recording           resynthesis   through the codec: what a perfect model would reach
    model          what comes out, once for each seed

Official scripts average word errors over utterances (`wer_mean`); `wer` is that of the corpus.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hocket.errors import InputError
from hocket.evaluation.generation import asking
from hocket.evaluation.generation.asking import CONTINUATION, REVOICE, TTS, Maker, Template
from hocket.evaluation.generation.bench import Bench, Found, made_of
from hocket.evaluation.generation.judging import Progress
from hocket.evaluation.generation.outputs import PROMPT, Made, Wanted
from hocket.evaluation.generation.panel import Panel
from hocket.evaluation.generation.utterances import Utterance
from hocket.evaluation.hearing import recognise
from hocket.evaluation.results import MODEL, ORIGINAL, RESYNTHESIS
from hocket.inference import Generator, Guidance, MaskSampling, Sampling
from hocket.inference.asking import RECOGNITION


class Unfit(InputError):
    """No utterance fits a protocol: none is long enough, short enough, or has a text."""


@dataclass(frozen=True, kw_only=True)
class Continuation:
    """How utterances are gone on from."""

    prompt_seconds: float = 3.0
    least_seconds: float = 4.0
    """Of an utterance."""
    most_seconds: float = 10.0
    may_end_after: float = 0.0
    """Seconds after the prompt before which the model may not end; 10 makes it as long as each recording, as GSLM does
    for perplexity."""
    n: int = 1
    """Samples of each."""
    batch: int = 8


@dataclass(frozen=True, kw_only=True)
class Speech:
    """How texts are spoken."""

    template: str = "{text}"
    """How the model's texts are written; `{speaker}: {text}` names the voice."""
    best_of: int = 1
    """Attempts, of which the model keeps the one that it hears best itself."""
    n: int = 1
    batch: int = 8


@dataclass(frozen=True, kw_only=True)
class Recognition:
    """How recordings are recognised."""

    template: str = "{text}"
    """How the model writes: what stands around the text is left out."""
    beams: int = 1
    most_tokens: int = 256
    batch: int = 8


def run_continuation(
    maker: Maker,
    utterances: Sequence[Utterance],
    folder: Path,
    panel: Panel,
    how: Continuation | None = None,
    sampling: Sampling | None = None,
    *,
    guidance: Guidance | None = None,
    masks: MaskSampling | None = None,
    weights: str = "",
    seed: int = 0,
    limit: int | None = None,
    on_progress: Progress | None = None,
) -> Found:
    """Continuations of the utterances' first seconds; of models that are given what is said in codes, "revoice".

    Args:
        folder: of the evaluation; outputs and what was found about them are kept there and used again.
        weights: what tells the model from others, such as a hash of its weights.
        seed: of the first sample of each utterance.
        limit: use only so many of the utterances that fit the protocol.

    Raises:
        InputError: no utterance fits the protocol, a recording is missing, or the model cannot do it.
    """
    how = how or Continuation()
    protocol = _choose(maker, (REVOICE, CONTINUATION))
    drawn: dict[str, Any] = {"sampling": sampling, "guidance": guidance, "masks": masks}
    bench = Bench(
        maker=maker, folder=folder, panel=panel, how=how, weights=weights, seed=seed, on_progress=on_progress, **drawn
    )
    tells = asking.is_given_text(maker) or (protocol == REVOICE and any(one.text for one in utterances))
    chosen, left_out = choose(maker, utterances, how, limit, needs_text=tells)
    prompt_frames = 0 if _is_whole(maker) else asking.whole_frames(asking.codec_of(maker), how.prompt_seconds)
    makes: dict[str, Any] = {PROMPT: lambda some: bench.starts(some, prompt_frames)} if prompt_frames else {}
    if all(one.recording for one in chosen):
        makes[ORIGINAL] = lambda some: bench.originals(some, prompt_frames)
    else:
        left_out.append("the original recordings are left out: they are not at hand as single voices")
    makes[RESYNTHESIS] = lambda some: bench.resyntheses(some, prompt_frames)
    makes[MODEL] = lambda some: _continue(bench, some)
    if not tells:
        left_out.append("word errors of continuations are left out: the model is not told what to say")
    seeds = [seed + number for number in range(how.n)]
    reads = panel.recogniser is not None and (panel.reader is not None or not tells) and protocol == CONTINUATION
    found = bench.run(protocol, chosen, makes, seeds, says_text=tells, reads=reads)
    return found._replace(left_out=left_out)


def choose(
    maker: Maker, utterances: Sequence[Utterance], how: Continuation, limit: int | None = None, *, needs_text: bool
) -> tuple[list[Utterance], list[str]]:
    """The utterances that fit the protocol and the model's context, with their codes; and what is to be told of it."""
    low, high = how.least_seconds, how.most_seconds
    fitting = [one for one in utterances if low <= one.seconds <= high and (one.text or not needs_text)]
    if not fitting:
        what = " with text" if needs_text else ""
        raise Unfit(f"none of {len(utterances)} utterances{what} lasts {low:g} to {high:g} s: ask for other lengths")
    chosen, too_long = [], 0
    for one in fitting:
        if limit is not None and len(chosen) == limit:
            break
        ready = asking.with_codes(maker, one)
        request = asking.ask_to_continue(maker, ready, how.prompt_seconds, how.may_end_after, 0)
        if isinstance(maker, Generator) and not maker.model.layout.has_spans and not maker.fits(request):
            too_long += 1
        else:
            chosen.append(ready)
    if not chosen:
        raise Unfit(f"all {too_long} utterances are longer than the model's context: ask for shorter ones")
    told = f"{too_long} of {len(fitting)} utterances are left out: they are longer than the model's context"
    return chosen, [told] if too_long else []


def _continue(bench: Bench, some: Sequence[Wanted]) -> list[Made]:
    how: Continuation = bench.how
    requests = [
        asking.ask_to_continue(bench.maker, one.utterance, how.prompt_seconds, how.may_end_after, one.seed or 0)
        for one in some
    ]
    return [made_of(bench.maker, item, with_prompt=True) for item in bench.generate(requests)]


def _is_whole(maker: Maker) -> bool:
    """Whether all that is heard is made anew: a prompt would be given whole levels of itself."""
    return isinstance(maker, Generator) and bool(maker.given.get(maker.audio or ""))


def run_tts(
    maker: Maker,
    utterances: Sequence[Utterance],
    folder: Path,
    panel: Panel,
    how: Speech | None = None,
    sampling: Sampling | None = None,
    *,
    guidance: Guidance | None = None,
    masks: MaskSampling | None = None,
    weights: str = "",
    seed: int = 0,
    limit: int | None = None,
    on_progress: Progress | None = None,
) -> Found:
    """Texts as the model speaks them; arguments and errors as of `run_continuation`."""
    how, _ = how or Speech(), _choose(maker, (TTS,))
    drawn: dict[str, Any] = {"sampling": sampling, "guidance": guidance, "masks": masks}
    bench = Bench(
        maker=maker, folder=folder, panel=panel, how=how, weights=weights, seed=seed, on_progress=on_progress, **drawn
    )
    chosen = _with_text(utterances, limit)
    makes, left_out = _truths(bench, chosen)
    if all(one.prompt for one in chosen) and asking.takes_voice(maker):
        makes[PROMPT] = lambda some: _prompts(bench, some)
    elif any(one.prompt for one in chosen):
        left_out.append("similarity to prompts is left out: not every text has one, or the model takes none")
    makes[MODEL] = lambda some: _speak(bench, some)
    found = bench.run(TTS, chosen, makes, [seed + number for number in range(how.n)], says_text=True, reads=False)
    return found._replace(left_out=left_out)


def _speak(bench: Bench, some: Sequence[Wanted]) -> list[Made]:
    template, how = Template(bench.how.template), bench.how
    requests = [
        asking.ask_to_speak(bench.maker, one.utterance, template.fill(one.utterance), one.seed or 0) for one in some
    ]
    more = {"best_of": how.best_of} if how.best_of > 1 else {}
    return [made_of(bench.maker, item, with_prompt=False) for item in bench.generate(requests, **more)]


def _prompts(bench: Bench, some: Sequence[Wanted]) -> list[Made]:
    rate = asking.codec_of(bench.maker).sample_rate
    clips = [one.utterance.prompt for one in some]
    return [Made(wav_S=clip.read(rate), sample_rate=rate) for clip in clips if clip is not None]


def run_recognition(
    maker: Maker,
    utterances: Sequence[Utterance],
    folder: Path,
    panel: Panel,
    how: Recognition | None = None,
    sampling: Sampling | None = None,
    *,
    weights: str = "",
    seed: int = 0,
    limit: int | None = None,
    on_progress: Progress | None = None,
) -> Found:
    """Recordings as the model writes them down; the likeliest tokens unless `sampling` says otherwise.

    Arguments and errors as of `run_continuation`. The panel's recogniser hears recordings and resyntheses.
    """
    how, _ = how or Recognition(), _choose(maker, (RECOGNITION,))
    bench = Bench(
        maker=maker, folder=folder, panel=panel, how=how, sampling=sampling, weights=weights, seed=seed,
        on_progress=on_progress,
    )  # fmt: skip
    assert isinstance(maker, Generator)
    known = _with_text(utterances, None)
    missing = [one.id for one in known if one.recording is None]
    if missing:
        raise InputError(f'the recording of "{missing[0]}" is not at hand: recognition needs all of them')
    fitting = [one for one in known if asking.can_hear(maker, one.seconds)]
    if not fitting:
        raise Unfit(f"all {len(known)} recordings are longer than the model's context: ask for shorter ones")
    chosen = fitting[:limit]
    makes, left_out = _truths(bench, chosen) if panel.recogniser else ({}, [])
    if len(fitting) < len(known):
        left_out.append(
            f"{len(known) - len(fitting)} recordings are left out: they are longer than the model's context"
        )
    makes[MODEL] = lambda some: _recognise(bench, some)
    found = bench.run(RECOGNITION, chosen, makes, [None], says_text=True, reads=False)
    return found._replace(left_out=left_out)


def _recognise(bench: Bench, some: Sequence[Wanted]) -> list[Made]:
    assert isinstance(bench.maker, Generator)
    how, rate = bench.how, bench.maker.model.codec.input_rate
    wavs = [one.utterance.read(rate).numpy() for one in some]
    texts = recognise(bench.maker, wavs, rate, how.most_tokens, bench.sampling, how.beams)
    return [Made(transcript=Template(how.template).read(text)) for text in texts]


# --- what protocols share -------------------------------------------------------------------------------------------


def _choose(maker: Maker, protocols: Sequence[str]) -> str:
    """The first of these that the model can be judged by."""
    can = asking.protocols_of(maker)
    found = [name for name in protocols if name in can]
    if not found:
        named = maker.model.layout if isinstance(maker, Generator) else "this pipeline"
        raise InputError(f"{named} cannot be judged by {protocols[-1]}" + (f", but by {', '.join(can)}" if can else ""))
    return found[0]


def _with_text(utterances: Sequence[Utterance], limit: int | None) -> list[Utterance]:
    chosen = [one for one in utterances if one.text][:limit]
    if not chosen:
        raise Unfit(f"none of {len(utterances)} utterances has a text: word errors need what is said")
    return chosen


def _truths(bench: Bench, chosen: Sequence[Utterance]) -> tuple[dict[str, Any], list[str]]:
    """What makes originals and resyntheses of whole recordings, where there are any."""
    if all(one.recording for one in chosen):
        return {ORIGINAL: bench.originals, RESYNTHESIS: bench.resyntheses}, []
    if all(asking.main_stream(bench.maker) in one.streams for one in chosen):
        return {RESYNTHESIS: bench.resyntheses}, ["the original recordings are left out: they are not at hand"]
    return {}, ["originals and resyntheses are left out: there are no recordings of the texts"]
