"""A complete agent as a template: RLOO, REINFORCE with a leave-one-out baseline (Ahmadian et al., arXiv 2402.14740)."""

from dataclasses import dataclass
from typing import Any, ClassVar

import gymnasium as gym
import torch

from agents import Agent, Policy, Preset, Round, load_optimizer_state, optimizer_state
from agents.callbacks import LogRounds


@dataclass(frozen=True)
class RLOOConfig:
    contexts: int = 8  # passages per round
    samples: int = 6  # edits per passage
    learning_rate: float = 1e-5

    def __post_init__(self) -> None:
        if self.contexts < 1 or self.samples < 2:
            raise ValueError(f"contexts must be at least 1 and samples at least 2, got {self.contexts!r} and {self.samples!r}")


class RLOO(Agent):
    """Policy gradient whose baseline is the mean reward of the passage's other edits."""

    Config = RLOOConfig
    presets: ClassVar = {"seal-nano": Preset({"learning_rate": 1e-3})}  # a small model needs larger steps

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.optimizer = torch.optim.AdamW(self.policy.parameters(), lr=self.config.learning_rate, weight_decay=0.0)

    def round(self, budget: int) -> Round | None:
        samples = self.config.samples
        tasks = self.draw_tasks(min(self.config.contexts, budget // samples))
        if not tasks:
            return None
        rollout = self.collect(tasks, samples, top_p=1.0)  # the distribution of the log-probabilities below
        rewards = torch.tensor([edit.reward for edit in rollout]).view(-1, samples)
        advantages = (rewards - (rewards.sum(1, keepdim=True) - rewards) / (samples - 1)).flatten()
        for scores in self.policy.scores([edit.completion for edit in rollout]):
            advantage = advantages[scores.rows].to(scores.log_probs)
            (-advantage @ scores.log_probs.sum(1) / len(rollout)).backward()
        norm = torch.nn.utils.clip_grad_norm_(self.policy.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return Round(rollout, metrics={"grad_norm": float(norm)})

    def state(self) -> dict[str, torch.Tensor]:
        return optimizer_state(self.optimizer)

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        load_optimizer_state(self.optimizer, state)


if __name__ == "__main__":  # writes a line per round to rloo.jsonl
    agent = RLOO(gym.make_vec("SEAL-SQuAD-v0", num_envs=48), Policy.from_pretrained("seal-nano"), seed=1)
    agent.learn(480, LogRounds("rloo.jsonl"))
