"""Says what a thing is: a layout, a corpus, a run, a checkpoint, a codec or an audio file.

`inspect(thing)` returns plain values, ready for JSON; given a console it also prints them for people. Nothing is
trained or scored here: a run shows the scores that its report left behind.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from hocket.codec import audio_info, load_codec
from hocket.codec.loading import is_codec_folder, is_codec_name
from hocket.data.card import CARD_FILE
from hocket.errors import InputError, did_you_mean
from hocket.evaluation.clock import Clock
from hocket.evaluation.corpus_facts import Sample, codec_facts, inspect_corpus
from hocket.evaluation.layout_facts import is_layout, view_layout
from hocket.evaluation.layout_tables import draw_views, print_layouts, print_presets
from hocket.evaluation.rendering import print_facts
from hocket.evaluation.runs import read_run
from hocket.evaluation.scores import read_scores
from hocket.interleave import layout_names, load_scheme
from hocket.model import load_model

BUNDLED = "bundled"


def inspect(thing: str | Path, console: Console | None = None) -> dict[str, Any]:
    """What a thing is, as a dict whose `kind` says which sort.

    Args:
        thing: a layout's name, expression or YAML file; a corpus, run, checkpoint, model or codec folder; an audio
            file; or a codec's name, such as "bundled" or "kyutai/mimi".
        console: where to print it for people; nothing is printed without one.

    Raises:
        InputError: there is no such thing, or it is damaged.
    """
    if is_layout(str(thing)) and not Path(thing).is_dir():
        return inspect_layouts([str(thing)], console=console)[0]
    return _show(_kind_of(str(thing))(str(thing)), console)


def inspect_all(
    things: Sequence[str],
    console: Console | None = None,
    *,
    clock: Clock | None = None,
    frames: int | None = None,
    svg: Path | None = None,
    sample: Sample | None = None,
) -> dict[str, Any]:
    """What `hocket inspect` says of things: layouts together, anything else one by one; of nothing, the presets.

    Args:
        things: see `inspect`.
        console: where to print it for people.
        clock, frames: of layouts only; see `inspect_layouts`.
        svg: a file for the drawing of layouts, or for the durations of a corpus.
        sample: a row of a corpus to decode.

    Raises:
        InputError: as `inspect`, or options are given for something that they do not go with.
    """
    if not things:
        return {"layouts": list_layouts(console)}
    if svg or sample:
        corpora = [thing for thing in things if (Path(thing) / CARD_FILE).is_file()]
        if corpora and len(things) == 1 and not (clock or frames):
            return _show(inspect_corpus(things[0], svg=svg, sample=sample), console)
        if corpora or sample:
            raise InputError(
                "a picture of durations and a sample are of one corpus: name it alone, without layouts' options"
            )
    others = [thing for thing in things if not is_layout(thing) or Path(thing).is_dir()]
    if others and (clock or frames or svg):
        raise InputError(
            f'"{others[0]}" is no layout; a codec, levels, rates and frames are for layouts, an SVG for them or for '
            "one corpus"
        )
    if others:
        found = [inspect(thing, console) for thing in things]
    else:
        found = inspect_layouts(things, clock, console, frames=frames, svg=svg)
    return {"things": found} if len(found) > 1 else found[0]


def _show(facts: dict[str, Any], console: Console | None) -> dict[str, Any]:
    if console:
        print_facts(facts, console)
    return facts


def _kind_of(thing: str) -> Callable[[str], dict[str, Any]]:
    path = Path(thing)
    if path.is_dir():
        return _kind_of_folder(path)
    if path.is_file():
        return inspect_audio
    if is_codec_name(thing):
        return inspect_codec
    raise InputError(
        f'cannot inspect "{thing}": it is no file or folder, no layout (`hocket inspect` lists them) and no codec '
        f"(`hocket codecs` lists them){did_you_mean(thing, [*layout_names(), BUNDLED])}"
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


def inspect_layouts(
    specs: Sequence[str],
    clock: Clock | None = None,
    console: Console | None = None,
    *,
    frames: int | None = None,
    svg: Path | None = None,
) -> list[dict[str, Any]]:
    """Layouts drawn, with what they cost; several are compared side by side.

    Args:
        specs: presets, stages such as `valle/nar`, expressions, YAML files.
        clock: levels and frame rates; those of the bundled codec unless given.
        console: where to print it for people.
        frames: how many frames to draw; as many as fit well unless given.
        svg: a file for the drawings, one below the other.

    Raises:
        InputError: a layout is none or does not fit the levels, or a rate is given for a stream that none has.
    """
    clock = clock or Clock()
    views = [view_layout(spec, clock, frames) for spec in specs]
    placed = {name for view in views for stage in view.stages for name in stage.layout.streams}
    written = set(re.findall(r"\w+", " ".join(specs)))  # a stream may be named only to match its rate
    for name in clock.frame_rates:
        if name not in placed | written:
            raise InputError(f'a frame rate is given for "{name}", which no layout has' + did_you_mean(name, placed))
    if console:
        print_layouts(views, console)
    if svg:
        svg.write_text(draw_views(views), encoding="utf-8")
    return [view.facts for view in views]


def list_layouts(console: Console | None = None) -> list[dict[str, str]]:
    """The presets: name, expression (of each stage), and when to choose it."""
    schemes = [load_scheme(name) for name in layout_names()]
    facts = [
        {"name": s.name, "layout": "; ".join(stage.layout.expression for stage in s.stages), "when": s.when}
        for s in schemes
    ]
    if console:
        print_presets(facts, console)
    return facts


def inspect_codec(name: str) -> dict[str, Any]:
    """Rates and identity of a codec."""
    return {"kind": "codec", "name": name, **codec_facts(load_codec(name).identity)}


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
