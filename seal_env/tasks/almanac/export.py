"""The Almanac for other tools: SQuAD 1.1 JSON and ``datasets.Dataset``."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seal_env.files import atomic_write
from seal_env.tasks.task import Task

if TYPE_CHECKING:
    from datasets import Dataset


def to_squad(tasks: Iterable[Task]) -> dict[str, Any]:
    """``tasks`` in the layout of SQuAD 1.1. Accepted forms that do not stand in the context share the gold answer's offset."""
    data = []
    for task in tasks:
        asked = [
            {
                "id": question.id,
                "question": question.question,
                "answers": [
                    {"text": text, "answer_start": _start(task, text, question.answer_start)} for text in question.answers
                ],
            }
            for question in task.questions
        ]
        data.append({"title": task.title, "paragraphs": [{"context": task.context, "qas": asked}]})
    return {"version": "1.1", "data": data}


def write_squad(tasks: Iterable[Task], path: str | os.PathLike[str]) -> None:
    """Write ``tasks`` to ``path`` as SQuAD 1.1 JSON, whole or not at all."""
    with atomic_write(Path(path)) as partial:
        partial.write_text(json.dumps(to_squad(tasks), ensure_ascii=False, indent=1), encoding="utf-8")


def to_dataset(tasks: Iterable[Task]) -> Dataset:
    """``tasks`` as a ``datasets.Dataset`` with SQuAD's columns: id, title, context, question, answers."""
    try:
        from datasets import Dataset
    except ImportError as error:
        raise ImportError("to_dataset needs the package datasets: pip install datasets") from error
    rows = []
    for task in tasks:
        for question in task.questions:
            starts = [_start(task, text, question.answer_start) for text in question.answers]
            answers = {"text": list(question.answers), "answer_start": starts}
            row = {"id": question.id, "title": task.title, "context": task.context, "question": question.question}
            rows.append({**row, "answers": answers})
    return Dataset.from_list(rows)


def _start(task: Task, text: str, gold_start: int | None) -> int:
    """Where ``text`` stands in the context: within the gold answer if it does, else the gold answer's offset (-1: nowhere)."""
    if gold_start is None:
        return -1
    found = task.context.find(text, gold_start)
    return found if gold_start <= found <= gold_start + 40 else gold_start
