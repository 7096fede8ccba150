"""What agents that choose tools by numbers share; the policy, which writes, has no part in it."""

from __future__ import annotations

from typing import Any

from agents.base import Agent
from seal_env.domains import DOMAINS, EnvConfig
from seal_env.envs.tool_choices import ToolCodec


class ToolAgent(Agent):
    """An agent of few-shot tasks whose self-edits are made of choices.

    Attributes:
        codec: between a choice and the text of a self-edit.
    """

    writes = False

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.codec = ToolCodec(self.seal.config)

    @classmethod
    def misfit(cls, config: EnvConfig) -> str:
        passages = "a choice of tools is the self-edit of few-shot tasks: SEAL-ARC-v0"
        return super().misfit(config) or ("" if DOMAINS.get(config.domain).tool_shape(config) else passages)
