"""Knowledge: an edit is text about a passage, and the student is questioned closed-book (paper, section 4.1)."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from seal_env.chat import Chat, Template
from seal_env.checks import check_count
from seal_env.domains.config import EnvConfig, Mode, check_options, keyword
from seal_env.domains.domain import Domain
from seal_env.domains.self_questions import NoQuestions, QuestionWriter, SelfQuestions
from seal_env.edits import (
    FORMATS,
    EditFormat,
    EditSettings,
    ParsedEdit,
    get_format,
    gold_pairs,
    gold_statements,
    pairs_text,
    parse,
)
from seal_env.evaluation import ClosedBook
from seal_env.evaluation.graders import GRADERS, Grader, get_grader
from seal_env.presets import model_preset
from seal_env.rewards import PROXIES, REWARDS, Proxy, get_proxy
from seal_env.tasks import DATASETS, Document, Question, Task, TaskSource, check_held_out, load_tasks
from seal_env.tasks.almanac import FIRST_UNREAD, Almanac, AlmanacConfig
from seal_env.tasks.folder import DOCUMENTS
from seal_env.update import Update

if TYPE_CHECKING:
    from seal_env.student import Student

_TRIED = 32  # documents that a model may find no question for before its dataset is refused


@dataclass(frozen=True)
class KnowledgeConfig(EnvConfig):
    """Keywords of environments on passages."""

    modes: ClassVar[tuple[Mode, ...]] = ("single", "refine", "continual", "corpus")

    registries = {"reward": REWARDS, "grader": GRADERS, "proxy": PROXIES, "edit_format": FORMATS}  # noqa: RUF012

    domain: str = "knowledge"
    dataset: Any = keyword(
        "almanac",
        "`almanac`, a file, a folder, a hub id, a `datasets.Dataset`, a list of tasks or a function that returns them: see"
        " `seal_env.tasks.load_tasks`.",
    )
    held_out: Mapping[str, int] = keyword(
        {},
        "Cut a dataset without splits into splits: how many tasks `test` and `validation` have, after a shuffle with `seed`"
        " (default 42); `train` has the others. Datasets with splits are not changed.",
        "tasks",
    )
    passage_words: int | None = keyword(None, "Cut longer documents into passages of about this length; None: 300.", "words")
    almanac: Mapping[str, Any] = keyword({}, "Options of `seal_env.tasks.almanac.AlmanacConfig`.")
    self_questions: Mapping[str, Any] = keyword(
        {}, "Options of `seal_env.domains.self_questions.SelfQuestions`, which writes questions about documents without any."
    )
    edit_format: str | EditFormat = keyword(
        "implications", "The edit format, by name, path or as an object: how an edit is prompted for and split."
    )
    inner_loop: Mapping[str, Any] = keyword(
        {}, "Options of `seal_env.edits.EditSettings` and `seal_env.UpdateConfig`; those left out are the defaults of `model`."
    )
    proxy: str | Proxy = keyword(
        "coverage", "With `reward='proxy'`, a name of `seal_env.rewards.PROXIES`, a function or its path."
    )
    proxy_options: Mapping[str, Any] = keyword({}, "Options of the proxy.")
    grader: str | Grader | None = keyword(
        None,
        "A name of `seal_env.evaluation.graders.GRADERS`, a function or its path; None: `exact` for `seal-nano` and for"
        " base models on the Almanac, else `calibrated`.",
    )
    grader_options: Mapping[str, Any] = keyword({}, "Options of the grader.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.passage_words is not None:
            check_count("passage_words", self.passage_words)
        if not self.approximate:  # else it was made above
            self.make_proxy()
        self.make_grader()
        check_held_out(self.held_out)
        self._settings("base")
        self.almanac_config()
        self.self_question_settings()

    def default_lora(self) -> Mapping[str, Any]:
        return model_preset(self.model).lora

    def settings(self) -> EditSettings:
        """How an edit is parsed and learnt: the defaults of ``model``, then ``inner_loop``.

        Raises:
            ValueError: ``template`` is still ``auto``, which an environment resolves when it has loaded the model.
        """
        if self.template == "auto":
            raise ValueError(
                "template='auto' depends on the model: call seal_env.chat.resolve_template, or use base or instruct"
            )
        return self._settings(self.template)

    def _settings(self, template: Template) -> EditSettings:
        check_options("inner_loop", self.inner_loop, EditSettings.option_names())
        return model_preset(self.model).settings.with_options(
            format=get_format(self.edit_format), template=template, **self.inner_loop
        )

    @property
    def answer_tokens(self) -> int:
        """Most tokens of an answer: ``max_new_tokens``, or the default of ``model`` (64 in SEAL)."""
        return self.max_new_tokens or model_preset(self.model).answer_tokens

    def almanac_config(self) -> AlmanacConfig:
        """The Almanac's configuration."""
        check_options("almanac", self.almanac, AlmanacConfig)
        return AlmanacConfig(**self.almanac)

    def self_question_settings(self) -> SelfQuestions:
        """How the model writes questions; it answers them as in the evaluation."""
        check_options("self_questions", self.self_questions, SelfQuestions, "template", "max_new_tokens")
        return SelfQuestions(template=self.student_template, max_new_tokens=self.answer_tokens, **self.self_questions)

    def make_grader(self) -> Grader:
        """The grader with its options.

        The default is ``exact`` for students that answer in a word: ``seal-nano``, and base models on the Almanac. Others
        answer in sentences, which ``calibrated`` grades as a judge does.
        """
        exact = model_preset(self.model).short_answers or (self.dataset == "almanac" and self.student_template != "instruct")
        return get_grader(self.grader or ("exact" if exact else "calibrated"), self.grader_options)

    def make_proxy(self) -> Proxy:
        """The proxy with its options."""
        return get_proxy(self.proxy, self.proxy_options)


