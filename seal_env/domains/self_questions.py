"""Questions that a model writes itself about a passage, where nobody else wrote any: an exam without labels.

The model is asked for questions and answers a few times (SEAL's ``self-qa`` prompt, sampled). Then it answers each question
with the passage in view, and again with the sentences of the passage in other orders. A question is kept where it nearly
always answers what it wrote. This is self-consistency, not truth: what counts as right is what the model reads in the passage,
so such questions are marked (``Question.self_written``, ``Task.label_free``), on disk too.

student = Student.from_pretrained("Qwen/Qwen2.5-7B")
QuestionWriter(student).task(load_tasks("notes").document(0)).questions
write_questions("notes", student)  # NAME.questions.json beside each document, to be read and corrected
"""

from __future__ import annotations

import os
import random
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from tqdm.auto import tqdm

from seal_env.chat import Chat, Prompt, Template, TemplateChoice, check_chat_template, resolve_template
from seal_env.checks import check_choice, check_count
from seal_env.edits import get_format
from seal_env.evaluation.closed_book import default_stop, read_answer
from seal_env.evaluation.graders import exact, normalize
from seal_env.student import Sampling, Student
from seal_env.tasks import Document, Question, Task, TaskSource, open_book_prompt, question_prompt
from seal_env.tasks.folder import DOCUMENTS, PASSAGE_WORDS, question_files, read_passages, write_question_file

_SAMPLING = Sampling(temperature=1.0, top_p=0.95)  # as SEAL samples self-edits

# "Question 1: ... Answer: ...", also in bold; the short forms "Q1:" and "A:" at the beginning of a line only.
_MARK = re.compile(r"(?:\b(Question|Answer)|^[ \t*_#>-]*\b(Q|A)) ?\d*[*_]*:[*_]*", re.MULTILINE)
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])\s*|\n+")  # noqa: RUF001
_QUESTION_MARKS = ("?", "？", "؟")  # noqa: RUF001
_POINTS_AT_PASSAGE = re.compile(r"\b(the|this|that|above) (passage|text|paragraph|excerpt)\b", re.IGNORECASE)
_SAYS_NOTHING = "yes no true false unknown none nothing it its he his him she her they their them this that these those"


class NoQuestions(ValueError):
    """A passage that the model found no question for."""


def has_questions(source: TaskSource, index: int) -> bool:
    """Whether the model finds any for item ``index`` of a source whose questions it writes."""
    try:
        source[index]
    except NoQuestions:
        return False
    return True


@dataclass(frozen=True)
class SelfQuestions:
    """How questions are written and which are kept.

    Attributes:
        count: most questions a passage; those with the strongest agreement.
        samples: how many times the model writes questions about a passage.
        readings: open-book answers to each question: the passage as it is, then its sentences in other orders.
        agreement: share of the readings that must say the answer that was written; above 0.5, so that it is a majority.
        max_question: characters of the longest question.
        max_answer: characters of the longest answer.
        writing_tokens: most tokens that the model writes each time.
        max_new_tokens: most tokens of an answer, as in the exam.
        template: whether the model is prompted as a ``base`` or an ``instruct`` model (by its chat template); ``auto``: as
            :func:`seal_env.chat.resolve_template` finds it to be.
        seed: of the sampling and of the orders of the sentences.

    Raises:
        ValueError: a value that cannot work; it is named, and what would work.
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
        question: as first written.
        answers: the agreed answer's surface forms, distinct.
        share: of the readings that gave it.
        times: how often it was written.
    """

    question: str
    answers: tuple[str, ...]
    share: float
    times: int

    def located(self, context: str) -> Question:
        """The question with a form of its answer first that stands in ``context`` word for word, if one does."""
        for answer in self.answers:
            found = re.search(_bounded(answer, "A-Za-z0-9"), context)
            if found:
                return Question(self.question, tuple(dict.fromkeys((answer, *self.answers))), found.start(), self_written=True)
        return Question(self.question, self.answers, self_written=True)


