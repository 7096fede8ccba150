"""Random search over tools: the simplest learner of few-shot tasks, and a strong one where one setting suits most of them.

A round draws choices of tools at random and scores all of them on the same few tasks. The best of them and the best of the
rounds before, the incumbent, are then scored on new tasks: what is kept, and the reward that is reported of it, rest on that
second score, as the maximum of several noisy means is too high.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agents.base import Clock, Preset, Round, Scored, Seeds
from agents.tool_agent import ToolAgent
from seal_env.checks import check_at_least


@dataclass(frozen=True)
class RandomSearchConfig:
    """Hyperparameters.

    Attributes:
        choices: drawn a round.
        tasks: that each of them is scored on, the same for all.
        finalists: the best of a round, which are scored once more, on as many new tasks, beside the incumbent.
    """

    choices: int = 10
    tasks: int = 5
    finalists: int = 2

    def __post_init__(self) -> None:
        for name in ("choices", "tasks", "finalists"):
            check_at_least(name, getattr(self, name), 1)


class RandomSearch(ToolAgent):
    """See the module's docstring.

    Attributes:
        best: the action that is predicted for every task; None before the first round, which predicts the first choice of each
            tool.
    """

    Config = RandomSearchConfig
    config: RandomSearchConfig
    presets: ClassVar = {"seal-nano-arc": Preset(tuned_on=0)}

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.best: NDArray[np.int64] | None = None

    def round(self, budget: int) -> Round | None:
        config, clock, rng = self.config, Clock(), self.rng("choices")
        incumbents = [] if self.best is None else [self.best]
        choices = config.choices
        while choices and (choices + min(config.finalists, choices) + len(incumbents)) * config.tasks > budget:
            choices -= 1
        if choices == 0:
            return None
        sizes = self.codec.action_space.nvec  # type: ignore[attr-defined]
        actions = list(rng.integers(0, sizes, (choices, len(sizes))))
        tasks = self.draw_tasks(2 * config.tasks)
        with clock("collect"):
            scored, means = self._compare(actions, tasks[: config.tasks], "collect")
        ranking = np.argsort(-means, kind="stable")[: config.finalists]
        finalists = [*incumbents, *(actions[i] for i in ranking)]
        with clock("rescore"):
            rescored, means = self._compare(finalists, tasks[config.tasks :], "rescore")
        self.best = finalists[int(means.argmax())]
        return Round(scored, rescored, metrics={"best": float(means.max())}, seconds=clock.seconds)

    def _compare(
        self, actions: Sequence[NDArray[np.int64]], tasks: Sequence[int], purpose: str
    ) -> tuple[list[Scored], NDArray[np.float64]]:
        """Every action on every task, with equal seeds; the edits, and the mean reward of each action."""
        seeds = self.task_seeds(purpose, tasks)
        texts = [self.codec.text(action) for action in actions for _ in tasks]
        scored = self.score_texts([*tasks] * len(actions), texts, seeds * len(actions))
        return scored, np.array([one.reward for one in scored]).reshape(len(actions), len(tasks)).mean(1)

    def predict(
        self, observations: Mapping[str, Any], infos: Sequence[Mapping[str, Any]] | None = None, *, seed: Seeds = 0
    ) -> list[str]:
        best = np.zeros(7, np.int64) if self.best is None else self.best
        return [self.codec.text(best)] * len(observations["context"])

    def state(self) -> dict[str, Tensor]:
        return {} if self.best is None else {"best": torch.from_numpy(self.best)}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        self.best = state["best"].numpy()
