"""Tasks for other tools: SQuAD 1.1 JSON and ``datasets.Dataset``."""

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
    """``tasks`` as SQuAD 1.1 JSON. Accepted answers that the context does not contain get the gold answer's offset."""
    data = []
    for task in tasks:
        questions = [
            {
                "id": question.id,
                "question": question.question,
                "answers": [
                    {"text": text, "answer_start": _start(task, text, question.answer_start)} for text in question.answers
                ],
            }
            for question in task.questions
        ]
        data.append({"title": task.title, "paragraphs": [{"context": task.context, "qas": questions}]})
    return {"version": "1.1", "data": data}


def write_squad(tasks: Iterable[Task], path: str | os.PathLike[str]) -> None:
    """Write ``tasks`` to ``path`` as SQuAD 1.1 JSON, atomically."""
    with atomic_write(Path(path)) as partial:
        partial.write_text(json.dumps(to_squad(tasks), ensure_ascii=False, indent=1), encoding="utf-8")


def to_dataset(tasks: Iterable[Task]) -> Dataset:
    """``tasks`` as a ``datasets.Dataset`` with SQuAD's columns: id, title, context, question, answers."""
    from datasets import Dataset

    rows = []
    for task in tasks:
        for question in task.questions:
            starts = [_start(task, text, question.answer_start) for text in question.answers]
            answers = {"text": list(question.answers), "answer_start": starts}
            row = {"id": question.id, "title": task.title, "context": task.context, "question": question.question}
            rows.append({**row, "answers": answers})
    return Dataset.from_list(rows)


def _start(task: Task, text: str, gold_start: int | None) -> int:
    """The offset of ``text`` near the gold answer, else the gold answer's offset (-1: the context does not contain it)."""
    if gold_start is None:
        return -1
    start = task.context.find(text, gold_start)
    return start if gold_start <= start <= gold_start + 40 else gold_start
