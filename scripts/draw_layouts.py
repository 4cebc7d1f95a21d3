"""Makes docs/layouts.md and its drawings from the layouts themselves, so that the page cannot go stale.

    python scripts/draw_layouts.py            writes docs/layouts.md and docs/layouts/*.svg
    python scripts/draw_layouts.py --check    exit code 1 where they differ from what would be written

The words are in docs/layouts/ (page.md.jinja, nodes.yaml, notes.yaml), the comments of configs/interleave/*.yaml are
quoted; everything else is measured on plans. Takes about 4 seconds.
"""

import sys
from fractions import Fraction
from pathlib import Path

import jinja2
import yaml

from hocket.evaluation.clock import Clock
from hocket.evaluation.layout_facts import LayoutView, StageView, view_layout
from hocket.evaluation.layout_tables import draw_views, say_first_frame, say_seconds
from hocket.interleave import draw_svg, draw_text, layout_names, load_layout

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "layouts"
LEVELS = {"dia": 9, "audiolm": 6, "audiolm-stages": 6, "moshi": 8}
"""Levels of the drawings that need more than 4."""
RATED_LEVELS = {"dia": 9}
"""Levels at which a preset's rates are given, where 8 do not fit."""
DRAWN_RATES = {"soundstorm": {"semantic": Fraction(25), "audio": Fraction(50)}}
UNITS = {"mimi": Fraction(25, 2)}
"""Hz of the units beside a codec; 25 otherwise."""
CODECS = {"mimi": ("Mimi", 8), "encodec-24khz": ("EnCodec 24 kHz", 8), "encodec-32khz": ("EnCodec 32 kHz", 4)}
DIA = {"dac-44khz": ("DAC 44.1 kHz", 9), "mimi": ("Mimi", 9), "encodec-24khz": ("EnCodec 24 kHz", 9)}


def make() -> dict[Path, str]:
    """Every file of the page by its path."""
    notes = read("notes.yaml")
    files = {FOLDER / f"{name}.svg": draw_views([drawn(name)]) for name in layout_names()}
    nodes = read("nodes.yaml")
    for number, node in enumerate(nodes):
        files[FOLDER / f"node-{number:02}.svg"] = draw_node(node["node"], node["lengths"])
    own = (ROOT / "examples" / "chunks.py").read_text(encoding="utf-8").partition("\n\nif __name__")[0].rstrip()
    own_layout = load_layout(f"{ROOT / 'examples' / 'chunks.py'}:Chunks(audio, size=3)", 3)
    files[FOLDER / "own-chunks.svg"] = draw_svg(own_layout.plan({"audio": 7}))
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False)
    template = environment.from_string((FOLDER / "page.md.jinja").read_text(encoding="utf-8"))
    files[ROOT / "docs" / "layouts.md"] = template.render(
        sample=draw_text(load_layout("delay", 4).plan({"audio": 6})),
        odd_ones="dia at 9, its own",
        overview=overview(),
        nodes=node_list(nodes),
        own_node=own,
        own_title=str(own_layout),
        drawn_larger=", ".join(f"{name} {k}" for name, k in LEVELS.items()),
        presets="\n\n".join(preset_section(name, notes[name]) for name in layout_names()),
    )
    return files


def read(name: str):
    """The words that are kept in YAML."""
    return yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))


def drawn(name: str) -> LayoutView:
    """A preset at the levels at which it is drawn."""
    clock = Clock(codec="mimi", levels=LEVELS.get(name, 4), frame_rates=DRAWN_RATES.get(name, {}))
    return view_layout(name, clock)


def rated(name: str, codec: str, levels: int) -> LayoutView:
    """A preset at a codec's rates."""
    return view_layout(
        name, Clock(codec=codec, levels=levels, frame_rates={"semantic": UNITS.get(codec, Fraction(25))})
    )


def draw_node(expression: str, lengths: dict[str, int]) -> str:
    layout = load_layout(expression, {"audio": 3, "user": 3, "semantic": 1})
    spans = None
    if 'spans="word"' in expression:
        spans = [("text", 0, 2), ("semantic", 4, 8)]
    elif 'spans="either"' in expression:
        spans = [(name, 0, n) for name, n in lengths.items()]
    elif "spans" in expression:
        spans = {"text": [0, 2, 4], "semantic": [0, 4, 8]}
    return draw_svg(layout.plan(lengths, spans=spans), title=expression, legend=False)


