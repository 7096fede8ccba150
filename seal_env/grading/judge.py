"""Grading by a language model behind an OpenAI-compatible endpoint, as SEAL does with GPT-4.1.

get_grader("judge", {"model": "gpt-4.1"})  # the key is in OPENAI_API_KEY
get_grader("judge", {"model": "Qwen/Qwen2.5-7B-Instruct", "base_url": "http://localhost:8000/v1"})  # a vLLM server, no key
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from seal_env.grading.base import Answered, Verdict
from seal_env.grading.endpoint import Endpoint
from seal_env.grading.prompt import SYSTEM, VERSION, messages, read_verdict, settled


class Judge(Endpoint[bool]):
    """Asks a model whether each answer agrees with an accepted one (see :mod:`seal_env.grading.prompt`), many at a time.

    Answers that match an accepted one after SQuAD's normalization are right and empty ones wrong without a question to the
    model. Arguments, attributes and errors are those of an :class:`~seal_env.grading.endpoint.Endpoint`, which keeps its
    verdicts on disk.
    """

    what, wanted, about, unclear = "judge", "verdict", "answers", "no clear yes or no"
    system, version, reply_tokens = SYSTEM, VERSION, 8

    def __call__(self, answered: Sequence[Answered]) -> list[Verdict]:
        verdicts: list[Verdict] = [settled(one) for one in answered]
        asked = [i for i, verdict in enumerate(verdicts) if verdict is None]
        for i, verdict in zip(asked, self.ask([messages(answered[i]) for i in asked])):
            verdicts[i] = verdict
        return verdicts

    def read(self, reply: str) -> bool | None:
        return read_verdict(reply)

    def is_value(self, kept: Any) -> bool:
        return isinstance(kept, bool)
