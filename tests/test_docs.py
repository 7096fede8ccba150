"""The documentation is true: its Python runs, its links lead somewhere, and the defaults that it names are the defaults."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from agents import get_agent
from agents.agent_registry import AGENTS
from seal_env.edits import FORMATS
from seal_env.edits.parse import EditStatus
from seal_env.evaluation.graders import GRADERS
from seal_env.registration import ENVIRONMENTS
from seal_env.student import FitStatus

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_SNIPPET = re.compile(r"^--8<--\n(.*)\n--8<--$", re.MULTILINE)  # in one line it is Python, which ruff would format
# | `agent`: `field` | what others do | `our default` | why |
_DEFAULT = re.compile(r"^\| `(\w+)`: `(\w+)` \|[^|]*\| `([^`]*)` \|", re.MULTILINE)


def blocks(page: Path) -> list[str]:
    """The page's Python that is written there; what it includes from a file is tested where that file is."""
    return [block for block in _BLOCK.findall(page.read_text(encoding="utf-8")) if not _SNIPPET.search(block)]


@pytest.mark.parametrize("name", [page.relative_to(ROOT).as_posix() for page in PAGES if blocks(page)])
def test_the_python_of_a_page_runs_from_top_to_bottom(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.setattr(FORMATS, "_entries", dict(FORMATS._entries))  # a page registers one of its own
    code, shared = "\n".join(blocks(ROOT / name)), {"__name__": "page"}
    exec(compile(code, name, "exec"), shared)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_and_every_included_file_is_there(page):
    text = page.read_text(encoding="utf-8")
    for link in _LINK.findall(re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)):
        if re.match(r"https?://", link):
            continue
        path, _, anchor = link.partition("#")
        target = page if not path else (page.parent / path).resolve()
        assert target.exists(), f"{page.name} links to {link}"
        assert not anchor or anchor in anchors(target), f"{page.name} links to {link}"
    for snippet in _SNIPPET.findall(text):
        assert (ROOT / snippet).is_file(), snippet


def anchors(page: Path) -> set[str]:
    """What the page's headings are linked by, as Python-Markdown names them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in headings}


def test_the_example_agent_is_shown_as_it_is():
    assert _SNIPPET.findall((ROOT / "docs" / "agents.md").read_text(encoding="utf-8")) == ["examples/my_agent.py"]


def test_the_defaults_that_are_named_are_the_defaults():
    named = _DEFAULT.findall((ROOT / "docs" / "agents.md").read_text(encoding="utf-8"))
    assert len(named) > 5
    for agent, name, value in named:
        kind = get_agent(agent)
        config = {f.name: f.default for f in fields(kind.Config)} | dict(kind.preset("seal-nano").values)
        assert str(config[name]) == value, f"{agent}: {name} is {config[name]} with seal-nano, docs/agents.md says {value}"


def test_every_name_of_a_registry_is_told_of():
    pages = [ROOT / "docs" / name for name in ("environments.md", "arc.md")]
    environments = "".join(page.read_text(encoding="utf-8") for page in pages)
    for name in [*ENVIRONMENTS, *EditStatus, *FitStatus, *FORMATS]:
        assert f"`{name}`" in environments, name
    for name in GRADERS:
        assert f'`"{name}"`' in environments, name
    agents = (ROOT / "docs" / "agents.md").read_text(encoding="utf-8")
    for name in AGENTS:
        assert f"`{name}`" in agents, name


@pytest.mark.skipif(importlib.util.find_spec("mkdocs") is None, reason="mkdocs is not installed: pip install 'seal-env[docs]'")
def test_the_site_builds_without_a_warning(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    assert "class RLOO(Agent)" in re.sub(r"<[^>]*>", "", (tmp_path / "site" / "agents" / "index.html").read_text())
