"""Agents that write self-edits, and the contract they share.

env = gym.make_vec("SEAL-SQuAD-v0", num_envs=48)
agent = get_agent("rest_em")(env, Policy.from_pretrained("seal-nano"), seed=1)
agent.learn(budget=480)
"""

from agents.base import Agent, Callback, Preset, Round, Scored, load_optimizer_state, optimizer_state
from agents.evaluation import Evaluated, evaluate, evaluate_sequences
from agents.policy import Completion, Policy
from agents.registry import AGENTS, get_agent

__all__ = [
    "AGENTS",
    "Agent",
    "Callback",
    "Completion",
    "Evaluated",
    "Policy",
    "Preset",
    "Round",
    "Scored",
    "evaluate",
    "evaluate_sequences",
    "get_agent",
    "load_optimizer_state",
    "optimizer_state",
]
