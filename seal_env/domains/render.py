"""A step as text for a terminal: the context, the edit, and each answer, in green if correct and in red if not."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

from seal_env.tasks import Task

BOLD, DIM, GREEN, RED, END = "\x1b[1m", "\x1b[2m", "\x1b[32m", "\x1b[31m", "\x1b[0m"

# Limits of what is printed, whatever a policy writes and however many sub-environments there are.
_MAX_ENVS = 16
_MAX_TEXT, _MAX_LINE = 1000, 200  # characters of a context or an edit, and of a question or an answer
_MAX_QUESTIONS = 20


def render_text(task: Task, info: Mapping[str, Any] | None, edit: object, brief: bool = False) -> str:
    """The context and, after a step, the edit and the questions with their answers; see :meth:`Domain.render`."""
    text, line = (_MAX_TEXT, _MAX_LINE) if brief else (None, None)
    lines = [f"{BOLD}{plain(task.title, line)}{END}", plain(task.context, text)]
    if info is None:
        return "\n".join(lines)
    lines += step_lines(info, edit, brief)
    questions = info.get("questions", ())
    for row in questions[: _MAX_QUESTIONS if brief else None]:
        before, after = (
            f"{DIM if correct is None else GREEN if correct else RED}{plain(answer, line) or '(nothing)'}{END}"
            for answer, correct in ((row["answer_before"], row["correct_before"]), (row["answer"], row["correct"]))
        )
        lines.append(f"  {plain(row['question'], line)} {DIM}[{plain(row['gold'], line)}]{END} {before} -> {after}")
    if brief and len(questions) > _MAX_QUESTIONS:
        lines.append(f"  {DIM}({len(questions) - _MAX_QUESTIONS} more questions){END}")
    if info.get("approximate"):
        scores = ", ".join(f"{plain(name)} {info[name]:g}" for name in info["components"])
        lines.append(f"{DIM}approximate reward, by a proxy{END} {scores}")
    return "\n".join(lines)


def step_lines(info: Mapping[str, Any], edit: object, brief: bool = False) -> list[str]:
    """The edit with its status, cut if ``brief``, and the score before and after it."""
    lines = [f"{DIM}self-edit ({info['status']}){END}"]
    lines.append(plain(edit, _MAX_TEXT if brief else None) if isinstance(edit, str) else f"({type(edit).__name__}, not text)")
    if "score" in info:
        lines.append(f"{DIM}score{END} {info['score_before']:.2f} -> {BOLD}{info['score']:.2f}{END}")
    return lines


def show(texts: Iterable[str], num_envs: int = 1) -> None:
    """Print the text of each sub-environment, up to 16 of them."""
    lines = []
    for i, text in enumerate(islice(texts, _MAX_ENVS)):
        lines += [f"{DIM}environment {i + 1} of {num_envs}{END}", text] if num_envs > 1 else [text]
    if num_envs > _MAX_ENVS:
        lines.append(f"{DIM}({num_envs - _MAX_ENVS} more environments){END}")
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    print("\n".join(lines).encode(encoding, "replace").decode(encoding))  # emoji must not raise where stdout is ASCII


def plain(text: str, limit: int | None = None) -> str:
    """``text`` without control characters, which would steer the terminal, cut after ``limit`` characters."""
    cut = f"... ({len(text) - limit} more characters)" if limit is not None and len(text) > limit else ""
    return "".join(c if c in "\n\t" or c.isprintable() else "�" for c in text[:limit]) + cut
