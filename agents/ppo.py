"""PPO (Schulman et al., arXiv 1707.06347): Stable-Baselines3's own, over a language model that writes self-edits.

One step is one whole self-edit and ends its episode, so that nothing is discounted or bootstrapped: an edit's advantage is its
reward less what the value head, a linear layer on the hidden state where the prompt ends, expected of the passage.

Stable-Baselines3 knows arrays of one shape, and edits are of any length. So they are written and scored as for any agent, and
it sees the round as one step with a place for each edit (:func:`numbered`): what its buffer holds, shuffles and hands back
are the edits' numbers, which its float32 holds exactly up to 2^24.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import torch
from gymnasium.spaces import Discrete
from torch import Tensor, nn
from torch.nn import functional as F

from agents.base import Agent, Clock, Preset, Round, Scored, load_optimizer_state, optimizer_state
from agents.one_step import OneStep, logged, numpy_seeded
from agents.policy import Completion, Policy, Scores
from seal_env.checks import check_choice

# isort: split
import stable_baselines3
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.policies import BasePolicy

LogRatio = Literal["mean", "sum"]


@dataclass(frozen=True)
class PPOConfig:
    """Hyperparameters, named as in Stable-Baselines3; the learning rate is one for models of billions of parameters.

    Attributes:
        contexts: passages a round.
        samples: edits a passage.
        learning_rate: Adam's, constant.
        batch_size: edits a minibatch, or the next smaller number that divides the edits of a round.
        n_epochs: passes over the edits of a round.
        clip_range: how far the ratio may go from 1; 0.02 is for the mean log-ratio, 0.2 is usual for the sum.
        clip_range_vf: how far the value may go from what it was; None: as far as it likes.
        normalize_advantage: advantages of a minibatch get mean 0 and standard deviation 1.
        ent_coef: weight of the entropy, in nats a token.
        vf_coef: weight of the value head's squared error.
        max_grad_norm: of the gradient, the value head's included.
        target_kl: learning from a round ends where the approximate KL divergence, of the same ratios, is over 1.5 times this;
            None: never. For the sum, 0.03 is usual.
        log_ratio: of an edit is the ``mean`` or the ``sum`` of its tokens' log-ratios. The sum is the edit's own, but grows
            with its length until every long edit is clipped; the mean is comparable between edits (GSPO, arXiv 2507.18071).
        shared_gradient: whether the value head's error trains the language model as well.
    """

    contexts: int = 8
    samples: int = 6
    learning_rate: float = 1e-5
    batch_size: int = 16
    n_epochs: int = 2
    clip_range: float = 0.02
    clip_range_vf: float | None = None
    normalize_advantage: bool = True
    ent_coef: float = 0.0
    vf_coef: float = 0.5
    max_grad_norm: float = 1.0
    target_kl: float | None = 1e-3
    log_ratio: LogRatio = "mean"
    shared_gradient: bool = False

    def __post_init__(self) -> None:
        for name, least in (("contexts", 1), ("samples", 2), ("batch_size", self.samples), ("n_epochs", 1)):
            if getattr(self, name) < least:
                same = " (samples)" if name == "batch_size" else ""
                raise ValueError(f"{name} must be at least {least}{same}, got {getattr(self, name)!r}")
        check_choice("log_ratio", self.log_ratio, get_args(LogRatio))


class PPO(Agent):
    """See the module's docstring."""

    Config = PPOConfig
    config: PPOConfig
    presets: ClassVar = {
        # Two runs for clip_range and target_kl, the first of which collapsed, and three learning rates on validation articles.
        "seal-nano": Preset({"learning_rate": 1e-3}, tuned_on=480 + 336 + 3 * 480),
        "seal-nano-arc": Preset({"learning_rate": 1e-3, "contexts": 4, "samples": 15, "batch_size": 15}, tuned_on=0),
    }

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.actor_critic = ActorCritic(self.policy, self.config)

    def round(self, budget: int) -> Round | None:
        config, clock = self.config, Clock()
        contexts = min(config.contexts, budget // config.samples)
        if contexts == 0:
            return None
        tasks = self.draw_tasks(contexts)
        with clock("collect"):
            scored = self.collect(tasks, config.samples, top_p=1.0)
        with clock("learn"):
            metrics = self.update(scored)
        return Round(scored, metrics=metrics, seconds=clock.seconds)

    def update(self, scored: Sequence[Scored]) -> dict[str, float]:
        """Have Stable-Baselines3 learn from these edits."""
        config, actor_critic = self.config, self.actor_critic
        actor_critic.completions = [one.completion for one in scored]
        if self.edits == 0:
            nn.init.constant_(actor_critic.value_head.bias, float(np.mean([one.reward for one in scored])))
        ppo = stable_baselines3.PPO(
            lambda *_, **__: actor_critic,  # type: ignore[arg-type]  # it is the same in all rounds
            numbered(scored),
            learning_rate=config.learning_rate,
            n_steps=1,
            batch_size=max(n for n in range(1, config.batch_size + 1) if len(scored) % n == 0),
            n_epochs=config.n_epochs,
            gamma=1.0,
            gae_lambda=1.0,
            clip_range=config.clip_range,
            clip_range_vf=config.clip_range_vf,
            normalize_advantage=config.normalize_advantage,
            ent_coef=config.ent_coef,
            vf_coef=config.vf_coef,
            max_grad_norm=config.max_grad_norm,
            target_kl=config.target_kl,
            device=self.policy.model.device,
        )
        ppo.set_logger(Logger(None, []))
        with numpy_seeded(int(self.rng("learn").integers(2**32))):
            ppo.learn(len(scored))
        actor_critic.release()
        found = logged(ppo)
        metrics = {name: found[name] for name in _LOGGED}
        return metrics | {"entropy": -found["entropy_loss"], "first_ratio_error": actor_critic.first_ratio_error}

    def state(self) -> dict[str, Tensor]:
        value = {f"value.{name}.0": tensor.cpu() for name, tensor in self.actor_critic.value_head.state_dict().items()}
        return value | optimizer_state(self.actor_critic.optimizer)

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        value = {name: state[f"value.{name}.0"] for name in self.actor_critic.value_head.state_dict()}
        self.actor_critic.value_head.load_state_dict(value)
        load_optimizer_state(self.actor_critic.optimizer, state)


_LOGGED = ("policy_gradient_loss", "value_loss", "explained_variance", "approx_kl", "clip_fraction")


class ActorCritic(BasePolicy):
    """The language model and a value head as a policy of Stable-Baselines3; its parameters are those that are trained.

    The log-probabilities of the rollout come from the forward pass of training, so that the first ratio is 1.

    Attributes:
        completions: the edits that observations and actions are numbers of.
        first_ratio_error: how far from 1 the ratios of the round's first minibatch were.
    """

    completions: Sequence[Completion]
    first_ratio_error: float

    def __init__(self, policy: Policy, config: PPOConfig) -> None:
        super().__init__(Discrete(1), Discrete(1))  # of as many edits as a round has
        self.language, self.config = policy, config
        self.weights = nn.ParameterList(policy.parameters())
        size = policy.model.get_output_embeddings().weight.shape[1]
        self.value_head = nn.utils.skip_init(nn.Linear, size, 1, device=policy.model.device)
        for parameter in self.value_head.parameters():
            nn.init.zeros_(parameter)
        # Not with Stable-Baselines3's eps=1e-5: an adapter's gradients are no larger than that.
        self.optimizer = torch.optim.Adam(self.parameters(), lr=config.learning_rate)
        self._rollout_log_probs: Tensor | None = None
        self._held: Iterator[Scores] = iter(())

    def forward(self, observations: Tensor, deterministic: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Actions, values and log-probabilities ``(edits,)``; the edits have been written when Stable-Baselines3 asks."""
        found = [self._judge(scores) for scores in self.language.scores(self.completions)]
        values, log_probs, _ = (torch.cat(parts) for parts in zip(*found))
        self._rollout_log_probs = log_probs
        return observations, values, log_probs

    def evaluate_actions(self, observations: Tensor, actions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Values, log-probabilities and entropies ``(edits,)`` of a minibatch."""
        numbers = actions.long()
        self.release()
        self._held = self.language.scores([self.completions[i] for i in numbers.tolist()], batch_tokens=1 << 62)
        values, log_probs, entropies = self._judge(next(self._held))
        if self._rollout_log_probs is not None:
            ratios = torch.exp(log_probs.detach() - self._rollout_log_probs[numbers])
            self.first_ratio_error = float((ratios - 1).abs().max())
            self._rollout_log_probs = None
        return values, log_probs, entropies

    def release(self) -> None:
        """Have done with the last minibatch; until its gradients were taken, the language model had to stay as it was."""
        next(self._held, None)

    def predict_values(self, observations: Tensor) -> Tensor:
        """Values of what follows an edit: its episode is over."""
        return torch.zeros(len(observations))

    def _judge(self, scores: Scores) -> tuple[Tensor, Tensor, Tensor]:
        lengths = scores.mask.sum(1)
        hidden = scores.hidden if self.config.shared_gradient else scores.hidden.detach()
        # Of length 1: in wide models, the head's steps and its share of the clipped gradient would be too large.
        values = self.value_head(F.normalize(hidden.float(), dim=1)).squeeze(1)
        log_probs = scores.log_probs.sum(1)
        return values, log_probs / lengths if self.config.log_ratio == "mean" else log_probs, scores.entropies.sum(1) / lengths

    def _predict(self, observation: Any, deterministic: bool = False) -> Tensor:
        raise NotImplementedError("edits are predicted by the agent: PPO.predict")


def numbered(scored: Sequence[Scored]) -> OneStep:
    """A round's edits: a place shows its number, takes the number of the edit that was written there, and gives its reward."""
    numbers = Discrete(len(scored))
    return OneStep(np.arange(len(scored)), numbers, numbers, lambda actions: [scored[i] for i in actions])
