"""The contract of agents. A subclass of :class:`Agent` defines ``round``; everything else has a default.

class MyAgent(Agent):
    Config = MyConfig                     # optional: a frozen dataclass of hyperparameters, the type of self.config

    def round(self, budget):              # required: collect at most `budget` scored edits and learn from them
        rollout = self.collect(self.draw_tasks(8), samples=4)
        ...                               # improve self.policy
        return Round(rollout, metrics={"loss": loss})

    def state(self): ...                  # optional: tensors to save besides the policy, such as an optimizer's
    def load_state(self, state): ...

agent = MyAgent(gym.make_vec("SEAL-SQuAD-v0", num_envs=8), policy, seed=1)
agent.learn(budget=480)                   # calls round() until 480 edits have been scored
"""

from __future__ import annotations

import json
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from numbers import Integral
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from agents.agent_config import NoConfig, Preset
from agents.episodes import Env, begin, score, seal_vector_env
from agents.policy import Completion, Policy
from agents.seeding import derive_seed, generator, task_seeds
from seal_env.checks import check_names
from seal_env.domains.config import EnvConfig
from seal_env.files import atomic_folder, write_json
from seal_env.student import FitStatus
from seal_env.student.loading import base_name

SeedLike = int | Sequence[int]
Observations = Mapping[str, Any]  # of a vector environment
Infos = Sequence[Mapping[str, Any]]  # of each sub-environment's reset


@dataclass(frozen=True)
class ScoredEdit:
    """A self-edit and its reward. Budgets count scored edits.

    Attributes:
        task: index of the task that the edit was written for.
        instruction: the prompt.
        completion: what was written; without token ids if it is not from a language model.
        reward: the environment's reward.
        info: the environment's info of the step.
    """

    task: int
    instruction: str
    completion: Completion
    reward: float
    info: Mapping[str, Any]

    @property
    def edit(self) -> str:
        """Text of the edit."""
        return self.completion.text


@dataclass(frozen=True)
class Round:
    """Result of :meth:`Agent.round`.

    Attributes:
        rollout: the scored edits that were collected.
        rescored: edits that were scored again. They count towards the budget as well.
        metrics: the agent's metrics by name. :meth:`Agent.learn` adds those of :func:`rollout_metrics`.
        seconds: duration of each phase by name.
    """

    rollout: Sequence[ScoredEdit]
    rescored: Sequence[ScoredEdit] = ()
    metrics: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


class Callback:
    """Hooks into :meth:`Agent.learn`; override the methods you need."""

    def on_start(self, agent: Agent) -> None:
        """Called before the first round."""

    def on_round(self, agent: Agent, result: Round) -> bool:
        """Called after each round; return False to stop."""
        return True

    def on_end(self, agent: Agent) -> None:
        """Called after the last round."""


