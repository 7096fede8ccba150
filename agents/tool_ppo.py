"""Stock PPO of Stable-Baselines3 over a choice of tools: a small network sees the grids and picks numbers; no text is written.

Nothing of Stable-Baselines3 is changed. It steps an ordinary environment of one-step episodes whose actions are
:class:`~seal_env.envs.tool_choices.ToolCodec`'s; what it tried is kept on the way, for the budget and the log.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.distributions import Categorical

from agents.base import Clock, Preset, Round, Scored, Seeds, load_optimizer_state, optimizer_state, seeds_of
from agents.one_step import OneStep, logged, numpy_seeded
from agents.seeding import generator
from agents.tool_agent import ToolAgent
from seal_env.checks import check_at_least
from seal_env.tasks.arc import read_pairs

# isort: split
import stable_baselines3
from stable_baselines3.common.logger import Logger


@dataclass(frozen=True)
class ToolPPOConfig:
    """Hyperparameters, named as in Stable-Baselines3.

    Attributes:
        tasks: a round, with one choice of tools for each.
        learning_rate: Adam's, constant.
        batch_size: choices a minibatch.
        n_epochs: passes over a round.
        clip_range: how far the ratio may go from 1.
        ent_coef: weight of the entropy.
        vf_coef: weight of the value's squared error.
        max_grad_norm: of the gradient.
        hidden: units of each of the two layers of policy and value.
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
        for name, least in (("tasks", 2), ("batch_size", 2), ("n_epochs", 1), ("hidden", 1)):
            check_at_least(name, getattr(self, name), least)


class ToolPPO(ToolAgent):
    """See the module's docstring."""

    Config = ToolPPOConfig
    config: ToolPPOConfig
    # The defaults were chosen with twelve seeds on a model of the reward, fitted to so many scored edits of training tasks.
    presets: ClassVar = {"seal-nano-arc": Preset(tuned_on=1185)}

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        config = self.config
        with _seeded(self.seed):
            self.ppo = stable_baselines3.PPO(
                "MlpPolicy",
                self._rollout(np.zeros((config.tasks, *self.codec.shape), np.int8), ()),
                learning_rate=config.learning_rate,
                n_steps=1,
                batch_size=config.batch_size,
                n_epochs=config.n_epochs,
                gamma=1.0,
                gae_lambda=1.0,
                clip_range=config.clip_range,
                ent_coef=config.ent_coef,
                vf_coef=config.vf_coef,
                max_grad_norm=config.max_grad_norm,
                policy_kwargs={"net_arch": [config.hidden, config.hidden]},
                device="cpu",
            )
        self.ppo.set_logger(Logger(None, []))
        self._scored: list[Scored] = []

    def round(self, budget: int) -> Round | None:
        clock, config = Clock(), self.config
        if budget < config.tasks:
            return None
        tasks = self.draw_tasks(config.tasks)
        domain = self.seal.engine.domain
        shown = np.stack([self.codec.observation(domain.demonstrations(domain.source[i])) for i in tasks])
        self.ppo.set_env(self._rollout(shown, tasks))
        with clock("learn"), _seeded(int(self.rng("learn").integers(2**32))):
            self.ppo.learn(config.tasks, reset_num_timesteps=False)
        found = logged(self.ppo)
        return Round(self._scored, metrics={name: found[name] for name in _LOGGED}, seconds=clock.seconds)

    def predict(
        self, observations: Mapping[str, Any], infos: Sequence[Mapping[str, Any]] | None = None, *, seed: Seeds = 0
    ) -> list[str]:
        """Choices for each task, drawn from the network's as other agents draw their tokens: by the policy's ``sampling``."""
        shown = np.stack([self.codec.observation(read_pairs(context)) for context in observations["context"]])
        seeds = seeds_of(seed, len(shown))
        with torch.no_grad():
            found = self.ppo.policy.get_distribution(self.ppo.policy.obs_to_tensor(shown)[0])
        columns = []
        for i, categorical in enumerate(cast(list[Categorical], found.distribution)):  # one for each part of the choice
            uniforms = torch.tensor([generator(one, "choice", i).random() for one in seeds], dtype=torch.float64)
            columns.append(self.policy.sampling.draw(categorical.logits, uniforms))
        return [self.codec.text(action) for action in torch.stack(columns, 1).numpy()]

    def state(self) -> dict[str, Tensor]:
        policy = {f"network.{name}": value.contiguous() for name, value in self.ppo.policy.state_dict().items()}
        return policy | optimizer_state(self.ppo.policy.optimizer)

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        self.ppo.policy.load_state_dict({name: state[f"network.{name}"] for name in self.ppo.policy.state_dict()})
        load_optimizer_state(self.ppo.policy.optimizer, state)

    def _rollout(self, shown: NDArray[np.int8], tasks: Sequence[int]) -> OneStep:
        def score(actions: NDArray[np.int64]) -> Sequence[Scored]:
            self._scored = self.score_texts(tasks, [self.codec.text(action) for action in actions])
            return self._scored

        return OneStep(shown, self.codec.observation_space, self.codec.action_space, score)


_LOGGED = ("policy_gradient_loss", "value_loss", "explained_variance", "approx_kl", "clip_fraction", "entropy_loss")


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Within: the global generators that Stable-Baselines3 draws from begin at ``seed``."""
    with numpy_seeded(seed), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
