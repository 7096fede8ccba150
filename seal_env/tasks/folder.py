"""Anybody's documents: a folder of .txt and .md files, with questions beside them or without any.

``otrar.md`` is a document; ``otrar.questions.json`` or ``otrar.questions.jsonl`` beside it is a list of ``{question, answer}``.
Its title is the first Markdown heading or else the file's name. A document of more than ``passage_words`` words is cut
between paragraphs into passages of about that length (a paragraph is never cut), each under the document's title. A question
goes to the passage that holds its answer, and of several to the one that shares most words with it. ``self_written: true``
marks a question that a model wrote (``seal_env.self_questions``): take it off what you checked.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from seal_env.files import whole
from seal_env.tasks.squad import parse_questions
from seal_env.tasks.tables import read_json, read_records, read_text
from seal_env.tasks.task import Question, Task

DOCUMENTS = (".txt", ".md")
PASSAGE_WORDS = 300
_QUESTIONS = (".questions.json", ".questions.jsonl")
_HEADING = re.compile(r"^ {0,3}#{1,6}[ \t]+(.*?)[ \t#]*$", re.MULTILINE)
_FENCED = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Document:
    """A passage that nobody wrote questions for.

    Attributes:
        title: what it is about.
        context: the passage.
        id: unique within its source.
    """

    title: str
    context: str
    id: str = ""


def document_files(folder: Path) -> list[Path]:
    """The documents in ``folder`` and below, by path; hidden ones are left out."""
    return [path for path in visible_files(folder) if path.suffix.lower() in DOCUMENTS]


def visible_files(folder: Path) -> list[Path]:
    """All files in ``folder`` and below, by path; hidden ones are left out."""
    files = ((path.relative_to(folder), path) for path in folder.rglob("*") if path.is_file())
    return [path for name, path in sorted(files) if not any(part.startswith(".") for part in name.parts)]


def is_questions(path: Path) -> bool:
    """Whether ``path`` is named like a file of questions."""
    return path.name.lower().endswith(_QUESTIONS)


def read_documents(folder: Path, passage_words: int = PASSAGE_WORDS) -> list[Task] | list[Document]:
    """The passages of the documents in ``folder`` (or of the one that it is): tasks if there are any questions.

    Then passages without a question are left out; without any question at all they are documents.
    """
    documents: list[Document] = []
    tasks: list[Task] = []
    for path, passages in read_passages(folder, passage_words).items():
        documents += passages
        asked = _shared_out(_questions_beside(path), passages)
        tasks += [Task(item.title, item.context, tuple(some), item.id) for item, some in zip(passages, asked) if some]
    return tasks or documents


def read_passages(folder: Path, passage_words: int = PASSAGE_WORDS) -> dict[Path, list[Document]]:
    """The passages of each document in ``folder`` (or of the one that it is), whether there are questions or not."""
    root, files = (folder.parent, [folder]) if folder.is_file() else (folder, document_files(folder))
    if folder.is_dir():
        _check_questions_belong(folder, files)
    return {path: list(_passages(path, path.relative_to(root).as_posix(), passage_words)) for path in files}


def question_files(path: Path) -> list[Path]:
    """The files of questions beside the document ``path``."""
    return [beside for ending in _QUESTIONS if (beside := path.with_name(path.stem + ending)).is_file()]


def write_question_file(path: Path, questions: Iterable[Question]) -> Path:
    """Write NAME.questions.json beside the document ``path``, whole or not at all; returns where."""
    records = [
        {"question": one.question, "answers": list(one.answers), **({"self_written": True} if one.self_written else {})}
        for one in questions
    ]
    target = path.with_name(path.stem + _QUESTIONS[0])
    with whole(target) as partial:
        partial.write_text(json.dumps(records, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return target


def _passages(path: Path, name: str, passage_words: int) -> Iterator[Document]:
    text = read_text(path).replace("\r\n", "\n").replace("\r", "\n").strip()
    title = path.stem
    heading = _HEADING.search(_FENCED.sub(lambda fenced: " " * len(fenced[0]), text)) if path.suffix.lower() == ".md" else None
    if heading and heading[1].strip():
        title = heading[1].strip()
        text = text[heading.end() :].strip() if heading.start() == 0 else text
    if not text:
        raise ValueError(f"{path} has no text{' but its heading' if heading else ''}: write some or take it away")
    parts = _split(text, passage_words)
    for i, part in enumerate(parts, 1):
        yield Document(title, part, name if len(parts) == 1 else f"{name}#{i}")


def _split(text: str, passage_words: int) -> list[str]:
    """``text`` cut between paragraphs into passages of about ``passage_words`` words at most, as equal as can be."""
    paragraphs = re.split(r"\n[ \t]*\n\s*", text)
    lengths = [len(paragraph.split()) for paragraph in paragraphs]
    total, before = sum(lengths), 0
    passages = -(-total // passage_words)
    place = []
    for length in lengths:
        place.append(int((before + length / 2) * passages / total))  # the passage that the paragraph's middle lies in
        before += length
    return ["\n\n".join(paragraphs[i] for i in group) for _, group in groupby(range(len(paragraphs)), place.__getitem__)]


def _questions_beside(path: Path) -> list[Question]:
    found: list[Question | None] = []
    for beside in question_files(path):
        records: Any = read_json(beside) if beside.name.endswith(".json") else [row for _, row in read_records(beside)]
        found += parse_questions(records, "", str(beside))
    return [question for question in found if question is not None]


def _shared_out(questions: list[Question], passages: list[Document]) -> list[list[Question]]:
    """The questions of each passage: that which holds the answer; of several or none, the one with most words in common."""
    asked: list[list[Question]] = [[] for _ in passages]
    texts = [passage.context.casefold() for passage in passages]
    vocabularies = [_words(text) for text in texts]
    for question in questions:
        answer, words = question.answers[0].casefold(), _words(question.question.casefold())
        fits = [(answer in text, len(words & vocabulary)) for text, vocabulary in zip(texts, vocabularies)]
        asked[fits.index(max(fits))].append(question)
    return asked


def _check_questions_belong(folder: Path, files: list[Path]) -> None:
    known = {path.with_name(path.stem) for path in files}
    for path in visible_files(folder):
        if is_questions(path) and path.with_name(path.name[: path.name.lower().rindex(".questions.")]) not in known:
            stem = path.name[: path.name.lower().rindex(".questions.")]
            raise ValueError(f"{path} belongs to no document: there is no {stem}.txt or {stem}.md beside it")


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text))
