"""Questions that a model writes about a passage that has none: an evaluation without labels.

The model writes questions with answers several times (SEAL's ``self-qa`` prompt, sampled). It then answers each question with
the passage in view, and again with the sentences of the passage in other orders. A question is kept if nearly all of these
answers equal the written one. This is self-consistency, not truth: the accepted answer is what the model reads in the passage.
Such questions are therefore flagged (``Question.self_written``, ``Task.label_free``), in files as well.

student = Student.from_pretrained("Qwen/Qwen2.5-7B")
QuestionWriter(student).task(load_tasks("notes").document(0)).questions
write_questions("notes", student)  # NAME.questions.json beside each document, to review and correct
"""

from __future__ import annotations

import os
import random
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from tqdm.auto import tqdm

from seal_env.chat import Chat, Prompt, Template, TemplateChoice, check_chat_template, resolve_template
from seal_env.checks import check_choice, check_count
from seal_env.edits import get_format
from seal_env.evaluation.closed_book import default_stop, read_answer
from seal_env.evaluation.graders import exact, normalize
from seal_env.tasks import Document, Question, Task, TaskSource, open_book_prompt, question_prompt
from seal_env.tasks.folder import DOCUMENTS, PASSAGE_WORDS, question_files, read_passages, write_question_file

if TYPE_CHECKING:
    from seal_env.student import Student

# "Question 1: ... Answer: ...", also in bold; the short forms "Q1:" and "A:" at the beginning of a line only.
_LABEL = re.compile(r"(?:\b(Question|Answer)|^[ \t*_#>-]*\b(Q|A)) ?\d*[*_]*:[*_]*", re.MULTILINE)
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])\s*|\n+")  # noqa: RUF001
_QUESTION_MARKS = ("?", "？", "؟")  # noqa: RUF001
_MENTIONS_PASSAGE = re.compile(r"\b(the|this|that|above) (passage|text|paragraph|excerpt)\b", re.IGNORECASE)
_NO_ANSWERS = {
    *("yes", "no", "true", "false", "unknown", "none", "nothing", "it", "its", "he", "his", "him", "she", "her", "they"),
    *("their", "them", "this", "that", "these", "those"),
}


class NoQuestions(ValueError):
    """The model found no question for a passage."""


def has_questions(source: TaskSource, index: int) -> bool:
    """Whether the model finds questions for item ``index`` of a source whose questions it writes."""
    try:
        source[index]
    except NoQuestions:
        return False
    return True


@dataclass(frozen=True)
class SelfQuestions:
    """How questions are written and which ones are kept.

    Attributes:
        count: most questions a passage; the ones with the highest agreement are kept.
        samples: number of times that the model writes questions about a passage.
        readings: number of open-book answers to each question: with the passage as it is, then with its sentences reordered.
        agreement: share of the readings that must give the written answer; above 0.5, so that it is a majority.
        max_question: length of the longest question, in characters.
        max_answer: length of the longest answer, in characters.
        writing_tokens: most tokens of each sample.
        max_new_tokens: most tokens of an answer, as in the evaluation.
        template: whether the model is prompted as a ``base`` or an ``instruct`` model; ``auto``: see
            :func:`seal_env.chat.resolve_template`.
        seed: of the sampling and of the orders of the sentences.

    Raises:
        ValueError: a value is invalid; the message names it and what is valid.
    """

    count: int = 5
    samples: int = 4
    readings: int = 5
    agreement: float = 0.75
    max_question: int = 200
    max_answer: int = 60
    writing_tokens: int = 256
    max_new_tokens: int = 64
    template: TemplateChoice = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("count", "samples", "readings", "max_question", "max_answer", "writing_tokens", "max_new_tokens"):
            check_count(name, getattr(self, name))
        if not isinstance(self.agreement, int | float) or not 0.5 < self.agreement <= 1:
            raise ValueError(f"agreement must be above 0.5 and at most 1, got {self.agreement!r}")
        if not isinstance(self.seed, int):
            raise ValueError(f"seed must be an integer, got {self.seed!r}")
        check_choice("template", self.template, get_args(TemplateChoice))


