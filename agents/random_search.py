"""Random search over tools: the simplest learner of few-shot tasks, and strong if one choice suits most of them.

A round draws choices of tools at random and scores all of them on the same few tasks. The best ones and the best of earlier
rounds, the incumbent, are scored again on new tasks. The next incumbent and its reported reward come from this second score
alone, since the maximum of several noisy means is biased upwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agents.agent_config import Preset, check_config
from agents.base import Clock, Infos, Observations, Round, ScoredEdit, SeedLike
from agents.policy import Completion
from agents.tool_agent import ToolAgent


@dataclass(frozen=True)
class RandomSearchConfig:
    """Hyperparameters of :class:`RandomSearch`.

    Attributes:
        choices: random choices of tools per round.
        tasks: tasks that each choice is scored on, the same for all.
        finalists: number of best choices of a round that are scored again, on as many new tasks, beside the incumbent.
    """

    choices: int = 10
    tasks: int = 5
    finalists: int = 2

    def __post_init__(self) -> None:
        check_config(self, choices=1, tasks=1, finalists=1)


class RandomSearch(ToolAgent):
    """Keeps the best of randomly drawn choices of tools, for every task.

    Attributes:
        best: the incumbent, the action that is predicted for every task. None before the first round, when the first value of
            each tool is predicted.
    """

    Config = RandomSearchConfig
    config: RandomSearchConfig
    presets: ClassVar = {"seal-nano-arc": Preset(tuned_on=0)}

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.best: NDArray[np.int64] | None = None

    def round(self, budget: int) -> Round | None:
        config, clock = self.config, Clock()
        incumbents = [] if self.best is None else [self.best]
        count = config.choices
        while count and (count + min(config.finalists, count) + len(incumbents)) * config.tasks > budget:
            count -= 1
        if count == 0:
            return None
        sizes = self.codec.action_space.nvec  # type: ignore[attr-defined]
        choices = list(self.rng("choices").integers(0, sizes, (count, len(sizes))))
        tasks = self.draw_tasks(2 * config.tasks)

        clock.start("collect")
        rollout, means = self._compare(choices, tasks[: config.tasks], "collect")

        clock.start("rescore")
        ranking = np.argsort(-means, kind="stable")[: config.finalists]
        finalists = [*incumbents, *(choices[i] for i in ranking)]
        rescored, means = self._compare(finalists, tasks[config.tasks :], "rescore")
        self.best = finalists[int(means.argmax())]
        return Round(rollout, rescored, metrics={"best": float(means.max())}, seconds=clock.stop())

    def _compare(
        self, actions: Sequence[NDArray[np.int64]], tasks: Sequence[int], purpose: str
    ) -> tuple[list[ScoredEdit], NDArray[np.float64]]:
        """Score every action on every task, with equal seeds; returns the edits and the mean reward of each action."""
        seeds = self.task_seeds(purpose, tasks)
        completions = [Completion.from_text(self.codec.text(action)) for action in actions for _ in tasks]
        edits = self.score_completions([*tasks] * len(actions), completions, seeds * len(actions))
        return edits, np.array([edit.reward for edit in edits]).reshape(len(actions), len(tasks)).mean(1)

    def predict(self, observations: Observations, infos: Infos | None = None, *, seed: SeedLike = 0) -> list[str]:
        best = self.best
        if best is None:
            best = np.zeros_like(self.codec.action_space.nvec)  # type: ignore[attr-defined]
        return [self.codec.text(best)] * len(observations["context"])

    def state(self) -> dict[str, Tensor]:
        return {} if self.best is None else {"best": torch.from_numpy(self.best)}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        self.best = state["best"].numpy()
