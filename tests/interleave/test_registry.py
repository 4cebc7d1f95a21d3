"""Layouts of one's own: nodes from a file, from Python and from installed packages; presets by path and entry point."""

import sys
from pathlib import Path

import numpy as np
import pytest

from hocket.errors import InputError
from hocket.interleave import (
    Concat,
    Delay,
    Layout,
    Leaf,
    build_scheme,
    layout_names,
    load_layout,
    load_scheme,
    register,
)
from hocket.interleave import registry as room
from hocket.interleave.parse import written

ZIGZAG = '''
from dataclasses import dataclass, replace

import numpy as np

from hocket.interleave import Leaf, StreamRef


@dataclass(frozen=True)
class Zigzag(Leaf):
    """Levels one after another, backwards in every second frame."""

    stream: StreamRef | str

    def __post_init__(self):
        object.__setattr__(self, "stream", StreamRef.parse(self.stream))

    @property
    def expression(self):
        return f"Zigzag({self.ref})"

    @property
    def rows(self):
        return np.zeros(self.ref.n_levels, dtype=int)

    @property
    def is_online(self):
        return True

    def resolve(self, levels, rates):
        return replace(self, stream=self.ref.resolve(levels.get(self.ref.name)))

    def steps(self, frame_N1, n_N1, ends_N1):
        k, order_K = self.ref.n_levels, np.arange(self.ref.n_levels)
        return frame_N1 * k + np.where((frame_N1 % 2 == 1) & (frame_N1 < n_N1), k - 1 - order_K, order_K)
'''


@pytest.fixture(autouse=True)
def _same_nodes_after(monkeypatch):
    """Nodes that a test registers are gone after it."""
    monkeypatch.setattr(room, "_NODES", dict(room._NODES))
    monkeypatch.setattr(room, "_FILES", dict(room._FILES))


@pytest.fixture
def own(tmp_path) -> Path:
    path = tmp_path / "own.py"
    path.write_text(ZIGZAG)
    return path


def install(folder: Path, monkeypatch, module: str, points: dict[str, list[str]]) -> None:
    """A package `fakepack` with entry points, as pip would leave it."""
    info = folder / "fakepack-1.0.dist-info"
    info.mkdir()
    (folder / "fakepack.py").write_text(module)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fakepack\nVersion: 1.0\n")
    lines = [line for group, values in points.items() for line in (f"[{group}]", *values)]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "fakepack", raising=False)


def works(layout: Layout) -> None:
    codes = {name: np.arange(5 * k).reshape(5, k) for name, k in layout.streams.items()}
    for n in (5, 0):
        cut = {name: codes_TK[:n] for name, codes_TK in codes.items()}
        plan = layout.plan(dict.fromkeys(cut, n))
        back = plan.deinterleave(plan.interleave(cut))
        assert all(np.array_equal(back[name], cut[name]) for name in cut)


def test_a_node_from_a_file_by_hand(own):
    layout = load_layout(f"{own}:Zigzag(audio)", 3)
    grid_TR = layout.plan({"audio": 2}).interleave({"audio": np.array([[1, 2, 3], [4, 5, 6]])})
    assert grid_TR[:, 0].tolist() == [-2, 1, 2, 3, 6, 5, 4, -5]
    works(layout)
    works(load_layout(f"{own}:Concat(text, Zigzag(audio))", 3))
    works(load_layout(f"{own}:Alternate(text, Zigzag(audio), ratio=(2, 3))", 3))
    assert layout.steps_per_second({"audio": 25}) == 75
    batch = layout.batch({"audio": [2, 0, 3]})
    alone = [layout.plan({"audio": n}).frame_TR for n in (2, 0, 3)]
    assert np.array_equal(batch.frame_TR, np.concatenate(alone))