class QuestionWriter:
    """Makes tasks of documents by questions that the student's base writes.

    A task is a function of the document, the base weights and the settings: not of random state, nor of what else was asked.

    Args:
        student: its base writes and answers, without an adapter.
        settings: how.
        written: tasks that were made before with this base and these settings, or why there is none; grows.
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
        """The document and the questions written for it.

        Raises:
            NoQuestions: none passed, or the passage is too long for the model.
        """
        if self.student.base_version != self._base_version:
            self._written, self._base_version = {}, self.student.base_version
        if document not in self._written:
            self._written[document] = self._make(document)
        made = self._written[document]
        if isinstance(made, str):
            raise NoQuestions(made)
        return made

    def _make(self, document: Document) -> Task | str:
        """The task, or why there is none."""
        name = repr(document.id or document.title)
        try:
            pairs = [pair for text in self.write(document) for pair in parse_pairs(text)]
            questions = self.choose(document, pairs)
        except ValueError as error:  # the passage leaves the model no room
            return f"document {name}: {error}; cut it into shorter passages, or take a model that reads more"
        if not questions:
            return (
                f"document {name}: the model wrote {len(pairs)} questions, none of use that it answers alike each time:"
                " put questions beside it in NAME.questions.json, take a larger model, or raise self_questions['samples']"
            )
        numbered = tuple(replace(question, id=f"{document.id}-{i}") for i, question in enumerate(questions))
        return Task(document.title, document.context, numbered, document.id)

    def choose(self, document: Document, pairs: Sequence[tuple[str, str]]) -> list[Question]:
        """The questions of the exam, in the order of the passage."""
        settings = self.settings
        usable = usable_questions(pairs, document, settings)
        contexts = reorderings(document.context, settings.readings, settings.seed)
        prompts = [
            [open_book_prompt(document.title, context, question, self.template) for context in contexts] for question in usable
        ]
        agreed = [
            settle(question, written, readings, settings.agreement)
            for (question, written), readings in zip(usable.items(), self._ask(prompts))
        ]
        ranked = distinct(one for one in agreed if one is not None)
        closed = self._ask([[question_prompt(document.title, one.question, self.template)] for one in ranked])
        unknown = [one for one, (answer,) in zip(ranked, closed) if not exact(answer, one.answers)]
        # What the base knows already shows nothing of an update; where it knows all, it can still be asked what it kept.
        kept = [one.located(document.context) for one in (unknown or ranked)[: settings.count]]
        return sorted(kept, key=lambda one: len(document.context) if one.answer_start is None else one.answer_start)

    def write(self, document: Document) -> list[str]:
        """What the model writes when it is asked for questions, once a sample."""
        rng = random.Random(self.settings.seed)
        seeds = [rng.getrandbits(32) for _ in range(self.settings.samples)]
        prompt, opening = self.prompt(document)
        (samples,) = self.student.sample(
            self.student.zero(1),
            [[prompt] * len(seeds)],
            seeds=[seeds],
            sampling=_SAMPLING,
            max_new_tokens=self.settings.writing_tokens,
        )
        # A text that was cut off ends in half a line.
        texts = [one.text.rpartition("\n")[0] if one.finish == "length" else one.text for one in samples]
        return [opening + text if self._chat is None else self._chat.answer(text) for text in texts]

    def prompt(self, document: Document) -> tuple[Prompt, str]:
        """The prompt that asks for questions, and what it already wrote of the first one."""
        asked = get_format("self-qa")
        return self._prompt(asked.prompt(document, self.template)), asked.opening(self.template)

    def _prompt(self, text: str) -> Prompt:
        return text if self._chat is None else self._chat.prompt(text)

    def _ask(self, texts: list[list[str]]) -> list[list[str]]:
        """Greedy answers, in the shape of the prompts' texts."""
        (answers,) = self.student.answer(
            self.student.zero(1),
            [[self._prompt(text) for group in texts for text in group]],
            max_new_tokens=self.settings.max_new_tokens,
            stop=default_stop(self._chat),
        )
        read = iter([read_answer(answer.text, self._chat) for answer in answers])
        return [[next(read) for _ in group] for group in texts]


