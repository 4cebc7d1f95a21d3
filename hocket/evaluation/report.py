"""The page of a run: one file with players, spectrograms, losses, the token grid and a table; nothing outside it.

`build_report` reads the run folder, scores its newest checkpoint if that has not been done, and writes report.html.
Whatever is not there (a sample, held-out speech, the corpus itself) is left out of the page, not shown empty.
The demo's page is about 2 MB, most of it audio, and takes a few seconds to make.

Shapes: T frames, K levels.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

import hocket
from hocket.errors import InputError
from hocket.evaluation.facts import Group, Tile, run_table, run_tiles
from hocket.evaluation.listening import players
from hocket.evaluation.plots import Panel, panels, smooth
from hocket.evaluation.runs import Run, Sample, read_run
from hocket.evaluation.scores import Scores, beats_baselines, score_run
from hocket.interleave import draw_svg, load_layout

REPORT_FILE = "report.html"
TEMPLATES = Path(__file__).parent / "templates"
GRID_BEFORE, GRID_AFTER = 12, 16
"""Steps drawn on each side of where the prompt ends."""
KIND_NAMES = {"train": "train", "valid": "held-out", "unigram": "unigram", "bigram": "bigram"}
LEGEND = {
    "valid": "held-out loss",
    "train": "training loss, averaged over neighbouring steps",
    "unigram": "unigram of the corpus, on held-out codes",
    "bigram": "bigram, at the leading level",
}
SMALL_HOURS, SMALL_PARAMETERS = 1.0, 30e6


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A line of the bits chart."""

    kind: str
    label: str
    percent: float
    value: str


def build_report(run_folder: str | Path, scores: Scores | None = None) -> Path:
    """Write report.html of a run and return its path.

    Args:
        run_folder: what `hocket train` wrote, perhaps with a sample beside it.
        scores: of the newest checkpoint; taken or made there unless given.

    Raises:
        InputError: the folder is no run.
    """
    run = read_run(run_folder)
    scores = scores or _try_to_score(run)
    page = render(page_context(run, scores, Sample.load(run.folder)))
    return write_whole(run.folder / REPORT_FILE, page)


def write_whole(path: Path, text: str) -> Path:
    """Write a file, whole or not at all; its path."""
    aside = path.with_suffix(".writing")
    aside.write_text(text, encoding="utf-8")
    os.replace(aside, path)
    return path


def _try_to_score(run: Run) -> Scores | None:
    """The scores, or None where the checkpoint or its corpus is not there: the page then goes without them."""
    try:
        return score_run(run)
    except InputError:
        return None


