"""Grading by a language model behind an OpenAI-compatible endpoint, as SEAL does with GPT-4.1.

get_grader("judge", {"model": "gpt-4.1"})  # the key is in OPENAI_API_KEY
get_grader("judge", {"model": "Qwen/Qwen2.5-7B-Instruct", "base_url": "http://localhost:8000/v1"})  # a vLLM server, no key
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from seal_env.evaluation.graders.endpoint import Endpoint, Refusal
from seal_env.evaluation.graders.grader import UNGRADED, Answered, Verdict
from seal_env.evaluation.graders.judge_prompt import SYSTEM, TEST_PROMPT, VERSION, judge_all, read_verdict


class Judge(Endpoint[bool]):
    """Asks a model whether each answer agrees with an accepted one (see :mod:`seal_env.evaluation.graders.judge_prompt`), many
    at a time.

    Answers that match an accepted one after SQuAD's normalization are right, and empty ones wrong, without a request.
    Arguments, attributes and errors are those of an :class:`~seal_env.evaluation.graders.endpoint.Endpoint`, which keeps its
    verdicts on disk.

    ``on_refused`` is the verdict on an answer that the endpoint refuses for good: ``skip`` (default) is
    :data:`~seal_env.evaluation.graders.UNGRADED`, so that its question is left out of the score; ``wrong`` is False; ``error``
    raises.
    """

    what, wanted, about, unclear = "judge", "verdict", "answers", "no clear yes or no"
    system, version, reply_tokens = SYSTEM, VERSION, 8
    refusals, test_prompt = ("skip", "wrong", "error"), TEST_PROMPT

    def __call__(self, answered: Sequence[Answered]) -> list[Verdict]:
        refused = UNGRADED if self.on_refused == "skip" else False
        return judge_all(
            answered, lambda prompts: [refused if isinstance(value, Refusal) else value for value in self.ask(prompts)]
        )

    def read(self, reply: str) -> bool | None:
        return read_verdict(reply)

    def is_value(self, kept: Any) -> bool:
        return isinstance(kept, bool)