def node_list(nodes: list[dict]) -> str:
    """Each node with what it does, above its drawing."""
    return "\n\n".join(
        f"**`{node['node']}`**: {node['words']}\n\n![{node['node']}](layouts/node-{number:02}.svg)"
        for number, node in enumerate(nodes)
    )


def overview() -> str:
    """A line for each preset or stage."""
    lines = [
        "| layout | rows | steps/s, Mimi | EnCodec | first frame, Mimi | EnCodec | online | head | sampled |",
        "|---|--:|--:|--:|---|---|---|---|---|",
    ]
    for name in layout_names():
        k = RATED_LEVELS.get(name, 8)
        mimi, encodec = rated(name, "mimi", k), rated(name, "encodec-24khz", k)
        for (heading, one), (_, other) in zip(mimi.titled, encodec.titled, strict=True):
            facts, stage = one.facts, one.stage
            how = stage.head if stage.objective == "next-token" else stage.objective
            cells = [f"[{heading}](#{name})", facts["rows"], f"{facts['steps_per_second']:g}"]
            cells += [
                f"{other.facts['steps_per_second']:g}",
                say_first_frame(one.first_frame),
                _only_time(other),
            ]
            cells += ["yes" if facts["online"] else "no", how, "in passes" if one.stage.in_place else "by steps"]
            lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def _only_time(view: StageView) -> str:
    """The seconds of the first frame, or what stands for them."""
    first = view.first_frame
    if first is None or first.steps is None or first.seconds is None:
        return "–"
    return say_seconds(first.seconds)


def preset_section(name: str, note: dict[str, str]) -> str:
    view = drawn(name)
    parts = [
        f"### {name}",
        view.scheme.description,
        f"![{name}](layouts/{name}.svg)",
        "\n".join(_stage_line(name, view, number) for number in range(len(view.stages))),
        f"**When:** {view.scheme.when}",
        f"**Source:** {note['source']}",
        f"**What differs:** {note['differs']}",
        rate_table(name),
    ]
    return "\n\n".join(parts)


def _written(name: str, stage: int) -> str:
    """A stage's expression as its file has it."""
    content = yaml.safe_load((ROOT / "configs" / "interleave" / f"{name}.yaml").read_text(encoding="utf-8"))
    return content["stages"][stage]["layout"] if "stages" in content else content["layout"]


def _stage_line(name: str, view: LayoutView, number: int) -> str:
    """A stage's expression and how it is trained."""
    stage = view.stages[number].stage
    given = f"; given: {', '.join(f'`{name}`' for name in stage.given)}" if stage.given else ""
    own = f"- {stage.name}: " if len(view.stages) > 1 else ""
    how = f"{stage.objective}, {stage.attention} attention, {stage.head} head"
    return f"{own}`{_written(name, number)}`, {how}{given}"


def rate_table(name: str) -> str:
    lines = ["| codec | rows | steps/s | tokens/s | s in 2,048 steps | first frame |", "|---|--:|--:|--:|--:|---|"]
    for codec, (label, levels) in (DIA if name == "dia" else CODECS).items():
        if name.startswith("audiolm") and levels < 5:
            continue
        view = rated(name, codec, levels)
        for stage in view.stages:
            facts = stage.facts
            heading = f"{label}, {levels} levels" + (f": {stage.stage.name}" if len(view.stages) > 1 else "")
            cells = [heading, facts["rows"], f"{facts['steps_per_second']:g}", f"{facts['tokens_per_second']:g}"]
            cells += [f"{facts['seconds_in_context'][2048]:g}", say_first_frame(stage.first_frame)]
            lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def main() -> None:
    """Writes the files, or says which are old."""
    files = make()
    old = [path for path, text in files.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    spare = [path for path in FOLDER.glob("*.svg") if path not in files]
    if "--check" in sys.argv[1:]:
        for path in (*old, *spare):
            print(f"old: {path.relative_to(ROOT)}")
        sys.exit(bool(old or spare))
    for path in old:
        path.write_text(files[path], encoding="utf-8")
    for path in spare:
        path.unlink()
    print(f"{len(old)} of {len(files)} files written, {len(spare)} removed")


if __name__ == "__main__":
    main()
