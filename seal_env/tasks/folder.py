"""Documents: a folder of .txt, .md and .markdown files, with files of questions beside them or without.

``otrar.md`` is a document; ``otrar.questions.json`` beside it is a list of ``{question, answer}`` (or .jsonl, .csv, ...: any
kind of file that ``load_tasks`` reads). Its title is the ``title`` of its front matter, else its first Markdown heading, else
the file's name (``seal_env.tasks.markup``); front matter and HTML comments are not part of the text. A document of more than
``passage_words`` words is cut into passages of about that length (``seal_env.tasks.passages``), which all have the document's
title. A question belongs to the passage that contains its answer; of several passages, to the one that shares most words with
the question. An answer is never cut in two. ``self_written: true`` marks a question that a model wrote
(``seal_env.domains.self_questions``); remove it once you have checked the question.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from seal_env.files import atomic_write
from seal_env.tasks.markup import parts
from seal_env.tasks.passages import distinct_words, phrase, split, word_count
from seal_env.tasks.records import Unanswerable, answerable, listed, mapping, parse_question
from seal_env.tasks.tables import TABLES, read_json_records, read_records, read_text
from seal_env.tasks.task import Document, Question, Task

MARKDOWN = (".md", ".markdown")
DOCUMENTS = (".txt", *MARKDOWN)
PASSAGE_WORDS = 300
_QUESTIONS = tuple(f".questions{ending}" for ending in (".json", *TABLES))


def document_files(folder: Path) -> list[Path]:
    """The documents in ``folder`` and its subfolders, sorted by path, without hidden ones."""
    return [path for path in visible_files(folder) if path.suffix.lower() in DOCUMENTS]


def visible_files(folder: Path) -> list[Path]:
    """All files in ``folder`` and its subfolders, sorted by path, without hidden ones."""
    files = ((path.relative_to(folder), path) for path in folder.rglob("*") if path.is_file())
    return [path for name, path in sorted(files) if not any(part.startswith(".") for part in name.parts)]


def is_questions(path: Path) -> bool:
    """Whether ``path`` has the name of a file of questions."""
    return path.name.lower().endswith(_QUESTIONS)


def read_documents(folder: Path, passage_words: int = PASSAGE_WORDS) -> list[Task] | list[Document]:
    """The passages of a document, or of all documents in a folder.

    Returns:
        Tasks, without the passages that have no question; documents if there is no question at all.

    Raises:
        ValueError: a file cannot be read, a document is empty, or there are questions but none has an answer.
    """
    documents: list[Document] = []
    tasks: list[Task] = []
    read = _read(folder, passage_words)
    for passages, questions in read.values():
        documents += passages
        for passage, own in zip(passages, _by_passage(questions, passages)):
            tasks += [Task(passage.title, passage.context, tuple(own), passage.id)] if own else []
    if not tasks and (files := [file for path in read for file in question_files(path)]):
        raise ValueError(f"{files[0] if len(files) == 1 else folder} holds no question that has an answer")
    return tasks or documents


def read_passages(folder: Path, passage_words: int = PASSAGE_WORDS) -> dict[Path, list[Document]]:
    """The passages of each document in ``folder`` (or of the document ``folder``), with or without questions."""
    return {path: passages for path, (passages, _) in _read(folder, passage_words).items()}


def question_files(path: Path) -> list[Path]:
    """The files of questions beside the document ``path``."""
    return [file for ending in _QUESTIONS if (file := path.with_name(path.stem + ending)).is_file()]


def write_question_file(path: Path, questions: Iterable[Question]) -> Path:
    """Write NAME.questions.json beside the document ``path`` atomically; returns its path."""
    records = [
        {"question": q.question, "answers": list(q.answers), **({"self_written": True} if q.self_written else {})}
        for q in questions
    ]
    target = path.with_name(path.stem + _QUESTIONS[0])
    with atomic_write(target) as partial:
        partial.write_text(json.dumps(records, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return target


def _read(folder: Path, passage_words: int) -> dict[Path, tuple[list[Document], list[Question]]]:
    """The passages and the questions of each document."""
    root, files = (folder.parent, [folder]) if folder.is_file() else (folder, document_files(folder))
    if folder.is_dir():
        _check_questions_belong(folder, files)
    read = {}
    parsed: list[Question | Unanswerable] = []
    for path in files:
        document = _document(path, path.relative_to(root).as_posix())
        own = _questions_beside(path)
        parsed += own
        questions = [question for question in own if isinstance(question, Question)]
        read[path] = (_passages(document, passage_words, [question.answers[0] for question in questions]), questions)
    answerable(parsed, str(folder))  # logs how many are not
    return read


def _document(path: Path, name: str) -> Document:
    """The document in the file ``path``, not cut; ``name`` becomes its id."""
    text = read_text(path).replace("\r\n", "\n").replace("\r", "\n")
    text = re.sub(r"[ \t]*\n?\f", "\n", text)  # between the pages of a PDF, often within a sentence
    document = parts(text, str(path), path.suffix.lower() in MARKDOWN)
    if not word_count(document.text):
        but = f" but its {' and '.join(document.removed)}" if document.removed else ""
        raise ValueError(f"{path} has no text{but}: write some or remove the file")
    return Document(document.title or path.stem, document.text, name)


def _passages(document: Document, passage_words: int, answers: Sequence[str]) -> list[Document]:
    texts = split(document.context, passage_words, [phrase(answer) for answer in answers])
    ids = [document.id] if len(texts) == 1 else [f"{document.id}#{i}" for i in range(1, len(texts) + 1)]
    return [Document(document.title, text, identity) for text, identity in zip(texts, ids)]


def _questions_beside(path: Path) -> list[Question | Unanswerable]:
    questions: list[Question | Unanswerable] = []
    for file in question_files(path):
        records: Any = read_json_records(file, "question") if file.suffix.lower() == ".json" else read_records(file)
        if isinstance(records, Mapping) and "question" in records and records.keys() & {"answer", "answers"}:
            records = [(str(file), records)]  # a single JSON line
        if not listed(records, "questions", str(file)):
            raise ValueError(f"{file}: the list of questions is empty")
        questions += [parse_question(mapping(record, where), "", where) for where, record in records]
    return questions


def _by_passage(questions: list[Question], passages: list[Document]) -> list[list[Question]]:
    """The questions of each passage: the one with the answer; of several or none, the one with most words in common."""
    by_passage: list[list[Question]] = [[] for _ in passages]
    vocabularies = [distinct_words(passage.context) for passage in passages]
    for question in questions:
        answer, words = phrase(question.answers[0]), distinct_words(question.question)
        fits = [
            (answer.search(passage.context) is not None, len(words & vocabulary))
            for passage, vocabulary in zip(passages, vocabularies)
        ]
        by_passage[fits.index(max(fits))].append(question)
    return by_passage


def _check_questions_belong(folder: Path, files: list[Path]) -> None:
    known = {path.with_name(path.stem) for path in files}
    for path in visible_files(folder):
        stem = path.name[: path.name.lower().rfind(".questions.")]
        if is_questions(path) and path.with_name(stem) not in known:
            *most, last = (stem + ending for ending in DOCUMENTS)
            raise ValueError(f"{path} belongs to no document: there is no {', '.join(most)} or {last} beside it")
