"""Random search over tools: the simplest learner of few-shot tasks, and a strong one where one setting suits most of them.

Every round draws choices of tools at random, each of which is scored on a few tasks; the one with the best mean so far is what
the agent predicts, whatever the task.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents.base import Clock, Round
from agents.tool_agent import ToolAgent
from seal_env.checks import check_at_least


@dataclass(frozen=True)
class RandomSearchConfig:
    """Hyperparameters.

    Attributes:
        choices: drawn a round.
        tasks: that each of them is scored on.
    """

    choices: int = 12
    tasks: int = 5

    def __post_init__(self) -> None:
        check_at_least("choices", self.choices, 1)
        check_at_least("tasks", self.tasks, 1)


class RandomSearch(ToolAgent):
    """See the module's docstring."""

    Config = RandomSearchConfig
    config: RandomSearchConfig

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.best: Tensor = torch.zeros(7, dtype=torch.int64)  # the action
        self.best_reward = -np.inf

    def round(self, budget: int) -> Round | None:
        choices, clock, rng = min(self.config.choices, budget // self.config.tasks), Clock(), self.rng("choices")
        if choices == 0:
            return None
        sizes = self.codec.action_space.nvec  # type: ignore[attr-defined]
        actions = rng.integers(0, sizes, (choices, len(sizes)))
        edits = [self.codec.text(action) for action in actions for _ in range(self.config.tasks)]
        with clock("collect"):
            scored = self.score_texts(self.draw_tasks(len(edits)), edits)
        means = np.array([one.reward for one in scored]).reshape(choices, self.config.tasks).mean(1)
        if means.max() > self.best_reward:
            self.best_reward = float(means.max())
            self.best = torch.from_numpy(actions[int(means.argmax())])
        return Round(scored, metrics={"best": self.best_reward}, seconds=clock.seconds)

    def predict(
        self, observations: Mapping[str, Any], infos: Sequence[Mapping[str, Any]] | None = None, *, seed: int = 0
    ) -> list[str]:
        return [self.codec.text(self.best.numpy())] * len(observations["context"])

    def state(self) -> dict[str, Tensor]:
        return {"best": self.best, "best_reward": torch.tensor(self.best_reward, dtype=torch.float64)}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        self.best, self.best_reward = state["best"], float(state["best_reward"])
