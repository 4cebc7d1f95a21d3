"""Says what a thing is: a layout, a corpus, a run, a checkpoint, a codec or an audio file.

`inspect(thing)` returns plain values, ready for JSON; given a console it also prints them for people. Nothing is
trained or scored here: a run shows the scores that its report left behind.
"""

from collections.abc import Callable
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any

from rich.console import Console

from hocket.codec import CodecIdentity, audio_info, load_codec
from hocket.codec.loading import is_codec_folder, is_codec_name
from hocket.data import Corpus, describe
from hocket.data.corpus import CARD_FILE
from hocket.errors import InputError
from hocket.evaluation.rendering import print_facts
from hocket.evaluation.runs import read_run
from hocket.evaluation.scores import read_scores
from hocket.interleave import draw_text, layout_names, load_layout
from hocket.model import load_model

BUNDLED = "bundled"
DRAWN_FRAMES = {"audio": 6, "text": 3}
DRAWN_STEPS = 18
CONTEXTS = (512, 2048, 8192)
"""Steps for which the rate table says how much audio they hold."""


def inspect(thing: str | Path, console: Console | None = None) -> dict[str, Any]:
    """What a thing is, as a dict whose `kind` says which sort.

    Args:
        thing: a layout's name, expression or YAML file; a corpus, run, checkpoint, model or codec folder; an audio
            file; or a codec's name, such as "bundled" or "kyutai/mimi".
        console: where to print it for people; nothing is printed without one.

    Raises:
        InputError: there is no such thing, or it is damaged.
    """
    facts = _kind_of(str(thing))(str(thing))
    if console:
        print_facts(facts, console)
    return facts


def _kind_of(thing: str) -> Callable[[str], dict[str, Any]]:
    path = Path(thing)
    if path.is_dir():
        return _kind_of_folder(path)
    if path.suffix in (".yaml", ".yml") or "(" in thing or thing in layout_names():
        return inspect_layout
    if path.is_file():
        return inspect_audio
    if is_codec_name(thing):
        return inspect_codec
    raise InputError(
        f'cannot inspect "{thing}": it is no file or folder, no layout ({", ".join(layout_names())}, or an expression '
        'such as "Delay(audio)"), and no codec (`hocket codecs` lists them)'
    )


def _kind_of_folder(folder: Path) -> Callable[[str], dict[str, Any]]:
    if (folder / CARD_FILE).is_file():
        return inspect_corpus
    if (folder / "metrics.jsonl").is_file() or (folder / "latest").is_file():
        return inspect_run
    if any((place / "vocabulary").is_dir() for place in (folder, folder / "model")):
        return inspect_model
    if is_codec_folder(folder):
        return inspect_codec
    raise InputError(
        f'cannot inspect the folder "{folder}": it is no corpus, run, checkpoint, model or codec of hocket'
    )


def inspect_layout(spec: str) -> dict[str, Any]:
    """Its expression, a drawing of a short example, and what it costs at the bundled codec's rate."""
    identity = load_codec(BUNDLED).identity
    layout = load_layout(spec, levels=identity.levels)
    plan = layout.plan({name: DRAWN_FRAMES.get(name, 6) for name in layout.streams})
    rates: dict[str, Fraction] = {name: identity.frame_rate for name in layout.streams if name != "text"}
    steps = layout.steps_per_second(rates)
    return {
        "kind": "layout",
        "name": spec,
        "layout": layout.expression,
        "streams": layout.streams,
        "rows": layout.n_rows,
        "codec": identity.name,
        "steps_per_second": float(steps),
        "tokens_per_second": float(sum(rate * layout.streams[name] for name, rate in rates.items())),
        "seconds_in_context": {n: round(float(n / steps), 2) for n in CONTEXTS} if steps else {},
        "drawing": draw_text(plan, DRAWN_STEPS),
    }


def inspect_codec(name: str) -> dict[str, Any]:
    """Rates and identity of a codec."""
    return {"kind": "codec", "name": name, **codec_facts(load_codec(name).identity)}


def codec_facts(identity: CodecIdentity) -> dict[str, Any]:
    """A codec's identity with what follows from it."""
    facts = identity.to_dict() | {"codec": identity.name, "levels": identity.levels}
    facts |= {"frame_rate": float(identity.frame_rate), "bits_per_second": identity.bits_per_second}
    return {key: value for key, value in facts.items() if key != "name"} | {"fingerprint": identity.fingerprint}


def inspect_corpus(folder: str) -> dict[str, Any]:
    """The card, hours by split, use of each codebook, and durations."""
    corpus = Corpus.open(folder)
    card, statistics = corpus.card, describe(corpus)
    return {
        "kind": "corpus",
        "name": folder,
        "source": card.source,
        "examples": len(corpus),
        "hours": statistics.hours,
        "frames": statistics.n_frames,
        "splits": {name: asdict(split) for name, split in card.splits.items()},
        "texts": card.n_texts,
        "rejected": card.n_rejected,
        "codec": codec_facts(card.codec),
        "settings": card.settings,
        "levels": [asdict(level) for level in statistics.levels],
        "duration_edges": list(statistics.duration_edges),
        "duration_counts": statistics.duration_counts,
        "fingerprint": card.fingerprint,
    }


def inspect_run(folder: str) -> dict[str, Any]:
    """Where a run stands: step, last metrics, scores, and its newest model."""
    run = read_run(folder)
    metrics: dict[str, Any] = {}
    for row in (*run.train[-1:], *run.valid[-1:]):
        metrics |= row
    scores = read_scores(run.folder)
    return {
        "kind": "run",
        "name": folder,
        "step": run.step,
        "steps": run.setting("training.steps"),
        "engine": run.trainer.get("engine"),
        "metrics": metrics,
        "scores": scores.to_dict() if scores else None,
        "model": inspect_model(folder) if run.step is not None else None,
        "config": run.config,
    }


def inspect_model(folder: str) -> dict[str, Any]:
    """Shape, parameters, layout, codec and the ranges of ids."""
    model = load_model(folder)
    return {
        "kind": "model",
        "name": folder,
        "parameters": model.n_parameters,
        "config": asdict(model.config),
        "layout": model.layout.expression,
        "context_seconds": model.context_seconds,
        "codec": codec_facts(model.codec_identity),
        "vocabulary": {block.name: [block.start, block.stop] for block in model.vocabulary.blocks},
        "vocabulary_fingerprint": model.vocabulary.fingerprint,
    }


def inspect_audio(path: str) -> dict[str, Any]:
    """Duration, rate and channels of a file, and the codes that the bundled codec would make of it."""
    info = audio_info(path)
    identity = load_codec(BUNDLED).identity
    frames = -(-round(info.duration * identity.sample_rate) // identity.hop)
    return {
        "kind": "audio",
        "name": path,
        **asdict(info),
        "duration": info.duration,
        "codec": identity.name,
        "codec_frames": frames,
        "codec_tokens": frames * identity.levels,
    }
