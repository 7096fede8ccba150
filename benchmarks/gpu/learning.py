"""Stage ``benchmark``: ``seal-nano`` learns to write edits with GRPO on the device; edits a second, and the reward."""

from __future__ import annotations

import statistics
import time
from typing import Any

import gymnasium as gym

import seal_env  # noqa: F401  registers the environments
from agents import Agent, Callback, Policy, Round, get_agent
from benchmarks.gpu.suite import Context, check
from benchmarks.measurements.peak import synchronize


def run(context: Context) -> dict[str, Any]:
    """As many rounds as there is time for; the first one warms up and is left out of the rate."""
    contexts, generations, tokens, rounds = (1, 2, 16, 2) if context.tiny else (8, 6, 256, 20)
    device = str(context.device)
    env = gym.make_vec("SEAL-SQuAD-v0", num_envs=contexts * generations, device=device)
    policy = Policy.from_pretrained("seal-nano", device=device, max_new_tokens=tokens)
    agent = get_agent("grpo")(env, policy, seed=0, contexts=contexts, num_generations=generations)
    watch = _Watch(context)
    agent.learn(rounds * contexts * generations, watch)
    taken = sum(watch.seconds[1:])
    figures = {
        "edits": agent.edits,
        "rounds": len(watch.seconds),
        "edits a second": contexts * generations * len(watch.seconds[1:]) / taken if taken else None,
        "reward of the first three rounds": statistics.mean(watch.rewards[:3]),
        "reward of the last three rounds": statistics.mean(watch.rewards[-3:]),
        "seconds of a round": taken / len(watch.seconds[1:]) if taken else None,
        **{f"share of {name}": seconds / sum(watch.seconds) for name, seconds in watch.phases.items()},
    }
    return {"figures": figures, "rewards": watch.rewards, "checks": [check("rounds of GRPO", len(watch.seconds), least=2)]}


class _Watch(Callback):
    """Rewards, seconds of each round, and of its phases; it stops when the time is up."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.rewards: list[float] = []
        self.seconds: list[float] = []
        self.phases: dict[str, float] = {}
        self._last = time.perf_counter()

    def on_round(self, agent: Agent, result: Round) -> bool:
        synchronize(self.context.device)
        now = time.perf_counter()
        self.seconds.append(now - self._last)
        self._last = now
        self.rewards.append(result.metrics["reward"])
        for name, value in result.seconds.items():
            self.phases[name] = self.phases.get(name, 0.0) + value
        return self.context.left > 2 * self.seconds[-1]