@dataclass(frozen=True)
class Agreed:
    """A question whose answer the readings agree on.

    Attributes:
        question: in its first wording.
        answers: the distinct spellings of the agreed answer.
        share: of the readings that gave it.
        times: number of samples in which it was written.
    """

    question: str
    answers: tuple[str, ...]
    share: float
    times: int

    def located(self, context: str) -> Question:
        """The question; the first of its answers is one that occurs verbatim in ``context``, if there is one."""
        for answer in self.answers:
            match = re.search(_bounded(answer, "A-Za-z0-9"), context)
            if match:
                return Question(self.question, tuple(dict.fromkeys((answer, *self.answers))), match.start(), self_written=True)
        return Question(self.question, self.answers, self_written=True)


class QuestionWriter:
    """Turns documents into tasks with questions that the student's base model writes.

    A task is a function of the document, the base weights and the settings; it does not depend on global random state or on
    other documents.

    Args:
        student: writes and answers without an adapter.
        settings: how questions are written and which ones are kept.
        written: cache of tasks for this base model and these settings, or of the reason why a document has none; it is updated.
    """

    def __init__(
        self, student: Student, settings: SelfQuestions | None = None, written: dict[Document, Task | str] | None = None
    ) -> None:
        self.student = student
        self.settings = settings or SelfQuestions()
        tokenizer = student.tokenizer
        self.template: Template = resolve_template(self.settings.template, student.model, tokenizer)
        check_chat_template(tokenizer, self.template)
        self._chat = Chat(tokenizer) if self.template == "instruct" else None
        self._written = {} if written is None else written
        self._base_version = student.base_version

    def task(self, document: Document) -> Task:
        """The document with the questions written for it.

        Raises:
            NoQuestions: no question was kept, or the passage is too long for the model.
        """
        if self.student.base_version != self._base_version:
            self._written, self._base_version = {}, self.student.base_version
        if document not in self._written:
            self._written[document] = self._write_task(document)
        task = self._written[document]
        if isinstance(task, str):
            raise NoQuestions(task)
        return task

    def _write_task(self, document: Document) -> Task | str:
        """The task, or the reason why there is none."""
        name = repr(document.id or document.title)
        try:
            pairs = [pair for text in self.write(document) for pair in parse_pairs(text)]
            questions = self.choose(document, pairs)
        except ValueError as error:  # the passage leaves the model no room
            return f"document {name}: {error}; cut it into shorter passages, or use a model with a longer context"
        if not questions:
            return (
                f"document {name}: the model wrote {len(pairs)} questions, and none that it answers consistently is usable:"
                " put questions beside it in NAME.questions.json, use a larger model, or raise self_questions['samples']"
            )
        numbered = tuple(replace(question, id=f"{document.id}-{i}") for i, question in enumerate(questions))
        return Task(document.title, document.context, numbered, document.id)

    def choose(self, document: Document, pairs: Sequence[tuple[str, str]]) -> list[Question]:
        """The questions to keep of these (question, answer) pairs, in the order in which the passage answers them."""
        settings = self.settings
        usable = usable_questions(pairs, document, settings)
        contexts = reorderings(document.context, settings.readings, settings.seed)
        prompts = [
            [open_book_prompt(document.title, context, question, self.template) for context in contexts] for question in usable
        ]
        agreed = [
            settle(question, written, readings, settings.agreement)
            for (question, written), readings in zip(usable.items(), self._answer(prompts))
        ]
        ranked = distinct(candidate for candidate in agreed if candidate is not None)
        closed_book = self._answer([[question_prompt(document.title, kept.question, self.template)] for kept in ranked])
        unknown = [kept for kept, (answer,) in zip(ranked, closed_book) if not exact(answer, kept.answers)]
        # Questions that the base answers closed-book show no effect of an update; if all are, they still show forgetting.
        questions = [kept.located(document.context) for kept in (unknown or ranked)[: settings.count]]
        return sorted(questions, key=lambda q: len(document.context) if q.answer_start is None else q.answer_start)

    def write(self, document: Document) -> list[str]:
        """The samples of the model for the prompt that asks for questions."""
        from seal_env.student import Sampling  # imports torch

        rng = random.Random(self.settings.seed)
        seeds = [rng.getrandbits(32) for _ in range(self.settings.samples)]
        prompt, opening = self.prompt(document)
        (samples,) = self.student.sample(
            self.student.zero(1),
            [[prompt] * len(seeds)],
            seeds=[seeds],
            sampling=Sampling(temperature=1.0, top_p=0.95),  # as SEAL samples self-edits
            max_new_tokens=self.settings.writing_tokens,
        )
        # The last line of a sample that reached the limit is incomplete.
        texts = [sample.text.rpartition("\n")[0] if sample.finish == "length" else sample.text for sample in samples]
        return [opening + text if self._chat is None else self._chat.answer(text) for text in texts]

    def prompt(self, document: Document) -> tuple[Prompt, str]:
        """The prompt that asks for questions, and the beginning of the first question that the prompt ends with."""
        edit_format = get_format("self-qa")
        return self._prompt(edit_format.prompt(document, self.template)), edit_format.opening(self.template)

    def _prompt(self, text: str) -> Prompt:
        return text if self._chat is None else self._chat.prompt(text)

    def _answer(self, texts: list[list[str]]) -> list[list[str]]:
        """Greedy answers to prompts; nested like ``texts``."""
        (answers,) = self.student.answer(
            self.student.zero(1),
            [[self._prompt(text) for group in texts for text in group]],
            max_new_tokens=self.settings.max_new_tokens,
            stop=default_stop(self._chat),
        )
        results = iter([read_answer(answer.text, self._chat) for answer in answers])
        return [[next(results) for _ in group] for group in texts]


