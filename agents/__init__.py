"""Agents that write self-edits: the contract, the algorithms, and the baselines they are compared with.

from agents import GRPO, GRPOConfig, Policy

env = gym.make_vec("SEAL-SQuAD-v0", num_envs=48)
agent = GRPO(env, Policy.from_pretrained("seal-nano"), config=GRPOConfig(learning_rate=1e-3), seed=1)
agent.learn(budget=480)

Names are imported on first use, so ``import agents`` loads neither PyTorch nor Stable-Baselines3.
"""

# ruff: noqa: F401 (the imports for type checkers are re-exports)

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agents.agent_config import Preset, check_config
    from agents.agent_registry import AGENTS, get_agent
    from agents.base import Agent, Callback, Round, ScoredEdit, load_optimizer_state, optimizer_state
    from agents.baselines import (
        BestOfK,
        BestOfKConfig,
        FromFile,
        FromFileConfig,
        NoUpdate,
        Oracle,
        OracleConfig,
        PassageOnly,
        Untrained,
    )
    from agents.evaluation import evaluate, evaluate_sequences
    from agents.grpo import GRPO, GRPOConfig
    from agents.policy import Completion, Policy
    from agents.ppo import PPO, PPOConfig
    from agents.random_search import RandomSearch, RandomSearchConfig
    from agents.rest_em import ReSTEM, ReSTEMConfig
    from agents.saved import open_policy
    from agents.tool_ppo import ToolPPO, ToolPPOConfig

_EXPORTS = {
    "base": "Agent Callback Round ScoredEdit load_optimizer_state optimizer_state",
    "baselines": "BestOfK BestOfKConfig FromFile FromFileConfig NoUpdate Oracle OracleConfig PassageOnly Untrained",
    "agent_config": "Preset check_config",
    "evaluation": "evaluate evaluate_sequences",
    "grpo": "GRPO GRPOConfig",
    "policy": "Completion Policy",
    "ppo": "PPO PPOConfig",
    "random_search": "RandomSearch RandomSearchConfig",
    "agent_registry": "AGENTS get_agent",
    "rest_em": "ReSTEM ReSTEMConfig",
    "saved": "open_policy",
    "tool_ppo": "ToolPPO ToolPPOConfig",
}
_MODULES = {name: module for module, names in _EXPORTS.items() for name in names.split()}

__all__ = sorted(_MODULES)


def __getattr__(name: str) -> Any:
    """Import a public name on first use (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
