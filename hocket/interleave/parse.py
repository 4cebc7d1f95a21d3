"""Layouts by name, from a file, or from an expression such as `Concat(Text(text), Delay(audio))`."""

import ast
from collections.abc import Mapping
from pathlib import Path

import yaml

from hocket.errors import InputError, did_you_mean
from hocket.interleave.layout import Concat, Delay, Flatten, Layout, Parallel, Text, resolve_levels
from hocket.resources import config_folder

NODES = {node.__name__: node for node in (Concat, Delay, Flatten, Parallel, Text)}


def load_layout(spec: "str | Path | Layout", levels: int | Mapping[str, int] | None = None) -> Layout:
    """A layout by preset name, YAML file (key `layout`), or expression.

    Args:
        spec: `delay`, `my_layouts/own.yaml`, `Delay(audio, [0, 1, 1, ...])`, or a layout.
        levels: number of levels of every code stream, or by stream.

    Raises:
        InputError: no such preset or file, a malformed expression, or levels that do not fit.
    """
    if isinstance(spec, Layout):
        return resolve_levels(spec, levels)
    text = str(spec)
    if "(" not in text:
        text = _read(text)
    return resolve_levels(parse(text), levels)


def layout_names() -> list[str]:
    """The presets in `configs/interleave/`."""
    return sorted(path.stem for path in (config_folder() / "interleave").glob("*.yaml"))


def parse(expression: str) -> Layout:
    """Reads an expression. Streams may be written bare, levels as `audio[:4]`, delays as `[0, 1, ...]`."""
    try:
        tree = ast.parse(expression.strip(), mode="eval").body
    except SyntaxError as error:
        raise InputError(f'"{expression}" is no layout expression: {error.msg} at column {error.offset}') from None
    layout = _build(tree, expression)
    if not isinstance(layout, Layout):
        raise InputError(f'"{expression}" is no layout; wrap the stream, as in Delay(audio)')
    return layout


def _read(name: str) -> str:
    path = Path(name) if name.endswith((".yaml", ".yml")) else config_folder() / "interleave" / f"{name}.yaml"
    if not path.exists():
        raise InputError(f'there is no layout "{name}"' + did_you_mean(name, layout_names()))
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict) or not isinstance(content.get("layout"), str):
        raise InputError(f"{path} describes no layout; it needs a line such as: layout: Delay(audio)")
    return content["layout"]


def _build(node: ast.expr, expression: str):
    match node:
        case ast.Call(func=ast.Name(id=name)):
            if name not in NODES:
                raise InputError(f'"{expression}" uses the unknown node {name}' + did_you_mean(name, NODES))
            arguments = [_build(argument, expression) for argument in node.args]
            keywords = {k.arg: _build(k.value, expression) for k in node.keywords if k.arg}
            try:
                return NODES[name](*arguments, **keywords)
            except (TypeError, AttributeError) as error:
                raise InputError(f'"{expression}" gives {name} what it cannot take: {error}') from None
        case ast.Name() | ast.Subscript():
            return ast.unparse(node)
        case ast.List() | ast.Tuple():
            return tuple(_build(element, expression) for element in node.elts)
        case ast.Constant(value=value):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int(value))):
            return -value
    raise InputError(f'"{expression}" is no layout expression: {ast.unparse(node)} has no meaning in it')