class Agent(ABC):
    """An agent writes self-edits, and learns from their rewards to write better ones.

    Hyperparameters are ``config``, an instance of the agent's ``Config``, or keywords, or both. Without ``config``, the fields
    that are not passed as keywords have the values of the :meth:`preset` for the model, or else their defaults. A ``config``
    is used as it is, without a preset, and keywords replace its fields.

    Args:
        env: ``gym.make_vec("SEAL-...", num_envs=n)`` with one update per episode. ``n`` edits are scored at a time.
        policy: the language model, which :meth:`learn` trains.
        config: hyperparameters.
        seed: seed of everything random.
        self_adapting: load the policy's weights into the environment's student after each round, as SEAL does. Otherwise
            the student does not change.
        hyperparameters: fields of ``Config``.

    Attributes:
        presets: hyperparameters by name of the policy's base model, or by the environment's domain (``arc``) for models that
            have none.
        uses_policy: whether the policy writes the edits. If not, it is never trained, and :meth:`state` holds all that is
            learnt.
        learns: whether the agent uses a training budget; baselines do not.
        edits: number of edits scored so far.
        rounds: number of rounds so far.

    Raises:
        TypeError: ``policy`` is not a policy, ``config`` is not an instance of ``Config``, or a field has the wrong type.
        ValueError: an unknown or invalid hyperparameter, an environment that the agent does not support
            (:meth:`incompatibility`), or one with another ``template`` than the policy's.
    """

    Config: ClassVar[type[Any]] = NoConfig
    presets: ClassVar[Mapping[str, Preset]] = {}
    uses_policy: ClassVar[bool] = True
    learns: ClassVar[bool] = True

    def __init__(
        self,
        env: Env,
        policy: Policy,
        config: Any = None,
        *,
        seed: int = 0,
        self_adapting: bool = False,
        **hyperparameters: Any,
    ):
        if self.uses_policy and not isinstance(policy, Policy):
            raise TypeError(f"policy must be an agents.Policy, such as Policy.from_pretrained('seal-nano'), got {policy!r:.80}")
        if not _is_integer(seed) or seed < 0:
            raise ValueError(f"seed must be an integer >= 0, got {seed!r}")
        self.env, self.policy, self.seed, self.self_adapting = env, policy, seed, self_adapting
        self.seal_env = seal_vector_env(env)
        if problem := self.incompatibility(self.seal_env.config):
            raise ValueError(problem)
        if self.uses_policy:
            _check_template(self.seal_env.config, policy)
        self.config = self._resolve_config(config, hyperparameters)
        self.edits = 0
        self.rounds = 0

    def _resolve_config(self, config: Any, hyperparameters: Mapping[str, Any]) -> Any:
        check_names(type(self).__name__, hyperparameters, [f.name for f in fields(self.Config)])
        if config is None:
            model = self.policy.name if self.uses_policy else self.seal_env.config.model
            preset = self.preset(model, self.seal_env.config.domain)
            return self.Config(**{**preset.values, **hyperparameters})
        if not isinstance(config, self.Config):
            raise TypeError(
                f"config of {type(self).__name__} must be an instance of {self.Config.__name__}, got {config!r:.80}; single"
                " hyperparameters are keywords"
            )
        return replace(config, **hyperparameters)

    # To override ----------------------------------------------------------------------------------------------------

    @abstractmethod
    def round(self, budget: int) -> Round | None:
        """Collect at most ``budget`` scored edits and learn from them. Return None if the budget is too small for a round."""

    def state(self) -> dict[str, Tensor]:
        """Tensors besides the policy that the next round depends on, such as those of an optimizer."""
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:  # noqa: B027 (optional)
        """Load what :meth:`state` returned."""

    @classmethod
    def incompatibility(cls, config: EnvConfig) -> str:
        """Return why this agent does not support an environment with these settings, or an empty string if it does."""
        if config.updates != 1:
            return f"agents learn from episodes of one update, and mode={config.mode!r} has {config.updates}"
        return ""

    def predict(self, observations: Observations, infos: Infos | None = None, *, seed: SeedLike = 0) -> list[str]:
        """Write a self-edit for each observation, sampled by the policy.

        Args:
            observations: of a vector environment.
            infos: info of each sub-environment's reset, which some baselines need to identify the task.
            seed: one for each observation, or a single one from which these are derived.
        """
        instructions = observations["instruction"]
        completions = self.policy.sample(instructions, expand_seeds(seed, len(instructions)))
        return [completion.text for completion in completions]

    # For users ------------------------------------------------------------------------------------------------------

    @classmethod
    def preset(cls, model: str, domain: str = "") -> Preset:
        """The preset for a policy of this base model in an environment of this domain; an empty one if there is none."""
        return cls.presets.get(base_name(model)) or cls.presets.get(domain) or Preset()

    def learn(self, budget: int, callback: Callback | Sequence[Callback] | None = None) -> Self:
        """Run rounds until ``budget`` self-edits have been scored in total. A loaded agent counts from its first round.

        Raises:
            ValueError: the budget is no integer of at least 1, or too small for one round.
        """
        if not _is_integer(budget) or budget < 1:
            raise ValueError(f"budget must be at least 1 scored self-edit, got {budget!r}")
        callbacks = [callback] if isinstance(callback, Callback) else list(callback or [])
        for each in callbacks:
            each.on_start(self)
        while self.edits < budget:
            result = self.round(budget - self.edits)
            if result is None:
                break
            self.edits += len(result.rollout) + len(result.rescored)
            self.rounds += 1
            if self.self_adapting:
                self.adapt(self.env)
            result.metrics.update(rollout_metrics(result.rollout))
            going_on = [each.on_round(self, result) for each in callbacks]
            if not all(going_on):
                break
        if self.learns and self.edits == 0:
            raise ValueError(f"a budget of {budget} edits is too small for one round of {type(self).__name__}")
        for each in callbacks:
            each.on_end(self)
        return self

    def adapt(self, env: Env) -> None:
        """Load the policy's weights into the environment's student.

        Raises:
            ValueError: policy and student have different base models.
        """
        seal_vector_env(env).load_student(self.policy.merged_weights())

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Save everything that :meth:`load` needs to resume. The folder is written atomically."""
        with atomic_folder(Path(folder)) as new:
            self.policy.save(new / "policy")
            if state := self.state():
                save_file(state, new / "state.safetensors")
            self.save_metadata(new)

    def save_metadata(self, folder: Path) -> None:
        """Write ``agent.json``: class, hyperparameters, seed, and progress."""
        metadata = {
            "agent": f"{type(self).__module__}:{type(self).__qualname__}",
            "config": asdict(self.config),
            "seed": self.seed,
            "self_adapting": self.self_adapting,
            "edits": self.edits,
            "rounds": self.rounds,
        }
        write_json(folder / "agent.json", metadata)

    @classmethod
    def load(cls, folder: str | os.PathLike[str], env: Env, policy: Policy) -> Self:
        """Load a saved agent. Create ``env`` and ``policy`` as for the agent that was saved.

        Raises:
            FileNotFoundError: the folder holds no saved agent.
            ValueError: the saved agent is of another class, or had another policy.
        """
        source = Path(folder)
        if not (source / "agent.json").is_file():
            raise FileNotFoundError(f"{source} holds no saved agent (agent.json is missing)")
        metadata = json.loads((source / "agent.json").read_text())
        if metadata["agent"] != f"{cls.__module__}:{cls.__qualname__}":
            raise ValueError(f"{source} holds an agent {metadata['agent']}, not {cls.__module__}:{cls.__qualname__}")
        config = cls.Config(**metadata["config"])
        agent = cls(env, policy, config, seed=metadata["seed"], self_adapting=metadata["self_adapting"])
        agent.edits, agent.rounds = metadata["edits"], metadata["rounds"]
        policy.load(source / "policy")
        if (source / "state.safetensors").is_file():
            agent.load_state(load_file(source / "state.safetensors"))
        if agent.self_adapting:
            agent.adapt(env)
        return agent

    # For algorithms, in round() -------------------------------------------------------------------------------------

    def rng(self, purpose: str) -> np.random.Generator:
        """Random generator for one purpose in this round, derived from the agent's seed. A resumed agent draws the same."""
        return generator(self.seed, purpose, self.rounds)

    def draw_tasks(self, count: int) -> list[int]:
        """Indices of ``count`` tasks, new ones in each round, all different if there are enough."""
        return self.seal_env.draw_tasks(self.rng("tasks"), count)

    def task_seeds(self, purpose: str, tasks: Sequence[int]) -> list[int]:
        """A seed for each task (by index), different ones for a task that occurs repeatedly.

        It depends on the agent's seed, the purpose, the round and the task, not on the other tasks.
        """
        return task_seeds(self.seed, tasks, purpose, self.rounds)

    def collect(
        self, tasks: Sequence[int], samples: int = 1, *, top_p: float | None = None, seeds: Sequence[int] | None = None
    ) -> list[ScoredEdit]:
        """Sample ``samples`` edits for each task and score them.

        Args:
            tasks: task indices.
            samples: edits per task.
            top_p: used instead of the policy's. Policy gradients need 1.0, because their log-probabilities are those of
                the whole distribution.
            seeds: one for each edit; by default those of this round.

        Returns:
            ``len(tasks) * samples`` edits, those of a task side by side.
        """
        repeated = [task for task in tasks for _ in range(samples)]
        chosen = self.task_seeds("collect", repeated) if seeds is None else seeds
        return score_episodes(
            self.env, repeated, chosen, lambda part, o, _: self.policy.sample(o["instruction"], chosen[part], top_p=top_p)
        )

    def rescore(self, edits: Sequence[ScoredEdit]) -> list[ScoredEdit]:
        """Score the same edits again, with other seeds."""
        tasks = [edit.task for edit in edits]
        return self.score_completions(tasks, [edit.completion for edit in edits], self.task_seeds("rescore", tasks))

    def score_completions(
        self, tasks: Sequence[int], completions: Sequence[Completion], seeds: Sequence[int] | None = None
    ) -> list[ScoredEdit]:
        """Score a completion for each task.

        Args:
            tasks: task indices.
            completions: one for each task; ``Completion.from_text(text)`` for a text that no language model generated.
            seeds: seeds of the updates; by default those of this round. Equal seeds compare edits of a task on equal terms.
        """
        chosen = self.task_seeds("collect", tasks) if seeds is None else seeds
        return score_episodes(self.env, tasks, chosen, lambda part, *_: completions[part])


