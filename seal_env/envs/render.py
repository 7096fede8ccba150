"""A step as text for a terminal: the passage, the edit, and each answer before and after, right in green and wrong in red."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seal_env.tasks import Task

_GREEN, _RED, _BOLD, _DIM, _END = "\x1b[32m", "\x1b[31m", "\x1b[1m", "\x1b[2m", "\x1b[0m"


def render_text(info: Mapping[str, Any] | None, task: Task, edit: object) -> str:
    """What a person wants to see of a step; before the first one, the passage."""
    lines = [f"{_BOLD}{_plain(task.title)}{_END}", _plain(task.context)]
    if info is None:
        return "\n".join(lines)
    if info["title"] != task.title:
        lines = [f"{_BOLD}{_plain(info['title'])}{_END}"]
    lines += [f"{_DIM}self-edit ({info['status']}){_END}", _plain(str(edit))]
    if "score" in info:
        lines.append(f"{_DIM}score{_END} {info['score_before']:.2f} -> {_BOLD}{info['score']:.2f}{_END}")
        for row in info["questions"]:
            before, after = (
                f"{_GREEN if right else _RED}{_plain(answer) or '(nothing)'}{_END}"
                for answer, right in ((row["answer_before"], row["correct_before"]), (row["answer"], row["correct"]))
            )
            lines.append(f"  {_plain(row['question'])} {_DIM}[{_plain(row['gold'])}]{_END} {before} -> {after}")
    return "\n".join(lines)


def _plain(text: str) -> str:
    """``text`` without control characters: what a model wrote must not steer the terminal."""
    return "".join(c if c in "\n\t" or c.isprintable() else "�" for c in text)