def write_questions(
    folder: str | os.PathLike[str],
    student: Student,
    settings: SelfQuestions | None = None,
    *,
    passage_words: int = PASSAGE_WORDS,
    progress: bool = False,
) -> list[Path]:
    """Write NAME.questions.json beside each document of ``folder`` that has no questions yet.

    ``load_tasks(folder)`` then reads them. Review the files: correct or delete questions, and remove ``"self_written": true``
    from those that are checked. Files are written atomically and existing files are kept, so that an interrupted call can be
    repeated.

    Args:
        folder: a folder of .txt and .md documents, or a document.
        student: its base model writes the questions.
        settings: how questions are written and which ones are kept.
        passage_words: length of the passages that documents are cut into, in words; ``settings.count`` is per passage.
        progress: whether to show a progress bar of documents.

    Returns:
        Paths of the files written. Documents that the model found no question for get no file.

    Raises:
        ValueError: there are no such documents, two would share a file, or no document got a question.
    """
    root = Path(folder).expanduser()
    if not (root.is_dir() or (root.is_file() and root.suffix.lower() in DOCUMENTS)):
        raise ValueError(f"folder must be a folder of documents or one ({', '.join(DOCUMENTS)}), got {str(folder)!r}")
    passages = read_passages(root, passage_words)
    if not passages:
        raise ValueError(f"{str(folder)!r} holds no document ({', '.join(DOCUMENTS)})")
    _check_files(passages)
    writer = QuestionWriter(student, settings)
    written, reason = [], ""
    missing = [path for path in passages if not question_files(path)]
    for path in tqdm(missing, desc="questions", unit="doc", disable=not progress):
        questions: list[Question] = []
        for passage in passages[path]:
            try:
                questions += writer.task(passage).questions
            except NoQuestions as error:
                reason = str(error)
        if questions:
            written.append(write_question_file(path, questions))
    if not written and len(missing) == len(passages):
        raise ValueError(f"{str(folder)!r}: no question for any of {len(missing)} documents, the last being {reason}")
    return written


