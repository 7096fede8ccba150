"""PPO (Schulman et al., arXiv 1707.06347) by Stable-Baselines3, over a language model that writes self-edits.

A step is a whole self-edit and ends its episode, so nothing is discounted or bootstrapped: an edit's advantage is its reward
minus the value of its prompt. The parts, in the order of the paper's algorithm 1:

- rollout: :class:`PromptVecEnv` shows the token ids of the prompts, :meth:`LanguageModelPolicy.forward` samples the token ids
  of the edits, and the environment decodes and scores them;
- advantages, clipped surrogate loss (equation 7) with value loss and entropy bonus (equation 9), optimizer steps:
  ``stable_baselines3.PPO.learn``, on the log-probabilities, values and entropies of
  :meth:`LanguageModelPolicy.evaluate_actions`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, cast

import numpy as np
import torch
from gymnasium.spaces import Box, Space
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from agents.agent_config import Preset, check_config
from agents.base import Agent, Clock, Round, ScoredEdit, load_optimizer_state, optimizer_state
from agents.episodes import instructions_of
from agents.policy import Completion, Policy
from agents.sb3 import OneStepVecEnv, make_ppo, seeded, train_metrics

# isort: split
import stable_baselines3
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import BasePolicy

PAD = -1  # token id at padding, of prompts and edits


@dataclass(frozen=True)
class PPOConfig:
    """Hyperparameters of :class:`PPO`, named as in Stable-Baselines3. The default learning rate suits models of billions of
    parameters.

    Attributes:
        contexts: passages per round.
        samples: edits per passage.
        learning_rate: constant learning rate of Adam.
        batch_size: edits per minibatch; the next smaller divisor of the number of edits is used.
        n_epochs: passes over the edits of a round.
        clip_range: how far the ratio may move from 1. The default suits the mean log-ratio; 0.2 is usual for the sum.
        clip_range_vf: how far the value may move from its old value; None: not limited.
        normalize_advantage: normalise the advantages of each minibatch to mean 0 and standard deviation 1.
        ent_coef: weight of the entropy in nats per token.
        vf_coef: weight of the value loss.
        max_grad_norm: maximum norm of the gradient, including the value head's.
        target_kl: stop learning from a round when the approximate KL divergence of these ratios exceeds 1.5 times this value;
            None: never. 0.03 is usual for the sum.
        log_ratio: ``mean`` or ``sum`` of the log-ratios of an edit's tokens. The sum is the log-ratio of the whole edit, and
            grows with its length until all long edits are clipped. The mean is comparable between edits (GSPO, arXiv
            2507.18071).
        shared_gradient: let the gradient of the value loss train the language model too.
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
    log_ratio: Literal["mean", "sum"] = "mean"
    shared_gradient: bool = False

    def __post_init__(self) -> None:
        positive = ("learning_rate", "clip_range", "clip_range_vf", "vf_coef", "max_grad_norm", "target_kl")
        check_config(self, contexts=1, samples=2, n_epochs=1, **dict.fromkeys(positive, 0.0))
        if self.batch_size < self.samples:
            raise ValueError(f"batch_size must be at least {self.samples} (samples), got {self.batch_size!r}")


