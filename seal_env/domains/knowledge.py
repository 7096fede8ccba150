"""Knowledge: a self-edit is text about a passage, and the exam is closed-book (paper, section 4.1)."""

from __future__ import annotations

import functools

from seal_env.chat import Chat
from seal_env.domains.config import KnowledgeConfig
from seal_env.domains.self_questions import NoQuestions, QuestionWriter, SelfQuestions
from seal_env.edits import ParsedEdit, get_format, parse
from seal_env.evaluation import ClosedBook, Evaluator
from seal_env.rewards import Proxy
from seal_env.student import Student
from seal_env.tasks import Document, Question, Task, TaskSource, load_tasks
from seal_env.tasks.almanac import FIRST_UNREAD
from seal_env.update import Update

_TRIED = 32  # documents that a model may find no question for before its data set is refused


@functools.lru_cache(maxsize=16)
def shared_questions(
    model: str, device: str, dtype: str, trust_remote_code: bool, settings: SelfQuestions
) -> dict[Document, Task | str]:
    """What the model wrote so far about documents without questions, once a process."""
    return {}


class Knowledge:
    """See :class:`~seal_env.domains.domain.Domain`.

    Args:
        config: of the environment.
        student: writes questions about documents that have none.
    """

    def __init__(self, config: KnowledgeConfig, student: Student) -> None:
        self._format, self._settings = get_format(config.edit_format), config.settings()
        chat = Chat(student.tokenizer) if config.student_template == "instruct" else None
        self.evaluator: Evaluator = ClosedBook(config.make_grader(), max_new_tokens=config.answer_tokens, chat=chat)
        self.proxy: Proxy | None = config.make_proxy() if config.approximate else None
        self.source = _source(config)
        if self.proxy and not self.source.has_questions:
            self.source = self.source.with_questions(_never_asked)
        self.writes_questions = not self.source.has_questions
        if self.writes_questions:
            base = (config.model, config.device, config.dtype, config.trust_remote_code)
            settings = config.self_question_settings()
            writer = QuestionWriter(student, settings, shared_questions(*base, settings))
            self.source = self.source.with_questions(writer.task)
            _check_some_questions(self.source, config)

    def instruction(self, task: Task) -> str:
        return self._format.prompt(task, self._settings.template)

    def parse(self, action: object, task: Task, seed: int) -> ParsedEdit:
        return parse(action, task, self._settings, seed)

    def joint_update(self, sequences: tuple[str, ...], seed: int) -> Update:
        return self._settings.update(sequences, seed)


def _source(config: KnowledgeConfig) -> TaskSource:
    options, offset = dict(config.dataset_options), config.offset
    if config.passage_words is not None:
        options["passage_words"] = config.passage_words
    if config.almanac:
        options["almanac"] = config.almanac_config()
    if config.dataset == "almanac" and config.split == "train":
        offset += FIRST_UNREAD
    source = load_tasks(config.dataset, config.split, seed=config.shuffle_seed, offset=offset, limit=config.limit, **options)
    if config.self_questions and source.has_questions:
        raise ValueError(
            f"self_questions={dict(config.self_questions)!r} does not apply to dataset={source.name!r}, which has questions"
        )
    return source


def _check_some_questions(source: TaskSource, config: KnowledgeConfig) -> None:
    """Raise a ValueError where the model finds no question for any of the first documents."""
    tried, reason = min(len(source), _TRIED), ""
    for i in range(tried):
        try:
            source[i]
            return
        except NoQuestions as error:
            reason = str(error)
    raise ValueError(
        f"dataset {source.name!r} has no questions, and the model {config.model!r} found none for {tried} of its"
        f" {len(source)} documents: put them beside each as NAME.questions.json, take a larger model, or raise"
        f" self_questions['samples']. Of the last of them: {reason}"
    )


def _never_asked(document: Document) -> Task:
    """A document without questions as a task for a proxy, which asks none: the one that a task must have stands for all."""
    every = Question(f"What is there to know about {document.title}?", (document.context,), self_written=True)
    return Task(document.title, document.context, (every,), document.id)
