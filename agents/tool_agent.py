"""Base class of agents that choose the tools of a few-shot task by numbers, without a language model."""

from __future__ import annotations

from typing import Any

from agents.base import Agent
from seal_env.domains import DOMAINS, EnvConfig
from seal_env.envs.tool_choices import ToolCodec


class ToolAgent(Agent):
    """An agent of few-shot tasks whose actions are choices of tools. The policy is not trained.

    Attributes:
        codec: converts actions to the text of self-edits, and tasks to arrays.
    """

    uses_policy = False

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.codec = ToolCodec(self.seal_env.config)

    @classmethod
    def incompatibility(cls, config: EnvConfig) -> str:
        passages = "a choice of tools is the self-edit of few-shot tasks: SEAL-ARC-v0"
        return super().incompatibility(config) or ("" if DOMAINS.get(config.domain).tool_shape(config) else passages)
