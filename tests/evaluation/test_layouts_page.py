"""The pages of layouts and of the vocabulary: what their script makes is current, and their code runs."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from hocket.interleave import layout_names

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_is_what_the_script_makes():
    script = runpy.run_path(str(ROOT / "scripts" / "draw_layouts.py"))
    files = script["make"]()
    old = [path.name for path, text in files.items() if not path.is_file() or path.read_text("utf-8") != text]
    assert not old, f"run scripts/draw_layouts.py: {old}"
    assert set((ROOT / "docs" / "layouts").glob("*.svg")) <= set(files)


def test_every_preset_has_a_section_and_a_drawing():
    page = (ROOT / "docs" / "layouts.md").read_text("utf-8")
    for name in layout_names():
        assert f"\n### {name}\n" in page
        assert f"(layouts/{name}.svg)" in page


def test_links_lead_somewhere():
    page = (ROOT / "docs" / "layouts.md").read_text("utf-8")
    headings = re.findall(r"\n#+ ([^\n]*)", page)
    slugs = {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    for target in re.findall(r"\]\(([^)]+)\)", page):
        if target.startswith("#"):
            assert target[1:] in slugs
        elif not target.startswith("http"):
            assert (ROOT / "docs" / target).is_file(), target


@pytest.mark.parametrize(("page", "n_blocks"), [("layouts", 7), ("vocabulary", 5)])
def test_the_code_on_a_page_runs(page, n_blocks, monkeypatch):
    monkeypatch.chdir(ROOT)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / f"{page}.md").read_text("utf-8"), re.DOTALL)
    assert len(blocks) == n_blocks
    names: dict = {"__name__": "page"}
    sys.modules["page"] = type(sys)("page")  # dataclasses look their module up
    for block in blocks:
        exec(compile(block, f"docs/{page}.md", "exec"), names)
    del sys.modules["page"]


def test_the_node_of_ones_own_runs():
    result = subprocess.run(
        [sys.executable, "examples/chunks.py"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert "0.0  1.0  2.0  0.1  1.1  2.1  3.0" in result.stdout
