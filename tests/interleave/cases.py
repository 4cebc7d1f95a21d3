"""What the promises are tested over: every stage of every preset, and expressions for what these leave out."""

from fractions import Fraction

import numpy as np

from hocket.errors import InputError
from hocket.interleave import Layout, Plan, Stage, layout_names, load_layout, load_scheme

CODE_STREAMS = ("audio", "user", "source", "target", "left", "right")
RATES = {name: Fraction(25) for name in (*CODE_STREAMS, "aligned_text")} | {"semantic": Fraction(50, 3)}
EXPRESSIONS = [
    "Delay(audio, [0, 3, ...], offset=2)",
    "Flatten(audio, groups=[2, ...])",
    'Flatten(audio, order="level", groups=[1, -1])',
    "CoarseFirst(audio, [0, 2, ...])",
    "Concat(Flatten(audio[:1]), Parallel(audio[1:]))",
    'Concat(Marker("<bos>"), Flatten(semantic), Delay(audio))',
    "Stack(Repeat(semantic, 3/2), Lead(Delay(audio), 2))",
    "Stack(Lead(Repeat(Delay(user, [0, 1, ...]), 2), 3), Flatten(audio))",
    "Alternate(Delay(audio), Flatten(user), ratio=(3, 2))",
    'Alternate(text, Concat(Flatten(audio, order="level"), Parallel(user)), semantic, ratio=(2, 3, 4))',
    "Alternate(Stack(Parallel(audio), Delay(user)), Repeat(semantic, 5/2), ratio=(4, 1))",
    'Multispeaker(Delay(audio), Flatten(user), by="turn")',
    'Concat(Flatten(semantic), Alternate(text, Delay(audio), spans="turn"))',
    'Alternate(Flatten(semantic), Delay(audio, [0, 2, ...]), Flatten(user, order="level"), spans="either")',
]
PRESETS = layout_names()
CASES = [*PRESETS, *EXPRESSIONS]


def levels_by_stream(k: int) -> dict[str, int]:
    return dict.fromkeys(CODE_STREAMS, k) | {"semantic": 1}


def stages(case: str, k: int) -> list[Stage]:
    """The stages of a preset or expression with `k` levels; none where it says that it does not fit them."""
    try:
        if case in PRESETS:
            return list(load_scheme(case, levels_by_stream(k), RATES).stages)
        return [Stage(name=case, layout=load_layout(case, levels_by_stream(k), RATES))]
    except InputError as error:
        if "levels" not in str(error):
            raise
        return []


def lengths_for(layout: Layout, numbers: list[int]) -> dict[str, int]:
    return dict(zip(layout.streams, numbers, strict=False))


def spans_for(layout: Layout, lengths: dict[str, int], seed: int = 0, n_units: int = 4) -> dict | None:
    """Random boundaries of units, for layouts that go by spans."""
    if not layout.span_nodes():
        return None
    rng = np.random.default_rng(seed)
    names = layout.span_nodes()[0].part_streams
    return {n: [0, *sorted(rng.integers(0, lengths[n] + 1, n_units - 1).tolist()), lengths[n]] for n in names}


def plan_for(layout: Layout, lengths: dict[str, int], seed: int = 0, **arguments) -> Plan:
    return layout.plan(lengths, spans=spans_for(layout, lengths, seed), seed=seed, **arguments)


def codes_for(layout: Layout, lengths: dict[str, int], size: int = 50) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {name: rng.integers(0, size, (lengths[name], k)).astype(np.uint16) for name, k in layout.streams.items()}


def grid_of(expression: str, lengths: dict[str, int], levels=2, **arguments) -> list[str]:
    """The rows of a plan as words: `a0` is level 0 of frame 0 of a stream that begins with a; symbols as they are."""
    layout = load_layout(expression, levels)
    plan = layout.plan(lengths, **arguments)
    names, rows = list(layout.streams), []
    for row in range(plan.n_rows):
        words = []
        for step in range(plan.n_steps):
            source, stream = plan.source_TR[step, row], plan.stream_TR[step, row]
            if source < len(plan.symbols):
                words.append("." if source == 0 else plan.symbols[source].strip("<>"))
            else:
                copy = "'" if plan.legal_TR[step, row] == 0 else ""
                words.append(f"{names[stream][0]}{plan.frame_TR[step, row]}{'xyzw'[plan.level_TR[step, row]]}{copy}")
        rows.append(" ".join(words))
    return rows
