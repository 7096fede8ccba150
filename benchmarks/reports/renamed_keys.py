"""Names that changed since version 0.1.0, so that run directories of that version can still be read and resumed.

``key_map.json`` holds the changes: ``keys`` of JSON objects, names of ``agents``, and import ``paths``. Everything that reads a
run directory parses it with :func:`load`, and a resumed run directory is rewritten once by :func:`upgrade`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seal_env.files import atomic_write, write_json

_MAP: Mapping[str, Mapping[str, str]] = json.loads(Path(__file__).with_name("key_map.json").read_text(encoding="utf-8"))
_KEYS, _AGENTS = _MAP["keys"], _MAP["agents"]
_PATHS = {old: _MAP["paths"][old] for old in sorted(_MAP["paths"], key=len, reverse=True)}  # the longest match counts
_LABEL_TABLE = "agents"  # of benchmark.json: its keys are labels, which users choose and run folders are named after


def load(text: str) -> Any:
    """Parse a JSON line, with its keys renamed.

    Raises:
        ValueError: ``text`` is not JSON.
    """
    return json.loads(text, object_hook=lambda tree: {_KEYS.get(key, key): value for key, value in tree.items()})


def load_settings(text: str) -> Any:
    """Parse the settings of a benchmark, with keys, names of agents and import paths renamed. Labels stay as they are.

    Raises:
        ValueError: ``text`` is not JSON.
    """
    tree = _renamed(json.loads(text))
    agents = tree.get(_LABEL_TABLE) if isinstance(tree, dict) else None
    for agent in agents.values() if isinstance(agents, dict) else ():
        if isinstance(agent, dict) and "agent" in agent:
            agent["agent"] = _AGENTS.get(agent["agent"], agent["agent"])
    return tree


def _renamed(value: Any, labels: bool = False) -> Any:
    if isinstance(value, dict):
        return {key if labels else _KEYS.get(key, key): _renamed(below, key == _LABEL_TABLE) for key, below in value.items()}
    if isinstance(value, list):
        return [_renamed(below) for below in value]
    if isinstance(value, str) and re.fullmatch(r"[\w.]+:[\w.]+", value):
        old = next((old for old in _PATHS if value == old or value.startswith((f"{old}.", f"{old}:"))), "")
        return _PATHS[old] + value.removeprefix(old) if old else value
    return value


def upgrade(folder: Path) -> None:
    """Rename keys in the files of a run directory that a resumed run reads or appends to, each file atomically."""
    settings = folder / "benchmark.json"
    write_json(settings, load_settings(settings.read_text(encoding="utf-8")))
    for path in folder.glob("runs/*/*/**/agent.json"):
        write_json(path, load_settings(path.read_text(encoding="utf-8")))
    for path in folder.glob("runs/*/*/*.jsonl"):
        old = path.read_text(encoding="utf-8", errors="surrogateescape")
        new = "\n".join(map(_renamed_line, old.split("\n")))
        if new != old:
            with atomic_write(path) as partial:
                partial.write_text(new, encoding="utf-8", errors="surrogateescape")


def _renamed_line(line: str) -> str:
    """The line itself where no key changed, or where it was torn by a crash."""
    try:
        before, after = json.loads(line), load(line)
    except ValueError:
        return line
    return line if before == after else json.dumps(after)
