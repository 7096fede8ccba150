"""Records to tasks: SQuAD's JSON, the authors' list of passages, and flat rows of tables and the hub.

A record is a mapping with the keys ``title``, ``context`` and either ``questions`` (a list of ``{question, answer}``: one
task) or ``question`` and ``answers`` (one question: rows with the same title and context are one task, in order of first
appearance). Answers are a string, a list of strings or of ``{text, answer_start}``, or ``{text: [...], answer_start: [...]}``.
The first annotated answer is the gold answer, and all distinct ones are accepted. Questions without an answer are skipped and
counted in one log line (``is_impossible`` or ``{text: []}``, as in SQuAD 2.0, or an answer that is null, NaN, empty or an empty
list), and so are passages without any other question. A record without a key for answers is an error. ``self_written: true``
marks a question that a model wrote and nobody checked.

Errors name the position of a record in its file.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from enum import Enum
from itertools import islice
from typing import Any

from seal_env.checks import did_you_mean
from seal_env.tasks.task import Question, Task

_log = logging.getLogger(__name__)
_SURROGATE = re.compile("[\ud800-\udfff]")
KEYS = ("id", "title", "context", "question", "answer", "answers", "questions")
FLAGS = ("is_impossible", "self_written")  # of a question, true or false


class Unanswerable(Enum):
    """Why a question has no answer."""

    MARKED = "marked as unanswerable"  # as SQuAD 2.0 does it
    LACKING = "without an answer"


def from_squad(data: Mapping[str, Any], where: str) -> list[Task]:
    """The tasks of SQuAD 1.1 or 2.0 JSON, one per paragraph; errors call the file ``where``."""
    return from_records(_paragraphs(data, where), where)


def from_records(
    records: Iterable[tuple[str, Any]], source: str, columns: Mapping[str, str] | None = None, hint: str = ""
) -> list[Task]:
    """The tasks of records.

    Args:
        records: (where, record) pairs; errors about a record begin with ``where``.
        source: the name of the file or dataset in errors.
        columns: the records' names for keys of :data:`KEYS`, where they differ.
        hint: what to do about a missing key.

    Raises:
        ValueError: a record cannot be read, or no question has an answer.
    """
    check_columns(columns)
    passages: dict[Hashable, tuple[str, str, list[Question | Unanswerable]]] = {}
    key: Hashable
    for number, (where, record) in enumerate(records):
        record = _renamed(mapping(record, where), columns or {}, where)
        title, context = _text(record, "title", where, hint), _text(record, "context", where, hint)
        if record.get("questions") is None:
            if "question" not in record:
                raise ValueError(f"{where}: no key 'question' (or 'questions'), only {keys_of(record)}{hint}")
            questions, key = [parse_question(record, context, where, hint)], (title, context)
        else:
            questions, key = parse_questions(record["questions"], context, where), (str(number), title, context)
        passages.setdefault(key, (title, context, []))[2].extend(questions)
    if not answerable([question for _, _, questions in passages.values() for question in questions], source):
        raise ValueError(f"{source} holds no question that has an answer")
    tasks = (
        (title, context, [q for q in questions if isinstance(q, Question)]) for title, context, questions in passages.values()
    )
    return [Task(title, context, tuple(questions)) for title, context, questions in tasks if questions]


def answerable(parsed: Sequence[Question | Unanswerable], source: str) -> list[Question]:
    """The questions that have an answer. One log line counts the others: a warning unless all of them are marked."""
    questions = [question for question in parsed if isinstance(question, Question)]
    skipped = Counter(question for question in parsed if isinstance(question, Unanswerable))
    if skipped:
        counts = ", ".join(f"{skipped[kind]} {kind.value}" for kind in Unanswerable if skipped[kind])
        level = logging.WARNING if skipped[Unanswerable.LACKING] else logging.INFO
        count = skipped.total()
        _log.log(level, "%s: skipped %d of %d questions (%s)", source, count, count + len(questions), counts)
    return questions


def parse_questions(value: Any, context: str, where: str) -> list[Question | Unanswerable]:
    """The questions of a list of ``{question, answer}``."""
    records = listed(value, "questions", where)
    if not records:
        raise ValueError(f"{where}: the list of questions is empty")
    return [parse_question(mapping(item, at), context, at) for at, item in numbered_items(records, where, "question")]


def parse_question(record: Mapping[str, Any], context: str, where: str, hint: str = "") -> Question | Unanswerable:
    """A question about ``context``.

    Raises:
        ValueError: a value has the wrong type, or there is no key for answers.
    """
    text = _text(record, "question", where, hint)
    if _is_true(record.get("is_impossible")):
        return Unanswerable.MARKED
    given = [record[key] for key in ("answer", "answers") if key in record]
    if not given:
        raise ValueError(f"{where}: no answer to {text[:80]!r} (keys 'answer' or 'answers'), only {keys_of(record)}{hint}")
    answers = [pair for value in given if not _is_nothing(value) for pair in _annotated(value)]
    if not answers:
        marked = any(isinstance(value, Mapping) and not _annotated(value) for value in given)  # {text: []}: the hub's SQuAD 2.0
        return Unanswerable.MARKED if marked else Unanswerable.LACKING
    texts = [_checked(answer, "answer", where) for answer, _ in answers]
    start = answers[0][1]
    if not isinstance(start, int) or start < 0 or not context.startswith(texts[0], start):
        start = None  # offsets in published files are sometimes off by one
    identity = record.get("id")
    identity = "" if identity is None else str(identity)
    return Question(text, tuple(dict.fromkeys(texts)), start, identity, _is_true(record.get("self_written")))


def numbered(tasks: Iterable[Task], name: str) -> list[Task]:
    """``tasks`` with ids: their own or ``name-0``, ``name-1``, ...; question ids that are empty or not unique are replaced."""
    tasks = [replace(task, id=task.id or f"{name}-{i}") for i, task in enumerate(tasks)]
    seen = Counter(question.id for task in tasks for question in task.questions)
    return [
        replace(
            task,
            questions=tuple(
                question if question.id and seen[question.id] == 1 else replace(question, id=f"{task.id}-{j}")
                for j, question in enumerate(task.questions)
            ),
        )
        for task in tasks
    ]


def check_columns(columns: Mapping[str, str] | None) -> None:
    """Raise a ValueError unless the keys of ``columns`` are in :data:`KEYS`."""
    for ours in columns or {}:
        if ours not in KEYS:
            hint = did_you_mean(ours, KEYS)
            raise ValueError(f"columns has the key {ours!r}.{hint} It maps any of {', '.join(KEYS)} to a column of yours")


def value_of(record: Mapping[str, Any], key: str, where: str, hint: str = "") -> Any:
    """``record[key]``; ``hint`` says what to do if the key is missing."""
    if key not in record:
        raise ValueError(f"{where}: no key {key!r}, only {keys_of(record)}{hint}")
    return record[key]


def list_of(record: Mapping[str, Any], key: str, where: str) -> list[Any]:
    """``record[key]``, which must be a list."""
    return listed(value_of(record, key, where), key, where)


def mapping(value: Any, where: str) -> Mapping[str, Any]:
    """``value``, which must have keys and values."""
    if not isinstance(value, Mapping):
        raise ValueError(f"{where}: expected keys and values, got {type(value).__name__}: {str(value)[:80]!r}")
    return value


def listed(value: Any, key: str, where: str) -> list[Any]:
    """``value``, which must be a list; errors call it ``key``."""
    if not isinstance(value, list):
        raise ValueError(f"{where}: {key!r} must be a list, got {type(value).__name__}: {str(value)[:80]!r}")
    return value


def numbered_items(items: list[Any], where: str, word: str) -> Iterator[tuple[str, Any]]:
    """(where, item) pairs; ``where`` counts from 1."""
    return ((f"{where}, {word} {i}", item) for i, item in enumerate(items, 1))


def keys_of(record: Mapping[str, Any]) -> str:
    """The first keys, for a message."""
    keys = [repr(key)[:40] for key in islice(record, 12)]
    return ", ".join([*keys, "..."] if len(record) > len(keys) else keys) or "nothing"


def _paragraphs(data: Mapping[str, Any], where: str) -> Iterator[tuple[str, Any]]:
    """The paragraphs of SQuAD JSON as records."""
    for at, article in numbered_items(list_of(data, "data", where), where, "article"):
        for here, paragraph in numbered_items(list_of(mapping(article, at), "paragraphs", at), at, "paragraph"):
            paragraph = mapping(paragraph, here)
            record = {"title": value_of(article, "title", at), "context": value_of(paragraph, "context", here)}
            if questions := list_of(paragraph, "qas", here):
                yield here, {**record, "questions": questions}


def _annotated(value: Any) -> list[tuple[Any, Any]]:
    """(text, start) of every annotated answer, not checked yet; the start is None if there is none."""
    if isinstance(value, Mapping):
        texts, starts = value.get("text"), value.get("answer_start")
        if not isinstance(texts, Sequence) or isinstance(texts, str):
            return [(texts, starts)]
        if not isinstance(starts, Sequence) or len(starts) != len(texts):
            starts = [None] * len(texts)
        return list(zip(texts, starts))
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [pair for item in value for pair in (_annotated(item) if isinstance(item, Mapping) else [(item, None)])]
    return [(value, None)]


def _is_nothing(value: Any) -> bool:
    """Whether ``value`` means that there is no answer: null, NaN (a missing cell of Parquet), empty text or an empty list."""
    return value is None or value != value or (isinstance(value, str) and not value.strip()) or value in ([], ())


def _is_true(value: Any) -> bool:
    """Whether a flag is set; in CSV it is text."""
    return value is True or (isinstance(value, str) and value.strip().lower() == "true")


def _renamed(record: Mapping[str, Any], columns: Mapping[str, str], where: str) -> Mapping[str, Any]:
    for ours, theirs in columns.items():
        if theirs not in record:
            raise ValueError(f"{where}: no column {theirs!r} (columns[{ours!r}]), only {keys_of(record)}")
    return {**record, **{ours: record[theirs] for ours, theirs in columns.items()}}


def _text(record: Mapping[str, Any], key: str, where: str, hint: str) -> str:
    return _checked(value_of(record, key, where, hint), key, where)


def _checked(value: Any, key: str, where: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{where}: {key} must be text, got {type(value).__name__}: {repr(value)[:80]}")
    if not value.strip():
        raise ValueError(f"{where}: {key} must not be empty, got {value[:80]!r}")
    if _SURROGATE.search(value):
        raise ValueError(f"{where}: {key} holds half of a surrogate pair, which no tokenizer can read")
    return value
