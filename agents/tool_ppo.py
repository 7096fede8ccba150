"""PPO (Schulman et al., arXiv 1707.06347) by Stable-Baselines3 with its ``MlpPolicy``, over choices of tools.

A small network observes the grids of a few-shot task as an array and chooses tools as a ``MultiDiscrete`` action, see
:class:`~seal_env.envs.tool_choices.ToolCodec`. Rollout, advantages, clipped loss (equation 7) and optimizer steps are those of
``stable_baselines3.PPO.learn``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.distributions import Categorical

from agents.agent_config import Preset, check_config
from agents.base import (
    Clock,
    Infos,
    Observations,
    Round,
    ScoredEdit,
    SeedLike,
    expand_seeds,
    load_optimizer_state,
    optimizer_state,
)
from agents.policy import Completion
from agents.sb3 import OneStepVecEnv, make_ppo, seeded, train_metrics
from agents.seeding import generator
from agents.tool_agent import ToolAgent
from seal_env.tasks.arc import read_pairs


@dataclass(frozen=True)
class ToolPPOConfig:
    """Hyperparameters of :class:`ToolPPO`, named as in Stable-Baselines3.

    Attributes:
        tasks: tasks per round, with one choice of tools for each.
        learning_rate: constant learning rate of Adam.
        batch_size: choices per minibatch.
        n_epochs: passes over the choices of a round.
        clip_range: how far the ratio may move from 1.
        ent_coef: weight of the entropy.
        vf_coef: weight of the value loss.
        max_grad_norm: maximum norm of the gradient.
        hidden: units of each of the two layers of policy and value network.
    """

    tasks: int = 30
    learning_rate: float = 1e-2
    batch_size: int = 30
    n_epochs: int = 10
    clip_range: float = 0.2
    ent_coef: float = 0.0
    vf_coef: float = 0.5
    max_grad_norm: float = 0.5
    hidden: int = 64

    def __post_init__(self) -> None:
        positive = ("learning_rate", "clip_range", "vf_coef", "max_grad_norm")
        check_config(self, tasks=2, batch_size=2, n_epochs=1, hidden=1, **dict.fromkeys(positive, 0.0))


class ToolPPO(ToolAgent):
    """Stable-Baselines3's PPO with an MLP policy that chooses the tools of few-shot tasks.

    Attributes:
        ppo: the ``stable_baselines3.PPO``, which holds all that is learnt.
    """

    Config = ToolPPOConfig
    config: ToolPPOConfig
    # The defaults were chosen with twelve seeds on a model of the reward, fitted to so many scored edits of training tasks.
    presets: ClassVar = {"seal-nano-arc": Preset(tuned_on=1185)}

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        config = self.config
        with seeded(self.seed):
            self.ppo = make_ppo(
                "MlpPolicy",
                self._vec_env(np.zeros((config.tasks, *self.codec.shape), np.int8), ()),
                config,
                policy_kwargs={"net_arch": [config.hidden, config.hidden]},
                device="cpu",
            )

    def round(self, budget: int) -> Round | None:
        clock, config = Clock(), self.config
        if budget < config.tasks:
            return None
        tasks = self.draw_tasks(config.tasks)
        domain = self.seal_env.engine.domain
        observations = [self.codec.observation(domain.demonstrations(domain.source[i])) for i in tasks]
        env = self._vec_env(np.stack(observations), tasks)
        self.ppo.set_env(env)
        clock.start("learn")
        with seeded(int(self.rng("learn").integers(2**32))):
            self.ppo.learn(total_timesteps=config.tasks, reset_num_timesteps=False)
        return Round(env.rollout, metrics=train_metrics(self.ppo), seconds=clock.stop())

    def predict(self, observations: Observations, infos: Infos | None = None, *, seed: SeedLike = 0) -> list[str]:
        """Choices of tools, sampled from the network with the policy's ``sampling``, as other agents sample tokens."""
        arrays = np.stack([self.codec.observation(read_pairs(context)) for context in observations["context"]])
        seeds = expand_seeds(seed, len(arrays))
        with torch.no_grad():
            distribution = self.ppo.policy.get_distribution(self.ppo.policy.obs_to_tensor(arrays)[0])
        columns = []
        for i, categorical in enumerate(cast(list[Categorical], distribution.distribution)):  # one per part of the choice
            uniforms = torch.tensor([generator(s, "choice", i).random() for s in seeds], dtype=torch.float64)
            columns.append(self.policy.sampling.draw(categorical.logits, uniforms))
        return [self.codec.text(action) for action in torch.stack(columns, 1).numpy()]

    def state(self) -> dict[str, Tensor]:
        policy = {f"network.{name}": value.contiguous() for name, value in self.ppo.policy.state_dict().items()}
        return policy | optimizer_state(self.ppo.policy.optimizer)

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        self.ppo.policy.load_state_dict({name: state[f"network.{name}"] for name in self.ppo.policy.state_dict()})
        load_optimizer_state(self.ppo.policy.optimizer, state)

    def _vec_env(self, observations: NDArray[np.int8], tasks: Sequence[int]) -> OneStepVecEnv:
        """A ``VecEnv`` with a sub-environment for each task; ``observations`` are those of the codec."""

        def score(actions: NDArray[np.int64]) -> Sequence[ScoredEdit]:
            return self.score_completions(tasks, [Completion.from_text(self.codec.text(action)) for action in actions])

        return OneStepVecEnv(observations, self.codec.observation_space, self.codec.action_space, score)