def test_a_layout_of_a_file_reads_back_as_it_is_written(own):
    layout = load_layout(f"{own}:Concat(text, Zigzag(audio))", 3)
    assert written(layout) == f"{own}:Concat(Text(text), Zigzag(audio[:3]))"
    again = load_layout(written(layout))
    assert again == layout
    assert written(again) == written(layout)
    assert written(load_layout("delay", 2)) == "Delay(audio[:2], [0, 1])"


def test_an_edited_file_is_read_anew(own):
    assert load_layout(f"{own}:Zigzag(audio)", 2).n_rows == 1
    own.write_text(ZIGZAG.replace("np.zeros(self.ref.n_levels, dtype=int)", "np.arange(self.ref.n_levels)"))
    assert load_layout(f"{own}:Zigzag(audio)", 2).n_rows == 2


def test_a_preset_may_hold_nodes_of_a_file(own, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(f"# Mine.\nlayout: {own}:Zigzag(audio)\nwhen: Never.\n")
    assert load_layout(path, 2) == load_layout(f"{own}:Zigzag(audio)", 2)
    scheme = load_scheme(path, 2)
    assert (scheme.name, scheme.description, scheme.when) == ("mine", "Mine.", "Never.")


def test_a_node_is_registered_in_python():
    @register
    class Mine(Delay):
        @property
        def expression(self) -> str:
            return super().expression.replace("Delay", "Mine")

    layout = load_layout("Concat(text, Mine(audio, [0, 2]))")
    works(layout)
    assert load_layout(written(layout)) == layout
    assert register(Mine) is Mine


def test_nodes_and_layouts_of_installed_packages(own, tmp_path, monkeypatch):
    (tmp_path / "far.yaml").write_text("layout: Flatten(audio)\n")
    module = ZIGZAG + f"PATH = {str(tmp_path / 'far.yaml')!r}\nTEXT = 'Concat(text, Zigzag(audio))'\n"
    module += "LAYOUT = Zigzag('audio')\n"
    points = ["far = fakepack:PATH", "words = fakepack:TEXT", "ready = fakepack:LAYOUT", "seven = fakepack:__name__"]
    points += ["gone = fakepack:NOTHING", "lost = no_such_package:x"]
    install(tmp_path, monkeypatch, module, {"hocket.nodes": ["Zigzag = fakepack:Zigzag"], "hocket.layouts": points})
    assert {"far", "words", "ready", "delay"} <= set(layout_names())
    assert load_layout("far", 2).expression == "Flatten(audio[:2])"
    assert load_layout("words", 2).expression == "Concat(Text(text), Zigzag(audio[:2]))"
    assert load_layout("ready", 2).expression == "Zigzag(audio[:2])"
    layout = load_layout("Zigzag(audio)", 2)
    works(layout)
    assert written(layout) == "Zigzag(audio[:2])"
    for name in ("gone", "lost"):
        with pytest.raises(InputError, match=f'"{name}" of an installed package cannot be loaded'):
            load_layout(name, 2)


def test_an_entry_point_that_is_no_layout_is_refused(tmp_path, monkeypatch):
    install(tmp_path, monkeypatch, "SEVEN = 7\n", {"hocket.layouts": ["seven = fakepack:SEVEN"]})
    with pytest.raises(InputError, match='layout "seven" of fakepack:SEVEN is a int, not a path or a layout'):
        load_layout("seven")


def test_an_entry_point_that_is_no_node_is_refused(tmp_path, monkeypatch):
    install(tmp_path, monkeypatch, "SEVEN = 7\n", {"hocket.nodes": ["Seven = fakepack:SEVEN"]})
    with pytest.raises(InputError, match="7 is no layout: derive it from"):
        load_layout("Seven(audio)")


def test_names_of_hockets_nodes_are_taken(tmp_path):
    taken = type("Delay", (Delay,), {})
    with pytest.raises(InputError, match='"Delay" is a node of hocket already'):
        register(taken)
    path = tmp_path / "own.py"
    path.write_text(ZIGZAG.replace("Zigzag", "Flatten"))
    with pytest.raises(InputError, match='"Flatten" is a node of hocket already'):
        load_layout(f"{path}:Flatten(audio)", 2)


@pytest.mark.parametrize("node", [3, "Delay", Delay("audio"), dict])
def test_what_is_no_layout_is_not_registered(node):
    with pytest.raises(InputError, match="is no layout: derive it from"):
        register(node)


def test_an_incomplete_node_says_what_it_lacks():
    class Half(Leaf):
        @property
        def expression(self) -> str:
            return "Half()"

    with pytest.raises(InputError, match="Half is no complete layout: it lacks is_online, resolve, rows, steps"):
        register(Half)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, r"there is no file .*own.py to take layout nodes from"),
        ("def broken(:\n", "own.py cannot be imported: SyntaxError"),
        ("1 / 0\n", "own.py cannot be imported: ZeroDivisionError"),
        ("import no_such_package_at_all\n", "own.py cannot be imported: ModuleNotFoundError"),
        ("x = 3\n", "own.py defines no layout node"),
        ("from hocket.interleave import Delay\n", "own.py defines no layout node"),
    ],
)
def test_files_without_nodes_are_refused(tmp_path, content, sentence):
    path = tmp_path / "own.py"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=sentence):
        load_layout(f"{path}:Zigzag(audio)", 2)


