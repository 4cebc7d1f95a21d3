"""Layouts by name, from a file, or from an expression such as `Concat(Text(text), Delay(audio))`.

A preset is a YAML file: what it is and where it comes from in the comment at its top, then

    layout: Delay(audio)            or   stages: a list of {name, layout, …}
    given: [user]                   streams, or levels as audio[:4], that are never predicted
    objective: next-token           or masked (MaskGIT), levels (VALL-E's second stage)
    attention: causal               or bidirectional
    head: parallel                  or depth
    when: One sentence: when to choose it.
"""

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import yaml

from hocket.errors import InputError, did_you_mean
from hocket.interleave.layout import Layout, resolve_levels
from hocket.interleave.registry import find_nodes, find_presets, load_preset, source_of
from hocket.interleave.stream import FrameRates, StreamRef
from hocket.resources import config_folder

OBJECTIVES, ATTENTIONS, HEADS = ("next-token", "masked", "levels"), ("causal", "bidirectional"), ("parallel", "depth")
Levels = int | Mapping[str, int] | None


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One model of a scheme: what it reads and writes, and how it is trained."""

    name: str
    layout: Layout
    given: tuple[str, ...] = ()
    """Streams, or levels of them as `audio[:4]`, that are never predicted."""
    objective: str = "next-token"
    attention: str = "causal"
    head: str = "parallel"

    @property
    def ended(self) -> tuple[str, ...]:
        """The streams whose end stands in a document: all for next-token, else those that are given whole.

        What is predicted in place (MaskGIT, VALL-E's second stage) has its length from outside.
        """
        names = tuple(self.layout.streams)
        return tuple(n for n in names if n not in self.predicted) if self.in_place else names

    @property
    def in_place(self) -> bool:
        """Whether codes are predicted at their own step, from others that are shown, instead of from earlier steps."""
        return self.objective != "next-token"

    @property
    def legal_sets(self) -> tuple[tuple[str, ...], ...]:
        """What a cell may hold, as `Layout.legal_sets`; without ends and switches where codes come in place."""
        if not self.in_place:
            return self.layout.legal_sets
        return tuple(
            tuple(name for name in names if not name.startswith(("<end.", "<to."))) for names in self.layout.legal_sets
        )

    @property
    def predicted(self) -> tuple[str, ...]:
        """The streams that the stage's model writes, at least one level of each."""
        fixed = self.layout.find_levels(self.given)
        return tuple(n for n, k in self.layout.streams.items() if any((n, level) not in fixed for level in range(k)))

    @property
    def predicted_levels(self) -> tuple[tuple[str, int], ...]:
        """Stream and level of all that the stage's model writes, stream after stream, lowest level first."""
        fixed, levels = self.layout.find_levels(self.given), self.layout.streams.items()
        return tuple((name, k) for name, n_levels in levels for k in range(n_levels) if (name, k) not in fixed)

    def block(self, stream: str, level: int) -> str:
        """The block that the codes of a level are of."""
        return self.layout.legal_sets[self.layout.legal_cells.index((stream, level))][0]


@dataclass(frozen=True, kw_only=True)
class Scheme:
    """A preset: one stage, or several that go one after another (VALL-E, AudioLM, Bark)."""

    name: str
    description: str
    """The comment at the top of its file: what it is, and where it comes from."""
    when: str
    """When to choose it."""
    stages: tuple[Stage, ...]
    """One, or several that go one after another."""

    def stage(self, name: str | None = None) -> Stage:
        """A stage by name; the only one where there is one.

        Raises:
            InputError: there is no such stage, or there are several and none was named.
        """
        found = {stage.name: stage for stage in self.stages}
        if name is None and len(found) > 1:
            listed = ", ".join(f"{self.name}/{stage}" for stage in found)
            raise InputError(f'"{self.name}" is a cascade of {len(found)} models; choose one of its stages: {listed}')
        if name is not None and name not in found:
            raise InputError(f'"{self.name}" has no stage "{name}"' + did_you_mean(name, found))
        return found[name] if name is not None else next(iter(found.values()))


def load_layout(
    spec: "str | Path | Layout", levels: Levels = None, frame_rates: FrameRates | None = None, *, partial: bool = False
) -> Layout:
    """A layout by preset name, YAML file (key `layout`), or expression.

    Args:
        spec: `delay`, `my_layouts/own.yaml`, `Delay(audio, [0, 1, 1, ...])`, `own.py:Zigzag(audio)`, one stage of a
            scheme as `valle/nar`, or a layout.
        levels: number of levels of every code stream (but `semantic`, which then has one), or by stream.
        frame_rates: Hz by stream; needed where the layout holds times (`"2s"`) or matches rates.
        partial: the layout may place the lowest levels of a stream only.

    Raises:
        InputError: no such preset or file, a malformed expression, levels that do not fit, or several stages.
    """
    if isinstance(spec, Layout):
        return resolve_levels(spec, levels, frame_rates, partial=partial)
    text = str(spec)
    if "(" in text:
        return resolve_levels(parse(text), levels, frame_rates, partial=partial)
    return load_stage(text, levels, frame_rates).layout


def load_stage(spec: str | Path, levels: Levels = None, frame_rates: FrameRates | None = None) -> Stage:
    """A preset of one stage, or one stage of a cascade, as `valle/nar`; the arguments are those of `load_layout`.

    Raises:
        InputError: as `load_layout`.
    """
    name, stage = split_stage(str(spec))
    return load_scheme(name, levels, frame_rates).stage(stage)


def load_scheme(spec: str | Path, levels: Levels = None, frame_rates: FrameRates | None = None) -> Scheme:
    """A preset with all its stages; the arguments are those of `load_layout`.

    Raises:
        InputError: as `load_layout`, or the file holds keys or values that mean nothing.
    """
    source = _find(str(spec))
    if isinstance(source, Layout) or "(" in str(source):
        layout = load_layout(source, levels, frame_rates)
        lone = Stage(name=str(spec), layout=layout)
        return Scheme(name=str(spec), description="", when="", stages=(lone,))
    text = Path(source).read_text(encoding="utf-8")
    return build_scheme(Path(source).stem, _read_yaml(text, source), levels, frame_rates, description=_comment(text))


def build_scheme(
    name: str,
    content: Mapping[str, Any],
    levels: Levels = None,
    frame_rates: FrameRates | None = None,
    *,
    description: str = "",
) -> Scheme:
    """A scheme from what its file holds; the other arguments are those of `load_layout`.

    Raises:
        InputError: as `load_scheme`.
    """
    content = dict(content)
    when, stages = str(content.pop("when", "")), content.pop("stages", None)
    if stages is not None and content:
        raise InputError(f'"{name}" has stages, so these keys belong into one of them: {", ".join(content)}')
    described = stages if stages is not None else [{"name": name, **content}]
    if not isinstance(described, list) or not described:
        raise InputError(f'"{name}" needs a list of stages, each with a name and a layout')
    built = tuple(_stage(item, name, levels, frame_rates, lone=stages is None) for item in described)
    return Scheme(name=name, description=description, when=when, stages=built)


def layout_names() -> list[str]:
    """The presets in `configs/interleave/`, and those of installed packages."""
    return sorted({path.stem for path in _preset_folder().glob("*.yaml")} | set(find_presets()))


def written(layout: Layout) -> str:
    """The layout as `load_layout` reads it back, the file of its own nodes included."""
    source = source_of(layout)
    return layout.expression if source is None else f"{source[0]}:{layout.expression}"


def parse(expression: str) -> Layout:
    """Reads an expression. Streams may be written bare, levels as `audio[:4]`, delays as `[0, 1, ...]`; nodes of a
    file stand after its name, as in `own.py:Zigzag(audio)`."""
    file, colon, rest = expression.partition(".py:")
    nodes, expression = (find_nodes(file + ".py"), rest) if colon else (find_nodes(), expression)
    try:
        tree = ast.parse(expression.strip(), mode="eval").body
    except SyntaxError as error:
        raise InputError(f'"{expression}" is no layout expression: {error.msg} at column {error.offset}') from None
    layout = _build(tree, expression, nodes)
    if not isinstance(layout, Layout):
        raise InputError(f'"{expression}" is no layout; wrap the stream, as in Delay(audio)')
    return layout


def _preset_folder() -> Path:
    return config_folder() / "interleave"


def split_stage(text: str) -> tuple[str, str | None]:
    """`valle/nar` into preset and stage; a path and an expression stay whole."""
    if text.endswith((".yaml", ".yml")) or "(" in text or "/" not in text:
        return text, None
    name, _, stage = text.rpartition("/")
    return name, stage


def _find(name: str) -> str | Layout:
    """The path of a preset's file; an expression or a layout where an installed package gives one."""
    if name.endswith((".yaml", ".yml")):
        if not Path(name).is_file():
            raise InputError(f'there is no layout file "{name}"')
        return name
    if "(" in name or (path := _preset_folder() / f"{name}.yaml").is_file():
        return name if "(" in name else str(path)
    presets = find_presets()
    if name not in presets:
        raise InputError(f'there is no layout "{name}"' + did_you_mean(name, layout_names()))
    return load_preset(presets[name])


def _read_yaml(text: str, source: str) -> dict[str, Any]:
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"{source} is no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict) or not ("stages" in content or isinstance(content.get("layout"), str)):
        raise InputError(f"{source} describes no layout; it needs a line such as: layout: Delay(audio)")
    return content


def _comment(text: str) -> str:
    """The comment at the top of a file, as one paragraph."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# ").rstrip())
    return " ".join(lines)


def _stage(item: Any, scheme: str, levels: Levels, rates: FrameRates | None, *, lone: bool) -> Stage:
    if not isinstance(item, dict) or not {"name", "layout"} <= set(item):
        raise InputError(f'"{scheme}": a stage needs a name and a layout, not {item!r}')
    choices = {"objective": OBJECTIVES, "attention": ATTENTIONS, "head": HEADS}
    for key, value in item.items():
        if key not in ("name", "layout", "given", *choices):
            raise InputError(
                f'"{scheme}" has the unknown key "{key}"' + did_you_mean(key, [*choices, "given", "layout", "when"])
            )
        if key in choices and value not in choices[key]:
            raise InputError(f'"{scheme}": {key} is one of {", ".join(choices[key])}, not "{value}"')
    try:
        layout = load_layout(parse(str(item["layout"])), levels, rates, partial=not lone)
    except InputError as error:
        raise InputError(f'layout "{item["name"]}" does not fit: {error}') from error
    given = tuple(item.get("given", ()))
    names = {leaf.ref.name for leaf in layout.leaves()}
    for name in given:
        if StreamRef.parse(name).name not in names:
            raise InputError(
                f'"{scheme}" gives the stream "{name}", which its layout lacks' + did_you_mean(name, names)
            )
    return Stage(**{**item, "name": str(item["name"]), "layout": layout, "given": given})


def _build(node: ast.expr, expression: str, nodes: Mapping[str, type[Layout]]):
    match node:
        case ast.Call(func=ast.Name(id=name)):
            if name not in nodes:
                raise InputError(f'"{expression}" uses the unknown node {name}' + did_you_mean(name, nodes))
            arguments = [_build(argument, expression, nodes) for argument in node.args]
            names = [keyword.arg for keyword in node.keywords]
            if None in names or len(set(names)) < len(names):
                raise InputError(f'"{expression}" has no meaning: write each setting of {name} once, as name=value')
            keywords = {str(k.arg): _build(k.value, expression, nodes) for k in node.keywords}
            try:
                return nodes[name](*arguments, **keywords)
            except (TypeError, AttributeError) as error:
                raise InputError(f'"{expression}" gives {name} what it cannot take: {error}') from None
        case ast.Name() | ast.Subscript():
            return ast.unparse(node)
        case ast.List() | ast.Tuple():
            return tuple(_build(element, expression, nodes) for element in node.elts)
        case ast.Constant(value=value):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int(value))):
            return -value
        case ast.BinOp(op=ast.Div(), left=ast.Constant(value=int(above)), right=ast.Constant(value=int(below))) if (
            below
        ):
            return Fraction(above, below)
    raise InputError(f'"{expression}" is no layout expression: {ast.unparse(node)} has no meaning in it')
