"""What is found about each item (a clip, a pair), kept line by line, so that a killed evaluation goes on where it was.

    {"settings": {…}}                         what decides the items; lines under other settings are dropped
    {"id": "clip-1", "wer": 0.25, …}          one line an item, written as soon as it is known
    {"id": "clip-2", …

A line that a kill cut short is dropped. Numbers come back as they went in: JSON keeps all digits of a float.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

SETTINGS = "settings"


class Items:
    """Rows by id, kept in a file.

    Args:
        path: items/NAME.jsonl; None keeps nothing.
        settings: plain values that decide what is found. Rows that were found under others are forgotten.
    """

    def __init__(self, path: Path | None, settings: Mapping[str, Any]):
        self._path, self._rows = path, {}
        self.settings: dict[str, Any] = json.loads(json.dumps(settings, default=str))
        if path is not None:
            self._read(path)

    def _read(self, path: Path) -> None:
        lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.is_file() else []
        if lines and json.loads(lines[0]).get(SETTINGS) == self.settings:
            rows = [json.loads(line) for line in lines[1:]]
            self._rows = {row["id"]: row for row in rows}
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = [{SETTINGS: self.settings}, *self._rows.values()]
        aside = path.with_suffix(".writing")
        aside.write_text("".join(_line(row) for row in kept), encoding="utf-8")
        aside.replace(path)

    def add(self, id: str, **row: Any) -> dict[str, Any]:
        """Keeps a row; as it will be read back."""
        line = _line({"id": id} | row)
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(line)
        self._rows[id] = json.loads(line)
        return self._rows[id]

    def missing(self, ids: Iterable[str]) -> list[str]:
        """Those that are still to be found, in the order given."""
        return [id for id in ids if id not in self._rows]

    def __contains__(self, id: str) -> bool:
        return id in self._rows

    def __getitem__(self, id: str) -> dict[str, Any]:
        return self._rows[id]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self._rows.values())

    def __len__(self) -> int:
        return len(self._rows)


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"