def test_nodes_of_two_files_are_not_written_as_one(own, tmp_path):
    other = tmp_path / "other.py"
    other.write_text(ZIGZAG.replace("Zigzag", "Zagzig"))
    first, second = load_layout(f"{own}:Zigzag(audio)", 2), load_layout(f"{other}:Zagzig(user)", 2)
    with pytest.raises(InputError, match="takes nodes from several files"):
        written(Concat(first, second))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("layout: [1\n", "is no YAML"),
        ("- 3\n", "describes no layout"),
        ("layout: 3\n", "describes no layout"),
        ("layout: Delay(audio)\nlayuot: 3\n", "unknown key"),
        ("layout: Delay(audio)\nhead: deep\n", "head is one of parallel, depth"),
        ("layout: Delay(audio)\ngiven: [user]\n", "user"),
        ("stages: []\n", "a list of stages"),
        ("stages:\n- name: a\n", "a stage needs a name and a layout"),
        ("layout: Dellay(audio)\n", 'unknown node Dellay.*did you mean "Delay"'),
    ],
)
def test_files_that_describe_no_layout_are_refused(tmp_path, content, sentence):
    path = tmp_path / "mine.yaml"
    path.write_text(content)
    with pytest.raises(InputError, match=sentence):
        load_layout(path, 2)


@pytest.mark.parametrize(
    ("formula", "sentence"),
    [
        ("frame_N1 // 2 + np.arange(2)", "two codes of 4 frames into one cell"),
        ("(n_N1 - 1 - frame_N1) * 2 + np.arange(2)", "but 4 frames have 3 steps|but 4 frames have 2 steps"),
        ("frame_N1 * 2.0 + np.arange(2)", "float64"),
        ("frame_N1 - 1 + np.arange(2)", "at step -1"),
    ],
)
def test_a_wrong_formula_is_refused_before_it_mixes_codes(tmp_path, formula, sentence):
    text = ZIGZAG[: ZIGZAG.rindex("return")] + f"return {formula}\n"
    (tmp_path / "own.py").write_text(text)
    with pytest.raises(InputError, match=sentence):
        load_layout(f"{tmp_path / 'own.py'}:Zigzag(audio)", levels=2).plan({"audio": 4}, ended=())


def test_a_list_of_one_stage_may_place_some_levels():
    """As each stage of a cascade may, trained by itself."""
    scheme = build_scheme("own", {"stages": [{"name": "coarse", "layout": "Flatten(audio[:4])"}]}, {"audio": 8})
    assert scheme.stage().layout.streams == {"audio": 4}
