"""Where layouts come from besides the package: nodes and presets of your own.

- a node class: `register(Zigzag)` in Python; a file, as in `"own.py:Zigzag(audio)"`; or an installed package with an
  entry point in the group `hocket.nodes`, whose name is the node's;
- a preset: a YAML file by its path; or an entry point in the group `hocket.layouts`, whose name is the preset's and
  whose value is a string with the path of a YAML file, an expression, or a layout.
"""

import hashlib
import importlib.util
import inspect
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType

from hocket.errors import InputError
from hocket.interleave.composites import Alternate, Concat, Lead, Multispeaker, Stack
from hocket.interleave.layout import Layout
from hocket.interleave.nodes import CoarseFirst, Delay, Flatten, Marker, Parallel, Repeat, Text

NODE_GROUP, LAYOUT_GROUP = "hocket.nodes", "hocket.layouts"
_OWN = (Alternate, CoarseFirst, Concat, Delay, Flatten, Lead, Marker, Multispeaker, Parallel, Repeat, Stack, Text)
_NODES: dict[str, type[Layout]] = {node.__name__: node for node in _OWN}
_FILES: dict[type[Layout], tuple[str, str]] = {}  # where a node comes from: the file, and its text when it was read
_MODULES: dict[str, ModuleType] = {}  # by the content of their file: copies of it define the same nodes


def register(node: type[Layout]) -> type[Layout]:
    """Makes a node known to expressions under its class's name. Works as a decorator.

    Raises:
        InputError: it is no layout, or the name is another node's.
    """
    if not (isinstance(node, type) and issubclass(node, Layout)):
        raise InputError(f"{node!r} is no layout: derive it from hocket.interleave.Leaf or Layout")
    if inspect.isabstract(node):
        missing = ", ".join(sorted(node.__abstractmethods__))
        raise InputError(f"{node.__name__} is no complete layout: it lacks {missing}")
    held = _NODES.get(node.__name__)
    if held is not None and held is not node and held in _OWN:
        raise InputError(f'"{node.__name__}" is a node of hocket already; name yours differently')
    _NODES[node.__name__] = node
    return node


def find_nodes(file: str | None = None) -> Mapping[str, type[Layout]]:
    """Every node by name: hocket's, registered ones, those of installed packages and those of a file."""
    for point in entry_points(group=NODE_GROUP):
        if point.name not in _NODES:
            register(_load(point))
    if file is not None:
        text = _read(file)
        for node in _nodes_of(file, text):
            register(node)
            _FILES[node] = file, text
    return _NODES


def find_presets() -> dict[str, EntryPoint]:
    """Presets of installed packages."""
    return {point.name: point for point in entry_points(group=LAYOUT_GROUP)}


def load_preset(point: EntryPoint) -> str | Layout:
    """A layout, an expression or the path of a YAML file."""
    value = _load(point)
    if not isinstance(value, str | Path | Layout):
        raise InputError(
            f'the layout "{point.name}" of {point.value} is a {type(value).__name__}, not a path or a layout'
        )
    return value if isinstance(value, Layout) else str(value)


def source_of(layout: Layout) -> tuple[str, str] | None:
    """The file that a layout's own nodes come from, and its text when it was read; None where there is no such node."""
    files = {_FILES[type(node)] for node in layout.walk() if type(node) in _FILES}
    if len(files) > 1:
        names = ", ".join(sorted(file for file, _ in files))
        raise InputError(f"{layout} takes nodes from several files ({names}); put them into one")
    return files.pop() if files else None


def _load(point: EntryPoint):
    try:
        return point.load()
    except (ImportError, AttributeError) as error:
        raise InputError(f'the layout "{point.name}" of an installed package cannot be loaded: {error}') from error


def _read(file: str) -> str:
    if not Path(file).is_file():
        raise InputError(f"there is no file {file} to take layout nodes from")
    try:
        return Path(file).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{file} is no Python file: {error}") from error


def _nodes_of(file: str, text: str) -> list[type[Layout]]:
    """The nodes that a Python file defines."""
    content = hashlib.sha256(text.encode()).hexdigest()
    if content not in _MODULES:
        _MODULES[content] = _import(Path(file).resolve(), f"hocket_layouts_{content[:12]}")
    module = _MODULES[content]
    found = [value for value in vars(module).values() if _is_own_node(value, module.__name__)]
    if not found:
        raise InputError(f"{file} defines no layout node: derive one from hocket.interleave.Leaf")
    return found


def _import(path: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever the user's file does wrong
        raise InputError(f"{path} cannot be imported: {type(error).__name__}: {error}") from error
    return module


def _is_own_node(value, module: str) -> bool:
    is_node = isinstance(value, type) and issubclass(value, Layout) and value.__module__ == module
    return is_node and not inspect.isabstract(value)
