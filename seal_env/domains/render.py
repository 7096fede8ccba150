"""A step as text for a terminal: the passage or the grids, the edit, and each answer, right in green and wrong in red."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

from seal_env.domains.ansi import BOLD, DIM, END, GREEN, RED
from seal_env.domains.render_arc import render_arc
from seal_env.evaluation.grid_evaluator import attempts
from seal_env.tasks import Task
from seal_env.tasks.arc import ArcTask, Grid

# What is printed for a person is bounded, whatever a policy writes and however many places there are.
_MOST = 16
_TEXT, _LINE = 1000, 200  # characters of a passage or an edit, and of a question or an answer
_QUESTIONS = 20


def render_text(info: Mapping[str, Any] | None, task: Task, edit: object, brief: bool = False) -> str:
    """What a person wants to see of a step; before the first one, the task. ``brief``: long parts are cut."""
    if isinstance(task, ArcTask):
        return _render_grids(info, task, edit, brief)
    text, line = (_TEXT, _LINE) if brief else (None, None)
    lines = [f"{BOLD}{_plain(task.title, line)}{END}", _plain(task.context, text)]
    if info is None:
        return "\n".join(lines)
    if info["title"] != task.title:
        lines = [f"{BOLD}{_plain(info['title'], line)}{END}"]
    lines += _step(info, edit, text)
    if "score" in info:
        shown = info["questions"][: _QUESTIONS if brief else None]
        for row in shown:
            before, after = (
                f"{DIM if right is None else GREEN if right else RED}{_plain(answer, line) or '(nothing)'}{END}"
                for answer, right in ((row["answer_before"], row["correct_before"]), (row["answer"], row["correct"]))
            )
            lines.append(f"  {_plain(row['question'], line)} {DIM}[{_plain(row['gold'], line)}]{END} {before} -> {after}")
        if len(shown) < len(info["questions"]):
            lines.append(f"  {DIM}({len(info['questions']) - len(shown)} more questions){END}")
    if info.get("approximate"):
        marks = ", ".join(f"{_plain(name)} {info[name]:g}" for name in info["components"])
        lines.append(f"{DIM}approximate reward, by a proxy{END} {marks}")
    return "\n".join(lines)


def attempts_of(info: Mapping[str, Any] | None) -> list[list[Grid]] | None:
    """The grids that were predicted for each test after the update; None before there are any."""
    return [attempts(row["answer"]) for row in info["questions"]] if info else None


def _render_grids(info: Mapping[str, Any] | None, task: ArcTask, edit: object, brief: bool) -> str:
    lines = [render_arc(task, attempts_of(info))]
    if info is not None:
        lines += ["", *_step(info, edit, _TEXT if brief else None)]
    return "\n".join(lines)


def _step(info: Mapping[str, Any], edit: object, most: int | None) -> list[str]:
    """The edit, cut after ``most`` characters, and what it was worth."""
    lines = [f"{DIM}self-edit ({info['status']}){END}"]
    lines.append(_plain(edit, most) if isinstance(edit, str) else f"({type(edit).__name__}, not text)")
    if "score" in info:
        lines.append(f"{DIM}score{END} {info['score_before']:.2f} -> {BOLD}{info['score']:.2f}{END}")
    return lines


def show(texts: Iterable[str], states: int = 1) -> None:
    """Print the text of each place, of the first ones where there are many."""
    lines = []
    for i, text in enumerate(islice(texts, _MOST)):
        lines += [f"{DIM}place {i + 1} of {states}{END}", text] if states > 1 else [text]
    if states > _MOST:
        lines.append(f"{DIM}({states - _MOST} more places){END}")
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    print("\n".join(lines).encode(encoding, "replace").decode(encoding))  # a terminal that knows no emoji must not end a run


def _plain(text: str, most: int | None = None) -> str:
    """``text`` without control characters: what a model wrote must not steer the terminal. Cut after ``most`` characters."""
    cut = f"... ({len(text) - most} more characters)" if most is not None and len(text) > most else ""
    return "".join(c if c in "\n\t" or c.isprintable() else "�" for c in text[:most]) + cut