def score_episodes(
    env: Env,
    tasks: Sequence[int],
    seeds: Sequence[int],
    write: Callable[[slice, Observations, Infos], Sequence[Completion]],
) -> list[ScoredEdit]:
    """Run a one-step episode for each task, ``env.num_envs`` at a time.

    ``write`` gets the slice of tasks with their observations and infos, and returns a completion for each.
    """
    scored: list[ScoredEdit] = []
    for start in range(0, len(tasks), env.num_envs):
        part = slice(start, start + env.num_envs)
        observations, infos = begin(env, tasks[part], seeds[part])
        instructions, completions = observations["instruction"], write(part, observations, infos)
        results = score(env, [completion.text for completion in completions])
        scored += [
            ScoredEdit(task, instruction, completion, reward, info)
            for task, instruction, completion, (reward, info) in zip(tasks[part], instructions, completions, results)
        ]
    return scored


def expand_seeds(seed: SeedLike, count: int) -> list[int]:
    """``count`` seeds: those given, or different ones derived from a single number."""
    if isinstance(seed, int):
        return [derive_seed(seed, "predict", i) for i in range(count)]
    if len(seed) != count:
        raise ValueError(f"seed must be one number or one for each of the {count} observations, got {len(seed)}")
    return list(seed)


def _is_integer(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _check_template(config: EnvConfig, policy: Policy) -> None:
    """Raise a ValueError if environment and policy prompt different kinds of model."""
    if config.template != policy.template:
        raise ValueError(
            f"the environment's prompts are for a model with template={config.template!r}, and the policy has"
            f" template={policy.template!r}: make the environment with template={policy.template!r} (how the student is"
            " questioned is student_template), or the policy with the environment's"
        )


def rollout_metrics(rollout: Sequence[ScoredEdit]) -> dict[str, float]:
    """The metrics that every agent reports of a round.

    Returns:
        ``reward`` and ``gain``, means over edits (no gain if a proxy gave the rewards); ``edit_tokens``, mean number of tokens;
        ``unusable``, share of edits that could not be trained on; ``frac_reward_zero_std``, share of tasks whose edits all
        got the same reward (TRL's name).
    """
    rewards_of_task: dict[int, set[float]] = {}
    for edit in rollout:
        rewards_of_task.setdefault(edit.task, set()).add(edit.reward)
    gains = [edit.info["gain"] for edit in rollout if "gain" in edit.info]
    return {
        "reward": float(np.mean([edit.reward for edit in rollout])),
        **({"gain": float(np.mean(gains))} if gains else {}),
        "edit_tokens": float(np.mean([len(edit.completion.ids) for edit in rollout])),
        "unusable": float(np.mean([not _is_usable(edit.info) for edit in rollout])),
        "frac_reward_zero_std": float(np.mean([len(rewards) == 1 for rewards in rewards_of_task.values()])),
    }


def _is_usable(info: Mapping[str, Any]) -> bool:
    """Whether the edit was trained on or, if a proxy rated it, could have been."""
    return FitStatus(info["fit_status"]).learnt if "fit_status" in info else info["sequences"] > 0


def optimizer_state(optimizer: torch.optim.Optimizer, prefix: str = "optimizer") -> dict[str, Tensor]:
    """The optimizer's tensors by name ``prefix.parameter.name``, for :meth:`Agent.state`."""
    return {
        f"{prefix}.{i}.{name}": torch.as_tensor(value).detach().cpu().contiguous()
        for i, values in optimizer.state_dict()["state"].items()
        for name, value in values.items()
    }


def load_optimizer_state(optimizer: torch.optim.Optimizer, state: Mapping[str, Tensor], prefix: str = "optimizer") -> None:
    """Load what :func:`optimizer_state` returned; other tensors in ``state`` are ignored."""
    state_dict = optimizer.state_dict()
    for key, value in state.items():
        if key.startswith(f"{prefix}."):
            number, name = key.removeprefix(f"{prefix}.").split(".", 1)
            state_dict["state"].setdefault(int(number), {})[name] = value
    optimizer.load_state_dict(state_dict)


class Clock:
    """Measures the phases of a round: ``clock.start("collect")``, ``clock.start("learn")``, ``seconds=clock.stop()``."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._phase, self._started = "", 0.0

    def start(self, phase: str) -> None:
        """End the current phase and start another one."""
        self.stop()
        self._phase, self._started = phase, time.perf_counter()

    def stop(self) -> dict[str, float]:
        """End the current phase; returns the seconds of all phases by name."""
        if self._phase:
            self._seconds[self._phase] = self._seconds.get(self._phase, 0.0) + time.perf_counter() - self._started
        self._phase = ""
        return self._seconds