def write_questions(
    folder: str | os.PathLike[str],
    student: Student,
    settings: SelfQuestions | None = None,
    *,
    passage_words: int = PASSAGE_WORDS,
    progress: bool = False,
) -> list[Path]:
    """Write NAME.questions.json beside each document of ``folder`` that has no questions yet.

    ``load_tasks(folder)`` then reads them. A person should look at them: correct what is wrong, delete what is useless, and
    take ``"self_written": true`` off what was checked. Each file appears whole or not at all, and what exists is left alone,
    so that a call that was interrupted can be made again.

    Args:
        folder: of .txt and .md documents, or one of them.
        student: its base writes the questions.
        settings: how.
        passage_words: as of ``load_tasks``: ``settings.count`` is of a passage.
        progress: show a progress bar of documents.

    Returns:
        The files written. A document that the model found no question for gets none.

    Raises:
        ValueError: no such documents, two that would share a file, or no question for any.
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
    marks = list(_MARK.finditer(text))
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    parts = [((mark[1] or mark[2])[0], text[mark.end() : end].strip()) for mark, end in zip(marks, ends)]
    return [
        (_bare(question), _bare(answer.partition("\n")[0]).removesuffix("."))
        for (kind, question), (after, answer) in zip(parts, parts[1:])
        if (kind, after) == ("Q", "A")
    ]


def usable_questions(pairs: Iterable[tuple[str, str]], document: Document, settings: SelfQuestions) -> dict[str, list[str]]:
    """The questions that can be asked in an exam about ``document``, each once, and the answers written to it.

    A question ends in a question mark and does not point at "the passage", which is out of sight when it is asked. An answer
    stands in the passage, but not in the question or the title, and is more than a yes, a no or a pronoun. Both are short.
    """
    found: dict[str, tuple[str, list[str]]] = {}
    for question, answer in pairs:
        said = normalize(answer)
        if not (0 < len(question) <= settings.max_question and 0 < len(answer) <= settings.max_answer):
            continue
        if not question.endswith(_QUESTION_MARKS) or (_POINTS_AT_PASSAGE.search(question)):
            continue
        if not said or said in _SAYS_NOTHING.split() or not _holds(document.context, answer):
            continue
        if _holds(question, answer) or _holds(document.title, answer):
            continue
        found.setdefault(normalize(question), (question, []))[1].append(answer)
    return dict(found.values())


def settle(question: str, written: Sequence[str], readings: Sequence[str], agreement: float) -> Agreed | None:
    """What the readings answer to ``question``, if a share of at least ``agreement`` says the same and it was written so."""
    said, votes = Counter(normalize(reading) for reading in readings).most_common(1)[0]
    times = sum(normalize(answer) == said for answer in written)
    if not times or votes < agreement * len(readings):
        return None
    forms = dict.fromkeys(answer for answer in (*written, *readings) if normalize(answer) == said)
    return Agreed(question, tuple(forms), votes / len(readings), times)


def distinct(agreed: Iterable[Agreed]) -> list[Agreed]:
    """One question an answer, the most agreed first: most often read, then most often written, then first written."""
    best: dict[str, Agreed] = {}
    for one in sorted(agreed, key=lambda one: (-one.share, -one.times)):
        best.setdefault(normalize(one.answers[0]), one)
    return list(best.values())


def reorderings(context: str, count: int, seed: int) -> list[str]:
    """``context`` as it is, then ``count - 1`` times with its sentences in other orders."""
    sentences = [sentence for sentence in _SENTENCE_END.split(context) if sentence.strip()]
    rng = random.Random(seed)
    return [context, *(" ".join(rng.sample(sentences, len(sentences))) for _ in range(count - 1))]


def _bare(text: str) -> str:
    """One line without Markdown's stars and without quotation marks around it."""
    return " ".join(text.split()).strip('*_ "“”')


def _holds(text: str, part: str) -> bool:
    """Whether ``part`` stands in ``text`` after normalization, not inside a word or number."""
    return bool(re.search(_bounded(normalize(part), "a-z0-9"), normalize(text)))


def _bounded(part: str, inside: str) -> str:
    # Not \b: Chinese and Japanese write no spaces between words.
    return rf"(?<![{inside}]){re.escape(part)}(?![{inside}])"


def _check_files(paths: Iterable[Path]) -> None:
    """Raise a ValueError if ``a.md`` lies beside ``a.txt``: their questions would be one file."""
    seen: dict[Path, Path] = {}
    for path in paths:
        other = seen.setdefault(path.with_suffix(""), path)
        if other != path:
            raise ValueError(f"{other} and {path.name} would have their questions in one file: rename one of them")