# From texts to questions ------------------------------------------------------------------------------------------------


def parse_pairs(text: str) -> list[tuple[str, str]]:
    """(question, answer) pairs of ``Question 1: ... Answer: ...``; an answer is one line."""
    labels = list(_LABEL.finditer(text))
    ends = [label.start() for label in labels[1:]] + [len(text)]
    parts = [((label[1] or label[2])[0], text[label.end() : end].strip()) for label, end in zip(labels, ends)]
    return [
        (_bare(question), _bare(answer.partition("\n")[0]).removesuffix("."))
        for (kind, question), (after, answer) in zip(parts, parts[1:])
        if (kind, after) == ("Q", "A")
    ]


def usable_questions(pairs: Iterable[tuple[str, str]], document: Document, settings: SelfQuestions) -> dict[str, list[str]]:
    """The usable questions about ``document``, without duplicates, with the answers written to each.

    A question ends in a question mark and does not mention "the passage", which the evaluation does not show. An answer
    occurs in the passage, but not in the question or the title, and is not just a yes, a no or a pronoun. Both are short.
    """
    usable: dict[str, tuple[str, list[str]]] = {}
    for question, answer in pairs:
        if not (0 < len(question) <= settings.max_question and 0 < len(answer) <= settings.max_answer):
            continue
        if not question.endswith(_QUESTION_MARKS) or _MENTIONS_PASSAGE.search(question):
            continue
        if not normalize(answer) or normalize(answer) in _NO_ANSWERS or not _contains(document.context, answer):
            continue
        if _contains(question, answer) or _contains(document.title, answer):
            continue
        usable.setdefault(normalize(question), (question, []))[1].append(answer)
    return dict(usable.values())


def settle(question: str, written: Sequence[str], readings: Sequence[str], agreement: float) -> Agreed | None:
    """The commonest of the readings, if at least a share of ``agreement`` gives it and it is one of the written answers."""
    answer, votes = Counter(map(normalize, readings)).most_common(1)[0]
    times = sum(normalize(other) == answer for other in written)
    if not times or votes < agreement * len(readings):
        return None
    spellings = dict.fromkeys(other for other in (*written, *readings) if normalize(other) == answer)
    return Agreed(question, tuple(spellings), votes / len(readings), times)


def distinct(agreed: Iterable[Agreed]) -> list[Agreed]:
    """One question for each answer, ranked by the share of readings, then by how often it was written, then by order."""
    best: dict[str, Agreed] = {}
    for candidate in sorted(agreed, key=lambda candidate: (-candidate.share, -candidate.times)):
        best.setdefault(normalize(candidate.answers[0]), candidate)
    return list(best.values())


def reorderings(context: str, count: int, seed: int) -> list[str]:
    """``context``, then ``count - 1`` copies with the sentences shuffled."""
    sentences = [sentence for sentence in _SENTENCE_END.split(context) if sentence.strip()]
    rng = random.Random(seed)
    return [context, *(" ".join(rng.sample(sentences, len(sentences))) for _ in range(count - 1))]


def _bare(text: str) -> str:
    """``text`` on one line, without Markdown emphasis and quotation marks around it."""
    return " ".join(text.split()).strip('*_ "“”')


def _contains(text: str, part: str) -> bool:
    """Whether ``part`` occurs in ``text`` as whole words after normalization."""
    return bool(re.search(_bounded(normalize(part), "a-z0-9"), normalize(text)))


def _bounded(part: str, inside: str) -> str:
    # Not \b: Chinese and Japanese write no spaces between words.
    return rf"(?<![{inside}]){re.escape(part)}(?![{inside}])"


def _check_files(paths: Iterable[Path]) -> None:
    """Raise a ValueError for ``a.md`` beside ``a.txt``, whose questions would be in one file."""
    seen: dict[Path, Path] = {}
    for path in paths:
        other = seen.setdefault(path.with_suffix(""), path)
        if other != path:
            raise ValueError(f"{other} and {path.name} would have their questions in one file: rename one of them")
