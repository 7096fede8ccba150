"""Agents by name, by import path, and from other packages (entry points in the group ``seal_env.agents``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from seal_env.registry import Registry

if TYPE_CHECKING:
    from agents.base import Agent


def _problem(target: object) -> str:
    from agents.base import Agent  # imports torch, which listing the names does not need

    is_agent = isinstance(target, type) and issubclass(target, Agent)
    return "" if is_agent else f"is no subclass of agents.Agent: {target!r}"


AGENTS: Registry[type[Agent]] = Registry("agent", "seal_env.agents", _problem)
AGENTS.register("rest_em", "agents.rest_em:ReSTEM", "ReST-EM, SEAL's outer loop: sample, keep good edits, fine-tune on them")
AGENTS.register("grpo", "agents.grpo:GRPO", "GRPO: policy gradient with advantages relative to a group of completions")
AGENTS.register("ppo", "agents.ppo:PPO", "PPO of Stable-Baselines3; an action is a self-edit")
AGENTS.register("tool_ppo", "agents.tool_ppo:ToolPPO", "PPO of Stable-Baselines3 on the tool choices of few-shot tasks")
AGENTS.register("random_search", "agents.random_search:RandomSearch", "random search over the tool choices of few-shot tasks")
AGENTS.register("no_update", "agents.baselines:NoUpdate", "baseline: an empty edit, so that nothing is trained on")
AGENTS.register("passage_only", "agents.baselines:PassageOnly", "baseline: the passage itself as the edit")
AGENTS.register("untrained", "agents.baselines:Untrained", "baseline: the policy without training")
AGENTS.register("best_of_k", "agents.baselines:BestOfK", "baseline: the best of k edits by the reward of the evaluation")
AGENTS.register("oracle", "agents.baselines:Oracle", "baseline: edits that state the answers")
AGENTS.register("from_file", "agents.baselines:FromFile", "baseline: edits that are read from a file")


def get_agent(name: str | type[Agent]) -> type[Agent]:
    """An agent's class: by name, as ``package.module:Class``, or the class itself.

    Raises:
        ValueError: there is no such agent, it cannot be imported, or it is no agent; the closest name is suggested.
    """
    return AGENTS.get(name)
