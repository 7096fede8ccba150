"""Few-shot tasks: a self-edit is a choice of tools, and the exam is to predict grids (paper, section 4.2)."""

from __future__ import annotations

from functools import partial

from transformers import PreTrainedTokenizerBase

from seal_env.edits import INSTRUCTION, ParsedEdit, parse_tools
from seal_env.envs.config import ArcConfig
from seal_env.exams import VIEWS, GridExam
from seal_env.models import NANO_ARC_EXAM
from seal_env.plan import UpdatePlan
from seal_env.proxy import Proxy
from seal_env.student import Student
from seal_env.tasks import Task
from seal_env.tasks.arc import ArcPrompts, ArcTask, pairs_text
from seal_env.tasks.arc.sources import load_arc


class Arc:
    """See :class:`~seal_env.envs.domain.Domain`."""

    proxy: Proxy | None = None
    writes_questions = False

    def __init__(self, config: ArcConfig, student: Student) -> None:
        self.source = load_arc(
            config.dataset,
            config.split,
            seed=config.shuffle_seed,
            offset=config.offset,
            limit=config.limit,
            mini_arc=config.mini_arc_config() if config.dataset == "mini-arc" else None,
        )
        if config.mini_arc and config.dataset != "mini-arc":
            raise ValueError(f"mini_arc={dict(config.mini_arc)!r} does not apply to dataset={config.dataset!r}")
        chat = partial(chat_around, student.tokenizer) if config.template == "instruct" else None
        self._prompts = ArcPrompts(config.style, chat)
        views, orders = NANO_ARC_EXAM if config.bundled else (len(VIEWS), 2)
        self.exam = GridExam(
            self._prompts, views=config.views or views, orders=config.orders or orders, max_new_tokens=config.answer_tokens
        )
        self._settings = config.settings()
        self._tokens = lambda text: len(student.tokenizer(text, verbose=False)["input_ids"])

    def instruction(self, task: Task) -> str:
        assert isinstance(task, ArcTask)
        return pairs_text(task.demonstrations, self._prompts.style) + INSTRUCTION

    def parse(self, action: object, task: Task, seed: int) -> ParsedEdit:
        assert isinstance(task, ArcTask)
        return parse_tools(action, task.demonstrations, self._settings, seed, prompts=self._prompts, tokens=self._tokens)

    def joint_plan(self, sequences: tuple[str, ...], seed: int) -> UpdatePlan:
        raise NotImplementedError("ArcConfig refuses mode='corpus'")


def chat_around(tokenizer: PreTrainedTokenizerBase, message: str) -> tuple[str, str]:
    """What the chat template writes before and after the answer to ``message``, without what the tokenizer adds itself."""
    mark = "\N{OBJECT REPLACEMENT CHARACTER}"
    turns = [{"role": "user", "content": message}, {"role": "assistant", "content": mark}]
    text = tokenizer.apply_chat_template(turns, tokenize=False)
    before, _, after = text.rpartition(mark)
    return before.removeprefix(tokenizer.bos_token or ""), after
