"""Layouts equal the public implementations bit for bit: audiocraft, transformers, moshi, as golden files hold them.

`benchmarks/golden_layouts.py` made the files and says what is in them. The correspondence, in words:

    audiocraft             Its first step, special tokens in every level, is hocket's step 0 (`<bos>` in row 0); all
                           steps agree. Its K rows are a view of hocket's grid by level: where hocket has one row
                           (Flatten), a step has a code in one level and special tokens in the others.
    MusicGen               The decoder starts with a column of pad: step 0. What a prompt leaves open (-1 in the mask)
                           is what `Plan.known` leaves open.
    Moshi in transformers  The mask has no first step: its columns are hocket's steps from 1 on. So are moshi's delays.
    moshi in training      Initial tokens are step 0. As many steps as frames follow, so hocket's plan, which drains the
                           delayed levels, is longer.
    Dia                    One column of bos is step 0.
    Higgs                  One column of bos is step 0. Every level ends with eos, so one column more follows, all eos;
                           hocket's `<end.audio>` stands where level 0 has its first eos.

Of a stream without frames hocket keeps step 0 alone, the peers also the steps in which delayed levels would drain.

The plans carry no end (`ended=()`), but for the last. audiocraft can also unroll and delay at once, which no published
model does and no node of hocket's; here a node of the test's own does it, with one formula.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hocket.interleave import Layout, Leaf, Plan, StreamRef, load_layout

GOLDEN = Path(__file__).parent / "golden"
OPEN, NO_CODE = "?", -1
Case = dict[str, Any]


def delay(delays: list[int]) -> str:
    return f"Delay(audio, {delays})"


def acoustic(levels: int) -> list[int]:
    return [0, *[1] * (levels - 1)]


def own_delays(case: Case) -> str:
    return delay(case["settings"]["delays"])


def musiclm(case: Case) -> str:
    size = case["settings"]["group_by"]
    parts = [f"Flatten(audio[{first}:{first + size}])" for first in range(0, case["levels"], size)]
    return f"Concat({', '.join(parts)})"


def coarse_first(case: Case) -> str:
    delays = case["settings"].get("delays")
    return f"CoarseFirst(audio, {delays})" if delays else "CoarseFirst(audio)"


EXPRESSIONS: dict[str, Callable[[Case], str]] = {
    "audiocraft_parallel": lambda case: "Parallel(audio)",
    "audiocraft_delay": lambda case: "Delay(audio)",
    "audiocraft_delay_stereo": own_delays,
    "audiocraft_delay_acoustic": own_delays,
    "audiocraft_unrolled": lambda case: "Flatten(audio)",
    "audiocraft_unrolled_partial": lambda case: "Flatten(audio, groups=[1, -1])",
    "audiocraft_coarse_first": coarse_first,
    "audiocraft_coarse_first_delayed": coarse_first,
    "audiocraft_musiclm": musiclm,
    "transformers_musicgen": lambda case: delay([k // case["channels"] for k in range(case["levels"])]),
    "transformers_moshi": lambda case: delay(acoustic(case["levels"])),
    "transformers_dia": lambda case: delay(case["settings"]["delay_pattern"]),
    "transformers_higgs_audio_v2": lambda case: "Delay(audio)",
    "moshi_delays": own_delays,
    "moshi_training": own_delays,
}
SECOND_STEP_FIRST = ("transformers_moshi", "moshi_delays")  # without hocket's step 0
CROPPED = ("moshi_training",)
ALL_END = ("transformers_higgs_audio_v2",)


def load(name: str) -> dict[str, Any]:
    return json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))


PAIRS = [(name, case) for name in EXPRESSIONS for case in load(name)["cases"]]
REVERTED = [(name, case) for name, case in PAIRS if "reverted" in case]


def label(value: str | Case) -> str:
    return value if isinstance(value, str) else f"{value['levels']}x{value['frames']}"


def known_codes(case: Case) -> np.ndarray:
    """Codes `[T, K]` of which no two are equal."""
    return np.arange(case["frames"] * case["levels"]).reshape(case["frames"], case["levels"])


def numbers(lines: list[str]) -> np.ndarray:
    """Codes `[K, S]` of a golden sequence, NO_CODE where a letter stands."""
    rows = [[int(word) if word.isdigit() else NO_CODE for word in line.split()] for line in lines]
    return np.array(rows, dtype=np.int64).reshape(len(lines), -1)


def by_level(plan: Plan, grid_TR: np.ndarray) -> np.ndarray:
    """Codes `[K, S]` of a grid, NO_CODE where a level has no code at a step."""
    where_TK = plan.where["audio"]
    view_KS = np.full((where_TK.shape[1], plan.n_steps), NO_CODE)
    view_KS[np.arange(where_TK.shape[1]), where_TK // plan.n_rows] = grid_TR.reshape(-1)[where_TK]
    assert np.count_nonzero(grid_TR >= 0) == where_TK.size, "every code stands in one cell"
    return view_KS


def plan_for(layout: Layout, case: Case) -> Plan:
    return layout.plan({"audio": case["frames"]}, ended=())


@pytest.mark.parametrize(("name", "case"), PAIRS, ids=label)
def test_sequence_equals_the_peers(name, case):
    plan = plan_for(load_layout(EXPRESSIONS[name](case), levels=case["levels"]), case)
    view_KS = by_level(plan, plan.interleave({"audio": known_codes(case)}))
    peer_KS = numbers(case["sequence"])
    if name in SECOND_STEP_FIRST:
        view_KS = view_KS[:, 1:]
    if name in CROPPED:
        view_KS = view_KS[:, : peer_KS.shape[1]]
    if name in ALL_END:
        assert [line.split()[-1] for line in case["sequence"]] == ["e"] * case["levels"]
        peer_KS = peer_KS[:, :-1]
    if not case["frames"]:
        assert np.all(peer_KS == NO_CODE)
        peer_KS = peer_KS[:, : view_KS.shape[1]]
    if "prompt" in case:
        known_KS = plan.known({"audio": case["prompt"]}).T[:, -view_KS.shape[1] :]
        open_KS = np.array([[word == OPEN for word in line.split()] for line in case["sequence"]])
        assert np.array_equal(known_KS, ~open_KS)
        view_KS = np.where(known_KS, view_KS, NO_CODE)
    assert np.array_equal(view_KS, peer_KS)


@pytest.mark.parametrize(("name", "case"), REVERTED, ids=label)
def test_inverse_equals_the_peers(name, case):
    plan = plan_for(load_layout(EXPRESSIONS[name](case), levels=case["levels"]), case)
    codes_TK = plan.deinterleave(plan.interleave({"audio": known_codes(case)}))["audio"]
    reverted = [[word for word in line.split() if word.isdigit()] for line in case["reverted"]]
    assert codes_TK.T.astype(str).tolist() == reverted


@pytest.mark.parametrize("case", load("transformers_higgs_audio_v2")["cases"], ids=label)
def test_higgs_ends_where_our_leader_does(case):
    plan = load_layout("Delay(audio)", levels=case["levels"]).plan({"audio": case["frames"]})
    ends = np.argwhere(plan.source_TR == plan.symbols.index("<end.audio>"))
    assert ends.tolist() == [[case["sequence"][0].split().index("e"), 0]]


@pytest.mark.parametrize("case", [case for case in load("moshi_delays")["cases"] if case["levels"] == 17], ids=label)
def test_moshi_stacks_text_own_and_user_levels(case):
    layout = load_layout("Stack(aligned_text, Delay(audio, [0, 1, ...]), Delay(user, [0, 1, ...]))", levels=8)
    plan = layout.plan(dict.fromkeys(("aligned_text", "audio", "user"), case["frames"]), ended=())
    text_TK, audio_TK, user_TK = np.split(known_codes(case), (1, 9), axis=1)
    grid_TR = plan.interleave({"aligned_text": text_TK, "audio": audio_TK, "user": user_TK})
    rows_RT = np.maximum(grid_TR, NO_CODE).T[:, 1:]
    assert np.array_equal(rows_RT, numbers(case["sequence"])[:, : plan.n_steps - 1])
    assert case["settings"]["delays"] == load("moshi_delays")["published"]


@dataclass(frozen=True)
class Unrolled(Leaf):
    """Groups of levels one after another, a group of frame t at time t + delay; at one time, earlier frames first."""

    stream: StreamRef
    group_K: tuple[int, ...]
    delay_K: tuple[int, ...]

    @property
    def expression(self) -> str:
        return f"Unrolled({self.stream}, {list(self.group_K)}, {list(self.delay_K)})"

    @property
    def rows(self) -> np.ndarray:
        return np.arange(self.ref.n_levels)

    @property
    def is_online(self) -> bool:
        return False

    def resolve(self, levels, rates) -> "Unrolled":
        return self

    def steps(self, frame_N1, n_N1, ends_N1) -> np.ndarray:
        time_NK, steps_NK = frame_N1 + np.array(self.delay_K), 0
        for group, delay_G in dict(zip(self.group_K, self.delay_K, strict=True)).items():
            first_K = [(delay_G, -group) > (d, -g) for d, g in zip(self.delay_K, self.group_K, strict=True)]
            steps_NK += np.maximum(time_NK - delay_G, 0) + (time_NK >= delay_G) * np.array(first_K)
        return np.asarray(steps_NK)


@pytest.mark.parametrize("name", ["audiocraft_unrolled_delayed", "audiocraft_unrolled_partial_delayed"])
def test_a_node_of_ones_own_equals_the_peers(name):
    for case in load(name)["cases"]:
        groups = case["settings"].get("flattening", range(case["levels"]))
        stream = StreamRef("audio", 0, case["levels"])
        plan = plan_for(Unrolled(stream, tuple(groups), tuple(case["settings"]["delays"])), case)
        view_KS, peer_KS = by_level(plan, plan.interleave({"audio": known_codes(case)})), numbers(case["sequence"])
        assert np.array_equal(view_KS, peer_KS[:, : plan.n_steps])
        assert np.all(peer_KS[:, plan.n_steps :] == NO_CODE), "the peer drains levels that have no frames left"
