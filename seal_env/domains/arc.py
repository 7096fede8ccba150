"""Few-shot tasks: a self-edit is a choice of tools, and the exam is to predict grids (paper, section 4.2)."""

from __future__ import annotations

from typing import Any

from seal_env.chat import Chat
from seal_env.domains.config import ArcConfig
from seal_env.edits import ParsedEdit, parse_tools, tool_prompt
from seal_env.evaluation import Evaluator
from seal_env.rewards import Proxy
from seal_env.student import Student
from seal_env.tasks import Task
from seal_env.tasks.arc import ArcPrompts, ArcTask
from seal_env.tasks.arc.arc_sources import load_arc
from seal_env.update import Update


class Arc:
    """See :class:`~seal_env.domains.domain.Domain`."""

    proxy: Proxy | None = None
    writes_questions = False

    def __init__(self, config: ArcConfig, student: Student) -> None:
        options = {**config.dataset_options, **({"mini_arc": config.mini_arc_config()} if config.mini_arc else {})}
        part: dict[str, Any] = {"seed": config.shuffle_seed, "offset": config.offset, "limit": config.limit}
        self.source = load_arc(config.dataset, config.split, **part, **options)
        chat = Chat(student.tokenizer) if config.student_template == "instruct" else None
        self._prompts = ArcPrompts(config.style, chat)
        self.evaluator: Evaluator = config.make_evaluator(self._prompts)
        self._settings = config.settings()
        self._tokens = lambda text: len(student.tokenizer(text, verbose=False)["input_ids"])

    def instruction(self, task: Task) -> str:
        assert isinstance(task, ArcTask)
        return tool_prompt(task.demonstrations, self._prompts.style)

    def parse(self, action: object, task: Task, seed: int) -> ParsedEdit:
        assert isinstance(task, ArcTask)
        return parse_tools(action, task.demonstrations, self._settings, seed, prompts=self._prompts, tokens=self._tokens)

    def joint_update(self, sequences: tuple[str, ...], seed: int) -> Update:
        raise NotImplementedError("ArcConfig refuses mode='corpus'")
