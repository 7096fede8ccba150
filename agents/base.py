"""The contract: an agent has an environment and a policy, learns within a budget of scored self-edits, and predicts edits.

class Mine(Agent):
    def round(self, budget):
        scored = self.collect(self.draw_tasks(8))
        ...  # improve self.policy
        return Round(scored, metrics={"loss": loss})

agent = Mine(gym.make_vec("SEAL-SQuAD-v0", num_envs=8), policy, seed=1)
agent.learn(budget=480)
"""

from __future__ import annotations

import json
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from agents.episodes import Env, begin, score, seal_of
from agents.policy import Completion, Policy
from agents.seeding import derive_seed, generator, task_seeds
from seal_env.checks import check_names
from seal_env.domains.config import EnvConfig
from seal_env.files import atomic_folder, write_json
from seal_env.student import FitStatus
from seal_env.student.loading import base_name

Seeds = int | Sequence[int]


@dataclass(frozen=True)
class NoConfig:
    """For agents without hyperparameters."""


@dataclass(frozen=True)
class Preset:
    """Hyperparameters that were chosen for one model.

    Attributes:
        values: fields of the agent's ``Config`` that differ from their defaults.
        tuned_on: scored edits that were spent on choosing them, those of rejected settings included; None: not known.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    tuned_on: int | None = None


@dataclass(frozen=True)
class Scored:
    """One self-edit and what came of it: the unit of every budget.

    Attributes:
        task: index of the task it was written for.
        instruction: the prompt.
        completion: what the policy wrote.
        reward: of the environment.
        info: of the environment's step.
    """

    task: int
    instruction: str
    completion: Completion
    reward: float
    info: Mapping[str, Any]


@dataclass(frozen=True)
class Round:
    """One turn of collecting and learning.

    Attributes:
        scored: the edits of this round.
        rescored: edits that were scored once more; they count towards the budget as well.
        metrics: what the agent reports of it, by name; every agent reports ``reward``, ``gain`` (unless a proxy gave the
            rewards), ``edit_tokens``, ``unusable`` (share of edits that could not be trained on) and ``frac_reward_zero_std``
            (share of tasks whose edits all got one reward, by TRL's name) besides.
        seconds: of each phase, by name.
    """

    scored: Sequence[Scored]
    rescored: Sequence[Scored] = ()
    metrics: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


class Callback:
    """Watches :meth:`Agent.learn`; override what you need."""

    def on_start(self, agent: Agent) -> None:
        """Before the first round."""

    def on_round(self, agent: Agent, result: Round) -> bool:
        """After each round; return False to stop."""
        return True

    def on_end(self, agent: Agent) -> None:
        """After the last round."""


class Agent(ABC):
    """Whoever writes self-edits. Subclasses name their ``Config``, a frozen dataclass, and define :meth:`round`.

    Args:
        env: ``gym.make_vec("SEAL-...", num_envs=n)`` of one-update episodes; edits are scored ``n`` at a time.
        policy: what writes; it is changed by :meth:`learn`.
        seed: of everything random.
        self_adapting: after each round the student becomes the policy (SEAL); otherwise it stays as it was made (a teacher
            writes for a fixed student).
        config: fields of ``Config``; those left out are the :meth:`preset`'s of the policy's model, else the ``Config``'s.

    Attributes:
        presets: hyperparameters for some models, by the name of the policy's base model, or by the environment's domain
            (``arc``) for models that have none of their own.
        writes: whether the policy writes the edits; if not, the policy is never changed and what is learnt is in :meth:`state`.

    Raises:
        ValueError: an unknown or wrong option, an environment in which it can do nothing (:meth:`misfit`), or one whose prompts
            are for another kind of model than the policy's (``template``).
    """

    Config: ClassVar[type] = NoConfig
    presets: ClassVar[Mapping[str, Preset]] = {}
    writes: ClassVar[bool] = True

    def __init__(self, env: Env, policy: Policy, *, seed: int = 0, self_adapting: bool = False, **config: Any):
        self.env, self.policy, self.seed, self.self_adapting = env, policy, seed, self_adapting
        self.seal = seal_of(env)
        if misfit := self.misfit(self.seal.config):
            raise ValueError(misfit)
        if self.writes:
            _check_template(self.seal.config, policy)
        check_names(type(self).__name__, config, [f.name for f in fields(self.Config)])
        preset = self.preset(policy.name if self.writes else self.seal.config.model, self.seal.config.domain)
        self.config = self.Config(**{**preset.values, **config})
        self.edits = 0
        self.rounds = 0

    # The contract ---------------------------------------------------------------------------------------------------

    @classmethod
    def misfit(cls, config: EnvConfig) -> str:
        """Why such an agent can do nothing in an environment of these settings; empty if it can."""
        if config.updates != 1:
            return f"agents learn from episodes of one update, and mode={config.mode!r} has {config.updates}"
        return ""

    @classmethod
    def preset(cls, model: str, domain: str = "") -> Preset:
        """What is known to suit a policy of this base model in an environment of this domain."""
        return cls.presets.get(base_name(model)) or cls.presets.get(domain) or Preset()

    @abstractmethod
    def round(self, budget: int) -> Round | None:
        """Collect at most ``budget`` scored edits and learn from them; None: that is too few to go on."""

    def learn(self, budget: int, callback: Callback | Sequence[Callback] | None = None) -> Self:
        """Go on until ``budget`` self-edits have been scored since the agent was made; a loaded agent goes on to the same end.

        Raises:
            ValueError: a budget that is not positive.
        """
        if budget < 1:
            raise ValueError(f"budget must be at least 1 scored self-edit, got {budget}")
        callbacks = [callback] if isinstance(callback, Callback) else list(callback or [])
        for each in callbacks:
            each.on_start(self)
        while self.edits < budget:
            result = self.round(budget - self.edits)
            if result is None:
                break
            self.edits += len(result.scored) + len(result.rescored)
            self.rounds += 1
            if self.self_adapting:
                self.adapt(self.env)
            result.metrics.update(summary(result.scored))
            going_on = [each.on_round(self, result) for each in callbacks]
            if not all(going_on):
                break
        for each in callbacks:
            each.on_end(self)
        return self

    def predict(
        self, observations: Mapping[str, Any], infos: Sequence[Mapping[str, Any]] | None = None, *, seed: Seeds = 0
    ) -> list[str]:
        """An edit for each observation of a vector environment, sampled as the policy's ``sampling`` says.

        Args:
            observations: of ``n`` sub-environments.
            infos: of their reset, one for each; baselines that need to know the task look there.
            seed: of each edit; a single number gives each observation a seed of its own.
        """
        instructions = observations["instruction"]
        completions = self.policy.sample(instructions, seeds_of(seed, len(instructions)))
        return [completion.text for completion in completions]

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write all that :meth:`load` needs to go on; the folder appears whole or not at all."""
        with atomic_folder(Path(folder)) as new:
            self.policy.save(new / "policy")
            if state := self.state():
                save_file(state, new / "state.safetensors")
            self.write_about(new)

    def write_about(self, folder: Path) -> None:
        """Write ``agent.json``: what this agent is and how far it has come."""
        about = {
            "agent": f"{type(self).__module__}:{type(self).__qualname__}",
            "config": asdict(self.config),
            "seed": self.seed,
            "self_adapting": self.self_adapting,
            "edits": self.edits,
            "rounds": self.rounds,
        }
        write_json(folder / "agent.json", about)

    @classmethod
    def load(cls, folder: str | os.PathLike[str], env: Env, policy: Policy) -> Self:
        """The agent that was saved, with an environment and a policy made as they were when it was made.

        Raises:
            FileNotFoundError: no agent was saved there.
            ValueError: it was another kind of agent, or had another policy.
        """
        source = Path(folder)
        if not (source / "agent.json").is_file():
            raise FileNotFoundError(f"{source} holds no saved agent (agent.json is missing)")
        about = json.loads((source / "agent.json").read_text())
        if about["agent"] != f"{cls.__module__}:{cls.__qualname__}":
            raise ValueError(f"{source} holds a {about['agent']}, not a {cls.__module__}:{cls.__qualname__}")
        agent = cls(env, policy, seed=about["seed"], self_adapting=about["self_adapting"], **about["config"])
        agent.edits, agent.rounds = about["edits"], about["rounds"]
        policy.load(source / "policy")
        if (source / "state.safetensors").is_file():
            agent.load_state(load_file(source / "state.safetensors"))
        if agent.self_adapting:
            agent.adapt(env)
        return agent

    def state(self) -> dict[str, Tensor]:
        """Tensors besides the policy that an unbroken run would carry on, such as those of an optimizer."""
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:  # noqa: B027 (most agents carry nothing)
        """Take over what :meth:`state` gave."""

    # For algorithms -------------------------------------------------------------------------------------------------

    def rng(self, purpose: str) -> np.random.Generator:
        """A generator for one purpose in this round: an agent that was loaded draws what an unbroken one would have drawn."""
        return generator(self.seed, purpose, self.rounds)

    def draw_tasks(self, count: int) -> list[int]:
        """Indices of tasks, new ones each round and all different where there are as many."""
        return self.seal.draw_tasks(self.rng("tasks"), count)

    def task_seeds(self, purpose: str, tasks: Sequence[int]) -> list[int]:
        """A seed for each task (by index) in this round, another one each time that a task occurs.

        It depends on the agent's seed, the purpose, the round and the task, not on what else is scored.
        """
        return task_seeds(self.seed, tasks, purpose, self.rounds)

    def collect(
        self, tasks: Sequence[int], samples: int = 1, *, top_p: float | None = None, seeds: Sequence[int] | None = None
    ) -> list[Scored]:
        """Write ``samples`` edits for each task (by index), those of a task side by side, and have all of them scored.

        Args:
            tasks: by index.
            samples: edits of each.
            top_p: in place of the policy's. A policy gradient takes 1.0: its log-probabilities are those of the whole
                distribution, and below 1 the edits come from another one.
            seeds: one for each edit; those of this round if left out.
        """
        repeated = [task for task in tasks for _ in range(samples)]
        own = self.task_seeds("collect", repeated) if seeds is None else seeds
        return self._score(repeated, own, lambda part, shown: self.policy.sample(shown, own[part], top_p=top_p))

    def rescore(self, scored: Sequence[Scored]) -> list[Scored]:
        """The same edits scored again with other seeds."""
        tasks = [one.task for one in scored]
        return self._score(tasks, self.task_seeds("rescore", tasks), lambda part, _: [one.completion for one in scored[part]])

    def score_texts(self, tasks: Sequence[int], texts: Sequence[str], seeds: Sequence[int] | None = None) -> list[Scored]:
        """Have edits scored that no language model wrote, one for each of these tasks (by index).

        ``seeds`` are those of the updates, one for each edit: equal ones compare two edits of a task on equal terms.
        """
        return self._score(
            tasks,
            self.task_seeds("collect", tasks) if seeds is None else seeds,
            lambda part, _: [Completion((), (), text, "stop") for text in texts[part]],
        )

    def _score(
        self, tasks: Sequence[int], seeds: Sequence[int], written: Callable[[slice, Sequence[str]], Sequence[Completion]]
    ) -> list[Scored]:
        """An edit for each task, scored as many at a time as there are sub-environments.

        Args:
            tasks: by index.
            seeds: of each edit's episode.
            written: the edits of a slice of the tasks, with these instructions.
        """
        scored = list[Scored]()
        for start in range(0, len(tasks), self.env.num_envs):
            chosen = slice(start, start + self.env.num_envs)
            part = list(tasks[chosen])
            observations, _ = begin(self.env, part, seeds[chosen])
            instructions = observations["instruction"]
            completions = written(chosen, instructions)
            outcomes = score(self.env, [completion.text for completion in completions])
            scored += [
                Scored(task, instruction, completion, reward, info)
                for task, instruction, completion, (reward, info) in zip(part, instructions, completions, outcomes)
            ]
        return scored

    def adapt(self, env: Env) -> None:
        """Make the environment's student the policy as it is now.

        Raises:
            ValueError: they are not of one base model.
        """
        seal_of(env).load_student(self.policy.merged_weights())


def seeds_of(seed: Seeds, count: int) -> list[int]:
    """``count`` seeds: those that were given, or different ones that come from a single number."""
    if isinstance(seed, int):
        return [derive_seed(seed, "predict", i) for i in range(count)]
    if len(seed) != count:
        raise ValueError(f"seed must be one number or one for each of the {count} observations, got {len(seed)}")
    return list(seed)


def _check_template(config: EnvConfig, policy: Policy) -> None:
    """Raise a ValueError where the environment asks for edits as of one kind of model and the policy is of the other."""
    if config.template != policy.template:
        raise ValueError(
            f"the environment's prompts are for a model with template={config.template!r}, and the policy has"
            f" template={policy.template!r}: make the environment with template={policy.template!r} (how the student is"
            " questioned is student_template), or the policy with the environment's"
        )


def summary(scored: Sequence[Scored]) -> dict[str, float]:
    """What every round reports of its edits."""
    groups: dict[int, set[float]] = {}
    for one in scored:
        groups.setdefault(one.task, set()).add(one.reward)
    gains = [one.info["gain"] for one in scored if "gain" in one.info]
    return {
        "reward": float(np.mean([one.reward for one in scored])),
        **({"gain": float(np.mean(gains))} if gains else {}),
        "edit_tokens": float(np.mean([len(one.completion.ids) for one in scored])),
        "unusable": float(np.mean([not _usable(one.info) for one in scored])),
        "frac_reward_zero_std": float(np.mean([len(rewards) == 1 for rewards in groups.values()])),
    }


def _usable(info: Mapping[str, Any]) -> bool:
    """Whether the edit was trained on or, where a proxy rated it, could have been."""
    return FitStatus(info["fit_status"]).learnt if "fit_status" in info else info["sequences"] > 0


def optimizer_state(optimizer: torch.optim.Optimizer, prefix: str = "optimizer") -> dict[str, Tensor]:
    """The tensors of an optimizer, as ``prefix.parameter.name``, for :meth:`Agent.state`."""
    return {
        f"{prefix}.{i}.{name}": torch.as_tensor(value).detach().cpu().contiguous()
        for i, values in optimizer.state_dict()["state"].items()
        for name, value in values.items()
    }


def load_optimizer_state(optimizer: torch.optim.Optimizer, state: Mapping[str, Tensor], prefix: str = "optimizer") -> None:
    """Take over what :func:`optimizer_state` gave; other tensors in ``state`` are left alone."""
    atomic_write = optimizer.state_dict()
    for key, value in state.items():
        if key.startswith(f"{prefix}."):
            number, name = key.removeprefix(f"{prefix}.").split(".", 1)
            atomic_write["state"].setdefault(int(number), {})[name] = value
    optimizer.load_state_dict(atomic_write)


class Clock:
    """Seconds of each phase of a round: ``with clock("score"): ...``."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._name, self._started = "", 0.0

    def __call__(self, name: str) -> Self:
        self._name = name
        return self

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.seconds[self._name] = self.seconds.get(self._name, 0.0) + time.perf_counter() - self._started
