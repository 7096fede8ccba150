"""A domain in one file: the student, updated on an edit, is asked to write a word backwards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from seal_env import Student
from seal_env.domains import DOMAINS, Domain, EnvConfig, keyword
from seal_env.edits import EditSettings, ParsedEdit, parse
from seal_env.evaluation import ClosedBook
from seal_env.tasks import Question, Task, TaskSource


@dataclass(frozen=True)
class ReversedConfig(EnvConfig):
    """Keywords of the environments; those that all domains share are inherited."""

    domain: str = "reversed"
    dataset: str = "words"
    words: str = keyword("lamp stone river", "The words to reverse, separated by blanks.")


class ReversedDomain(Domain):
    """Each task is a word. An edit is text to learn from; answers are scored by exact match."""

    Config = ReversedConfig
    render_modes = ("ansi", "rgb_array")

    def __init__(self, config: ReversedConfig, student: Student) -> None:
        words = config.words.split()
        self.source = TaskSource(config.dataset, lambda i: reversal(words[i]), range(len(words)))
        self.evaluator = ClosedBook(max_new_tokens=config.max_new_tokens or 8)
        self._settings = EditSettings(append_passage=False).with_options(**config.inner_loop)

    def instruction(self, task: Task) -> str:
        return f"Write an exercise that teaches how to reverse the word {task.context}."

    def parse(self, action: object, task: Task, seed: int) -> ParsedEdit:
        return parse(action, task, self._settings, seed)

    # The rest is optional: an image to render, and the edits of the baseline "oracle".

    def image(self, task: Task, info: Mapping[str, Any] | None) -> NDArray[np.uint8]:
        shade = 255 if info and info["score"] == 1 else 0
        return np.full((8, 8 * len(task.context), 3), shade, np.uint8)

    @classmethod
    def oracle_problem(cls, config: ReversedConfig) -> str:
        return ""

    def oracle_edit(self, context: str, task_id: str, kind: str) -> str:
        return f"What is {context} backwards?\n{context[::-1]}"


def reversal(word: str) -> Task:
    return Task(word, word, (Question(f"What is {word} backwards?", (word[::-1],)),), id=word)


DOMAINS.register("reversed", ReversedDomain, "words to write backwards")
gym.register(
    "Reversed-v0",
    entry_point="seal_env.envs:SealEnv",
    vector_entry_point="seal_env.envs:SealVectorEnv",
    kwargs={"domain": "reversed"},
)
