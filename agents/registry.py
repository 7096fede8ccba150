"""Agents by name, by import path, and from other packages (entry points of the group ``seal_env.agents``)."""

from __future__ import annotations

import importlib
from importlib.metadata import entry_points

from agents.base import Agent
from seal_env.checks import did_you_mean

GROUP = "seal_env.agents"

AGENTS: dict[str, str] = {
    "rest_em": "agents.rest_em:ReSTEM",
    "grpo": "agents.grpo:GRPO",
    "ppo": "agents.ppo:PPO",
    "tool_ppo": "agents.tool_ppo:ToolPPO",
    "random_search": "agents.random_search:RandomSearch",
    "no_update": "agents.baselines:NoUpdate",
    "passage_only": "agents.baselines:PassageOnly",
    "untrained": "agents.baselines:Untrained",
    "best_of_k": "agents.baselines:BestOfK",
    "oracle": "agents.baselines:Oracle",
    "from_file": "agents.baselines:FromFile",
}


def agent_names() -> list[str]:
    """All names that :func:`get_agent` knows."""
    return [*AGENTS, *sorted(point.name for point in entry_points(group=GROUP) if point.name not in AGENTS)]


def get_agent(name: str) -> type[Agent]:
    """The agent's class: by a name of :func:`agent_names`, or as ``package.module:Class``.

    Raises:
        ValueError: there is no such agent, it cannot be imported, or it is not one; what was probably meant is named.
    """
    path = AGENTS.get(name)
    if path is None and ":" in name:
        path = name
    if path is None:
        path = next((f"{point.module}:{point.attr}" for point in entry_points(group=GROUP) if point.name == name), None)
    if path is None:
        names = agent_names()
        raise ValueError(
            f"no agent {name!r}.{did_you_mean(name, names)} There are: {', '.join(names)}; or give 'package.module:Class'"
        )
    module, _, attribute = path.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"agent {name!r} cannot be imported from {path!r}: {error}") from error
    if not (isinstance(found, type) and issubclass(found, Agent)):
        raise ValueError(f"agent {name!r} is no subclass of agents.Agent: {found!r}")
    return found