@functools.lru_cache(maxsize=16)
def shared_questions(
    model: str, device: str, dtype: str, trust_remote_code: bool, settings: SelfQuestions
) -> dict[Document, Task | str]:
    """The questions that a model wrote so far about documents without any: one dictionary a process."""
    return {}


class KnowledgeDomain(Domain):
    """Passages with questions. An edit is text, which is split into training sequences."""

    Config = KnowledgeConfig
    report_measures = ("coverage", "length")

    def __init__(self, config: KnowledgeConfig, student: Student) -> None:
        self._config, self._settings = config, config.settings()
        chat = Chat(student.tokenizer) if config.student_template == "instruct" else None
        self.evaluator = ClosedBook(config.make_grader(), max_new_tokens=config.answer_tokens, chat=chat)
        self.proxy = config.make_proxy() if config.approximate else None
        self.source = _source(config)
        if self.proxy and not self.source.has_questions:
            self.source = self.source.with_questions(_task_for_proxy)
        self.writes_questions = not self.source.has_questions
        if self.writes_questions:
            base = (config.model, config.device, config.dtype, config.trust_remote_code)
            settings = config.self_question_settings()
            writer = QuestionWriter(student, settings, shared_questions(*base, settings))
            self.source = self.source.with_questions(writer.task)
            _check_some_questions(self.source, config)

    def instruction(self, task: Task) -> str:
        return get_format(self._settings.format).prompt(task, self._settings.template)

    def parse(self, action: object, task: Task, seed: int) -> ParsedEdit:
        return parse(action, task, self._settings, seed)

    def joint_update(self, sequences: tuple[str, ...], seed: int) -> Update:
        return self._settings.update(sequences, seed)

    @classmethod
    def oracle_problem(cls, config: KnowledgeConfig) -> str:
        name = config.dataset
        if not isinstance(name, str) or name in DATASETS:
            return ""
        path = Path(name)
        if path.suffix.lower() in DOCUMENTS or path.is_dir() or (path.name == name and not path.suffix and ":" not in name):
            return f"the oracle needs the answers to all questions, and dataset={name!r} has documents"
        return ""

    @functools.cached_property
    def _tasks_by_id(self) -> dict[str, int]:
        return {task.id: i for i, task in enumerate(self.source)}

    def oracle_edit(self, context: str, task_id: str, kind: str) -> str:
        if self._config.dataset != "almanac":
            if task_id not in self._tasks_by_id:
                raise ValueError(f"the oracle's environment has no task {task_id!r}: make it with the split that is evaluated")
            task = self.source[self._tasks_by_id[task_id]]
            return gold_pairs(task) if kind == "pairs" else gold_statements(task)
        article = Almanac(self._config.almanac_config()).article_of(task_id)
        return pairs_text(article.oracle_pairs()) if kind == "pairs" else "\n".join(article.oracle_facts())


def _source(config: KnowledgeConfig) -> TaskSource:
    options, offset = dict(config.dataset_options), config.offset
    if config.passage_words is not None:
        options["passage_words"] = config.passage_words
    if config.almanac:
        options["almanac"] = config.almanac_config()
    if config.dataset == "almanac" and config.split == "train":
        offset += FIRST_UNREAD
    part: dict[str, Any] = {"seed": config.shuffle_seed, "offset": offset, "limit": config.limit, "held_out": config.held_out}
    source = load_tasks(config.dataset, config.split, **part, **options)
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


def _task_for_proxy(document: Document) -> Task:
    """A document without questions as a task for a proxy, which uses none; a task must have a question."""
    question = Question(f"What is there to know about {document.title}?", (document.context,), self_written=True)
    return Task(document.title, document.context, (question,), document.id)