class PPO(Agent):
    """Clipped policy gradient with a value head, run by Stable-Baselines3.

    Attributes:
        value_head: linear layer on the language model's hidden state at the end of the prompt.
        optimizer: Adam over the policy's trained parameters and the value head.
    """

    Config = PPOConfig
    config: PPOConfig
    presets: ClassVar = {
        # Two runs for clip_range and target_kl, the first of which collapsed, and three learning rates on validation articles.
        "seal-nano": Preset({"learning_rate": 1e-3}, tuned_on=480 + 336 + 3 * 480),
        "seal-nano-arc": Preset({"learning_rate": 1e-3, "contexts": 4, "samples": 15, "batch_size": 15}, tuned_on=0),
    }

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        model = self.policy.model
        size = model.get_output_embeddings().weight.shape[1]
        self.value_head = nn.utils.skip_init(nn.Linear, size, 1, device=model.device)
        for parameter in self.value_head.parameters():
            nn.init.zeros_(parameter)
        parameters = [*self.policy.parameters(), *self.value_head.parameters()]
        # Not with Stable-Baselines3's eps=1e-5: an adapter's gradients are no larger than that.
        self.optimizer = torch.optim.Adam(parameters, lr=self.config.learning_rate)

    def round(self, budget: int) -> Round | None:
        config, clock = self.config, Clock()
        contexts = min(config.contexts, budget // config.samples)
        if contexts == 0:
            return None
        tasks = [task for task in self.draw_tasks(contexts) for _ in range(config.samples)]
        seeds = self.task_seeds("collect", tasks)
        clock.start("collect")
        env = PromptVecEnv(self, tasks, seeds)
        ppo = make_ppo(  # a new one each round, since its buffer has a fixed number of edits
            LanguageModelPolicy,  # it needs no MLP of an ActorCriticPolicy
            env,
            config,
            batch_size=max(n for n in range(1, config.batch_size + 1) if len(tasks) % n == 0),
            policy_kwargs={
                "language_model": self.policy,
                "value_head": self.value_head,
                "optimizer": self.optimizer,
                "seeds": seeds,
                "config": config,
            },
            device=self.policy.model.device,
        )
        with seeded(int(self.rng("learn").integers(2**32))):
            ppo.learn(total_timesteps=len(tasks), callback=RoundCallback(self, env, clock))
        metrics = train_metrics(ppo)
        metrics["entropy"] = -metrics.pop("entropy_loss")
        metrics["first_ratio_error"] = cast(LanguageModelPolicy, ppo.policy).first_ratio_error
        return Round(env.rollout, metrics=metrics, seconds=clock.stop())

    def state(self) -> dict[str, Tensor]:
        value = {f"value.{name}.0": tensor.cpu() for name, tensor in self.value_head.state_dict().items()}
        return value | optimizer_state(self.optimizer)

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        self.value_head.load_state_dict({name: state[f"value.{name}.0"] for name in self.value_head.state_dict()})
        load_optimizer_state(self.optimizer, state)


class PromptVecEnv(OneStepVecEnv):
    """A ``VecEnv`` with one sub-environment for each edit: prompts in, edits out, as padded arrays of token ids.

    Args:
        agent: whose environment scores the edits.
        tasks: task index of each edit.
        seeds: seed of each edit's episode.
    """

    def __init__(self, agent: Agent, tasks: Sequence[int], seeds: Sequence[int]) -> None:
        policy = agent.policy
        prompts = [policy.prompt_ids(instruction) for instruction in instructions_of(agent.env, tasks, seeds)]
        observations = padded(prompts, max(len(prompt) for prompt in prompts)).numpy()
        largest = policy.model.get_input_embeddings().weight.shape[0] - 1

        def token_ids(width: int) -> Box:
            return Box(PAD, largest, (width,), np.int64)

        def score(actions: NDArray[np.int64]) -> Sequence[ScoredEdit]:
            completions = [policy.decode(prompt, ids) for prompt, ids in zip(prompts, unpadded(actions))]
            return agent.score_completions(tasks, completions, seeds)

        super().__init__(observations, token_ids(observations.shape[1]), token_ids(policy.max_new_tokens), score)


class LanguageModelPolicy(BasePolicy):
    """A language model and a value head as a policy of Stable-Baselines3, on padded arrays of token ids.

    Its parameters are the trained ones only. The log-probabilities of the rollout come from the forward pass that training
    uses, so the first ratio is 1.

    Args:
        observation_space: token ids of prompts.
        action_space: token ids of edits.
        lr_schedule: not used; Stable-Baselines3 sets the optimizer's learning rate.
        language_model: writes the edits.
        value_head: from hidden states to values.
        optimizer: of both.
        seeds: a seed for the tokens of each edit of the rollout.
        config: the fields ``log_ratio`` and ``shared_gradient``.

    Attributes:
        first_ratio_error: largest distance from 1 of the ratios of the first minibatch.
    """

    def __init__(
        self,
        observation_space: Space[Any],
        action_space: Box,
        lr_schedule: Any,
        *,
        language_model: Policy,
        value_head: nn.Linear,
        optimizer: torch.optim.Optimizer,
        seeds: Sequence[int],
        config: PPOConfig,
        use_sde: bool = False,
    ) -> None:
        super().__init__(observation_space, action_space)
        self.language_model, self.seeds, self.config = language_model, seeds, config
        self.weights = nn.ParameterList(language_model.parameters())
        self.value_head = value_head
        self.optimizer = optimizer
        self.first_ratio_error = float("nan")
        self._rollout_log_probs: dict[tuple[Any, Any], float] = {}

    def forward(self, observations: Tensor, deterministic: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Sample edits; returns their token ids ``(edits, max_new_tokens)``, values and log-probabilities ``(edits,)``."""
        completions = self.language_model.sample(unpadded(observations), self.seeds, top_p=1.0)
        values, log_probs, _ = self._evaluate(completions)
        pairs = [(completion.prompt, completion.ids) for completion in completions]
        self._rollout_log_probs = dict(zip(pairs, log_probs.tolist()))
        actions = padded([completion.ids for completion in completions], self.action_space.shape[0])  # type: ignore[index]
        return actions.to(observations.device), values, log_probs

    def evaluate_actions(self, observations: Tensor, actions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Values, log-probabilities and entropies ``(edits,)`` of a minibatch, with gradients."""
        pairs = list(zip(unpadded(observations), unpadded(actions)))
        completions = [Completion(prompt, ids, "", "stop") for prompt, ids in pairs]
        values, log_probs, entropies = self._evaluate(completions, batch_tokens=sys.maxsize)
        if self._rollout_log_probs:
            old = log_probs.new_tensor([self._rollout_log_probs[pair] for pair in pairs])
            self.first_ratio_error = float((torch.exp(log_probs.detach() - old) - 1).abs().max())
            self._rollout_log_probs = {}
        return values, log_probs, entropies

    def predict_values(self, observations: Tensor) -> Tensor:
        """Values of prompts, ``(edits,)``."""
        return self._evaluate([Completion(prompt, (), "", "stop") for prompt in unpadded(observations)])[0]

    def _predict(self, observation: Any, deterministic: bool = False) -> Tensor:
        return self(observation)[0]

    def _evaluate(self, completions: Sequence[Completion], batch_tokens: int | None = None) -> tuple[Tensor, ...]:
        """Values, log-probabilities and mean entropies of the tokens, ``(completions,)`` each."""
        batches, rows = [], list[int]()
        for scores in self.language_model.scores(completions, batch_tokens=batch_tokens):
            lengths = scores.mask.sum(1).clamp(min=1)
            hidden = scores.hidden if self.config.shared_gradient else scores.hidden.detach()
            # At length 1: in wide models, the head's steps and its share of the clipped gradient would be too large.
            values = self.value_head(F.normalize(hidden.float(), dim=1)).squeeze(1)
            log_probs = scores.log_probs.sum(1) / (lengths if self.config.log_ratio == "mean" else 1)
            entropies = scores.entropies if self.config.ent_coef else scores.entropies.detach()  # its gradient takes time
            batches.append((values, log_probs, entropies.sum(1) / lengths))
            rows += scores.rows
        order = torch.tensor(rows).argsort()
        return tuple(torch.cat(parts)[order] for parts in zip(*batches))


class RoundCallback(BaseCallback):
    """Starts the clock of learning and, in the agent's first round, starts the value head at the mean reward.

    Args:
        agent: the agent that learns.
        env: its environment in this round.
        clock: measures ``collect`` until the rollout ends, then ``learn``.
    """

    def __init__(self, agent: PPO, env: PromptVecEnv, clock: Clock) -> None:
        super().__init__()
        self.agent, self.env, self.clock = agent, env, clock

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        self.clock.start("learn")
        if self.agent.rounds == 0:  # the head's weights are 0, so every value is its bias
            bias, buffer = self.agent.value_head.bias, cast(stable_baselines3.PPO, self.model).rollout_buffer
            nn.init.constant_(bias, float(np.mean([edit.reward for edit in self.env.rollout])))
            buffer.values[:] = bias.item()
            dones = np.ones(self.env.num_envs, bool)
            buffer.compute_returns_and_advantage(last_values=torch.zeros(self.env.num_envs), dones=dones)


def padded(rows: Sequence[Sequence[int]], width: int) -> Tensor:
    """Token ids ``(rows, width)``, filled up with ``PAD``."""
    return torch.tensor([[*row, *[PAD] * (width - len(row))] for row in rows])


def unpadded(rows: Iterable[Any]) -> list[tuple[int, ...]]:
    """Token ids of each row of an array or a tensor, without ``PAD``."""
    return [tuple(int(token) for token in row.tolist() if token != PAD) for row in rows]