def render(context: dict[str, Any], template: str = "report.html.jinja") -> str:
    """The page for a context."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(context)


def page_context(run: Run, scores: Scores | None, sample: Sample | None) -> dict[str, Any]:
    """Everything the template names."""
    clips = players(run.folder, sample)
    charts = loss_panels(run, scores)
    tiles: list[Tile] = run_tiles(run, scores, sample)
    table: list[Group] = run_table(run, scores, sample)
    return {
        "name": run.name,
        "version": hocket.__version__,
        "style": Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),
        "lead": _lead(run, scores),
        "tiles": tiles,
        "players": clips,
        "has_seam": any(clip.seam for clip in clips),
        "sample": sample,
        "listening": _what_to_hear(scores, sample),
        "panels": charts,
        "legend": [item for item in LEGEND.items() if any(item[0] == c.kind for p in charts for c in p.curves)],
        "kind_names": KIND_NAMES,
        "verdict": _verdict(run, scores),
        "loss_note": _loss_note(scores),
        "bits": _bits_bars(scores) if scores else [],
        "bits_note": _bits_note(scores) if scores else "",
        "grid": _draw_grid(scores, sample),
        "grid_note": _grid_note(sample),
        "layout": scores.layout if scores else "",
        "table": table,
        "commands": _commands(run, sample),
    }


def _lead(run: Run, scores: Scores | None) -> str:
    if scores is None:
        return f"A language model over audio codec tokens, {run.step or 0:,} training steps."
    return (
        f"A language model of {scores.n_parameters / 1e6:.1f} million parameters over the codes of the codec "
        f"“{scores.codec['name']}”, trained for {scores.step:,} steps on {_duration(scores.train_hours)} of speech."
    )


def _duration(hours: float) -> str:
    return f"{60 * hours:.0f} minutes" if hours < 2 else f"{hours:,.1f} hours"


def _what_to_hear(scores: Scores | None, sample: Sample | None) -> str:
    given = f"The model hears {sample.prompt_seconds:.1f} s of a clip it has never seen and goes on. " if sample else ""
    small = scores and scores.train_hours < SMALL_HOURS and scores.n_parameters < SMALL_PARAMETERS
    if not small:
        return given + "Judge the continuation beside the resynthesis: no model over these codes can sound better."
    return given + (
        "So small a model, on so little speech, learns the sound of a voice and nothing of what is said: expect "
        "babble by the same speaker in the same room, with speech-like rhythm and syllables, now and then a piece of "
        "a word, gaps and murmurs between, and no sense. The ceiling is the resynthesis: the codec's own copy of the "
        "original, whose blur no model over its codes can undo. More speech helps most, then more steps and width."
    )


def loss_panels(run: Run, scores: Scores | None) -> list[Panel]:
    """A chart for each block: training and held-out loss over the steps, the baselines dashed."""
    charts: dict[str, dict[str, Any]] = {}
    end = max((row["step"] for row in run.train + run.valid), default=0)
    for block in run.blocks:
        lines = {"train": smooth(run.line(f"loss/{block}")), "valid": run.line(f"valid/{block}")}
        stream, _, level = block.partition(".")
        is_scored = stream == (scores.stream if scores else "audio")
        if scores and is_scored and int(level) < scores.levels:
            flat = scores.baselines
            lines["unigram"] = [(0, flat.unigram[int(level)]), (end, flat.unigram[int(level)])]
            if int(level) == flat.leader:
                lines["bigram"] = [(0, flat.bigram), (end, flat.bigram)]
        title = f"level {level}" if is_scored else block
        charts[title] = {kind: line for kind, line in lines.items() if line}
    charts = {title: lines for title, lines in charts.items() if lines}
    return panels(charts) if charts else []


def _verdict(run: Run, scores: Scores | None) -> str:
    if scores is None:
        return "Cross-entropy in nats per cell."
    below, beats_bigram = beats_baselines(scores)
    leader, losses = scores.baselines.leader, scores.level_losses
    every = f"all {len(losses)} levels" if below == len(losses) else f"{below} of {len(losses)} levels"
    verb = "below" if beats_bigram else "not yet below"
    at_leader = (
        f"; at level {leader} it is {losses[leader]:.2f} nats, {verb} the bigram's {scores.baselines.bigram:.2f}"
        if leader in losses
        else ""
    )
    return f"At step {scores.step:,} the held-out loss is below the unigram of the corpus at {every}{at_leader}."


def _loss_note(scores: Scores | None) -> str:
    note = "Nats per cell over training steps, all charts to one scale. The training loss is measured while learning."
    if scores is None:
        return note
    ends = f" (at level {scores.baselines.leader} this includes the end of each clip)"
    ends = ends if scores.objective == "next-token" else ""
    return note + (
        f" The baselines are counted on the training split and scored on the same held-out cells and choices as the "
        f"model{ends}; their smoothing is the one that does best on the held-out codes.{_in_place_note(scores)}"
    )


def _in_place_note(scores: Scores) -> str:
    """What the losses of other objectives than next-token mean."""
    if scores.objective == "masked":
        return (
            " Masked objectives have no exact likelihood: a point of the curves is the mean over masked codes, with as "
            "many shown as the schedule draws."
        )
    if scores.objective == "levels":
        return " A level is predicted at one go, from all levels below it."
    return ""


def _bits_bars(scores: Scores) -> list[Bar]:
    bits, raw = scores.bits, scores.valid_seconds and _raw_bits(scores)
    unigram = _unigram_bits(scores)
    parts = [("part", "codes", bits.audio), ("part", "structure", bits.structure)]
    parts += [("part", name, value) for name, value in bits.further.items()]
    total = "total" if bits.interval is None else "at most"
    rows = [("reference", "codec, uncompressed", raw), ("reference", "unigram of each level", unigram)]
    rows += [("total", f"this model, {total}", bits.total)] + [row for row in parts if row[2] > 0]
    top = max(value for _, _, value in rows)
    return [Bar(kind=k, label=label, percent=100 * v / top, value=f"{v:,.1f} bit/s") for k, label, v in rows]


def _raw_bits(scores: Scores) -> float:
    sizes = [scores.codec["codebook_sizes"][level] for level in scores.level_losses]
    return scores.codec["sample_rate"] / scores.codec["hop"] * float(np.log2(sizes).sum())


def _unigram_bits(scores: Scores) -> float:
    frames_per_second = scores.codec["sample_rate"] / scores.codec["hop"]
    return frames_per_second * sum(scores.baselines.unigram[k] for k in scores.level_losses) / float(np.log(2))


def _bits_note(scores: Scores) -> str:
    bits = scores.bits
    structure = ", and the structure (that a clip goes on or ends)" if scores.objective == "next-token" else ""
    bound = (
        f" It is a bound, as masked objectives have no exact likelihood: {bits.say_total(1)} bit/s, the mean over "
        "random masks and its 95 % interval."
        if bits.interval is not None
        else ""
    )
    return (
        f"What the model needs to name {bits.seconds:.0f} s of held-out speech: the code within its codebook"
        f"{structure}.{bound} Compare it only at the same codec ({scores.codec['name']}, "
        f"{scores.levels} levels) and the same context ({scores.context:,} steps)."
    )


def _draw_grid(scores: Scores | None, sample: Sample | None) -> Markup | None:
    if scores is None or not {"audio"} >= set(_layout_of(scores).streams):
        return None
    layout = _layout_of(scores)
    if sample is None:
        ended = ("audio",) if scores.objective == "next-token" else ()
        return Markup(draw_svg(layout.plan({"audio": GRID_AFTER}, ended=ended), title=scores.layout))
    codes_TK = np.array(sample.prompt_codes + sample.codes, dtype=np.int64)
    plan = layout.plan({"audio": len(codes_TK)}, ended=())
    n_prompt = len(sample.prompt_codes)
    seam = int(plan.where["audio"][min(n_prompt, len(codes_TK) - 1)].min() // plan.n_rows)
    first = max(0, seam - GRID_BEFORE)
    known, codes = {"audio": n_prompt}, {"audio": codes_TK}
    steps = GRID_BEFORE + GRID_AFTER
    return Markup(draw_svg(plan, steps, known, f"tokens around step {seam}", first_step=first, codes=codes))


def _layout_of(scores: Scores):
    return load_layout(scores.layout, levels=scores.levels)


def _grid_note(sample: Sample | None) -> str:
    if sample is None:
        return "The first frames of a clip as the model reads them: a column is a step, a row is one id sequence."
    return (
        "The codes around the place where the prompt ends, as the model read and wrote them: a column is a step, a row "
        "is one id sequence, a number is an entry of that level's codebook. Outlined cells were given by the prompt, "
        "the others were sampled."
    )


def _commands(run: Run, sample: Sample | None) -> list[dict[str, str]]:
    steps = 2 * int(run.setting("training.steps") or 0)
    recipe = "demo" if sample else "RECIPE"
    here = run.folder.as_posix()
    hear = {
        "text": "Another continuation, with another seed:",
        "command": f"hocket generate {here} --prompt {here}/prompt.wav --seconds 4 --seed 1 --out again.wav",
    }
    more = {
        "text": "Train the same model for longer; the run goes on from its last checkpoint:",
        "command": f"hocket train {recipe} output={here} training.steps={steps}",
    }
    other = {
        "text": "Another interleaving of the same codes, as a run of its own:",
        "command": f"hocket train {recipe} name=flatten interleave=flatten",
    }
    return [hear, more, other] if sample else []
