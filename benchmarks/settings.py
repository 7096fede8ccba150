"""Settings of a benchmark: environment, agents, seeds and budget, from YAML and the command line, validated before it runs."""

from __future__ import annotations

import argparse
import importlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import yaml
from gymnasium.envs.registration import EnvSpec, load_env_creator
from peft import LoraConfig

from agents import Agent, Policy, get_agent
from agents.policy import policy_preset
from benchmarks import CONFIGS, DEFAULTS
from seal_env.checks import check_at_least, check_count, check_names, did_you_mean
from seal_env.domains import EnvConfig, from_keywords
from seal_env.envs import SealVectorEnv

ENTRY_POINT = "seal_env.envs:SealVectorEnv"
SEQUENCE = 8  # passages of a continual sequence, as in the paper
LEARNERS = ("rest_em", "grpo", "ppo")
BASELINES = ("no_update", "passage_only", "untrained", "best_of_k", "oracle")
_POLICY = ("model", "lora", "device", "dtype", "trust_remote_code", "temperature", "top_p", "max_new_tokens", "template")
_POLICY_OPTIONS = (*_POLICY, "enable_thinking", "gradient_checkpointing")


@dataclass(frozen=True)
class AgentSettings:
    """One agent of a benchmark.

    Attributes:
        agent: a name that :func:`agents.get_agent` resolves.
        config: hyperparameters; the agent's defaults for the others.
        self_adapting: whether the student becomes the policy after every round.
        tuned_on: scored edits that were spent on choosing the hyperparameters; None: not known.
    """

    agent: str
    config: Mapping[str, Any] = field(default_factory=dict)
    self_adapting: bool = False
    tuned_on: int | None = None

    def __post_init__(self) -> None:
        if self.tuned_on is not None:
            check_at_least("tuned_on", self.tuned_on, 0)

    @property
    def type(self) -> type[Agent]:
        return get_agent(self.agent)

    @property
    def learns(self) -> bool:
        return self.type.learns


@dataclass(frozen=True)
class EvaluationSettings:
    """How agents are evaluated.

    Attributes:
        tasks: number of tasks, the first ones of the evaluation environment.
        every: scored edits between evaluations; the end is always evaluated.
        start: whether learners are evaluated before they learn; if ``untrained`` is compared as well, it has the same scores.
        sequences: continual episodes at the end of a run, each of :data:`SEQUENCE` passages that are learnt one after the
            other, with the questions about all earlier ones after each (paper, figure 6).
        env_options: keywords of the evaluation environment that differ from the training environment.
    """

    tasks: int = 100
    every: int = 240
    start: bool = True
    sequences: int = 0
    env_options: Mapping[str, Any] = field(default_factory=lambda: {"split": "test"})

    def __post_init__(self) -> None:
        for name in ("tasks", "every"):
            check_count(f"evaluation.{name}", getattr(self, name))
        if self.sequences:
            check_count("evaluation.sequences", self.sequences)


@dataclass(frozen=True)
class Settings:
    """A benchmark: everything that its results depend on, besides versions and hardware.

    Attributes:
        env: id of the environment.
        agents: by the label that reports show.
        env_options: keywords of the environment.
        policy: arguments of :class:`agents.Policy`: ``model`` (by default the environment's), ``lora`` (options, or ``all``),
            ``temperature``, ``top_p``, ``max_new_tokens``, ...
        seeds: every agent has a run with each seed.
        budget: scored self-edits of a run.
        num_envs: sub-environments, whose edits are scored together; changes no result.
        evaluation: see :class:`EvaluationSettings`.

    Raises:
        ValueError: a value cannot be used; the message names it, and what would work.
    """

    env: str
    agents: Mapping[str, AgentSettings]
    env_options: Mapping[str, Any] = field(default_factory=dict)
    policy: Mapping[str, Any] = field(default_factory=dict)
    seeds: Sequence[int] = (0, 1, 2)
    budget: int = 480
    num_envs: int = 48
    evaluation: EvaluationSettings = field(default_factory=EvaluationSettings)

    def __post_init__(self) -> None:
        for name in ("budget", "num_envs"):
            check_count(name, getattr(self, name))
        seeds = list(self.seeds)
        if not seeds or any(type(seed) is not int or seed < 0 for seed in seeds) or len(set(seeds)) < len(seeds):
            raise ValueError(f"seeds must be a number of seeds, at least 1, or a list of different ones from 0, got {seeds}")
        if not self.agents:
            raise ValueError("agents must name at least one agent")
        check_names("policy", self.policy, list(_POLICY_OPTIONS))
        training, evaluation = self.env_config(training=True), self.env_config(training=False)
        if evaluation.approximate:
            raise ValueError(
                "reward='proxy' updates nothing that could be evaluated: set evaluation.env_options.reward=score"
                " (and evaluation.env_options.split=test)"
            )
        for label, agent in self.agents.items():
            if not re.fullmatch(r"[A-Za-z0-9][\w.+-]*", label):
                raise ValueError(
                    f"an agent's label is the name of a folder: letters, digits, '_', '-', '.', '+'; got {label!r}"
                )
            check_names(agent.agent, agent.config, [f.name for f in fields(agent.type.Config)])
            try:
                agent.type.Config(**agent.config)
            except (TypeError, ValueError) as error:
                raise ValueError(f"agents.{label}: {error}") from error
            for config in (training, evaluation) if agent.learns else (evaluation,):
                if problem := agent.type.incompatibility(config):
                    raise ValueError(f"agents.{label}: {problem}")

    @property
    def training_edits(self) -> int:
        """Scored edits of all runs together."""
        return sum(agent.learns for agent in self.agents.values()) * len(self.seeds) * self.budget

    def baselines(self) -> list[str]:
        """Names of the baselines that fit the evaluation environment."""
        config = self.env_config(training=False)
        return [name for name in BASELINES if not get_agent(name).incompatibility(config)]

    def keywords(self, training: bool) -> dict[str, Any]:
        """Keywords of ``gym.make_vec`` for the training or the evaluation environment."""
        return {**self.env_options, **({} if training else self.evaluation.env_options)}

    def env_config(self, training: bool) -> EnvConfig:
        """Configuration of the training or the evaluation environment."""
        return from_keywords({**env_keywords(self.env), **self.keywords(training)})

    def make_env(self, training: bool, num_envs: int | None = None, **keywords: Any) -> Any:
        """The training or the evaluation environment, with more ``keywords``."""
        return gym.make_vec(self.env, num_envs=num_envs or self.num_envs, **{**self.keywords(training), **keywords})

    def make_policy(self) -> Policy:
        """An untrained policy."""
        config, options = self.env_config(True), dict(self.policy)
        name, lora = options.pop("model", config.model), options.pop("lora", None)
        sampling = {key: options.pop(key) for key in ("temperature", "top_p") if key in options}
        if sampling:
            options["sampling"] = replace(policy_preset(name).sampling, **sampling)
        lora = LoraConfig(**lora) if isinstance(lora, Mapping) else lora
        return Policy.from_pretrained(name, lora, **{**policy_options(config), **options})

    def to_json(self) -> dict[str, Any]:
        """The settings as a JSON tree that :func:`from_mapping` reads."""
        return json.loads(json.dumps(asdict(self)))


def env_keywords(env_id: object) -> Mapping[str, Any]:
    """The keywords that a SEAL environment is registered with.

    Args:
        env_id: a registered id, or ``package.module:Id-v0``: the module is imported first, as ``gym.make`` does.

    Raises:
        ValueError: the id is not registered, its module cannot be imported, or it is not an id of a SEAL environment.
    """
    module, _, name = str(env_id).rpartition(":")
    if module:
        try:
            importlib.import_module(module)
        except (ImportError, ValueError) as error:
            raise ValueError(f"environment {env_id!r}: cannot import {module!r}: {error}") from error
    spec = gym.registry.get(name)
    if spec is None:
        names = [known for known, other in gym.registry.items() if other.vector_entry_point == ENTRY_POINT]
        raise ValueError(
            f"no environment {env_id!r}.{did_you_mean(name, names)} There are: {', '.join(names)};"
            " or give 'package.module:Id-v0', which imports the module that registers it"
        )
    if not _is_seal(spec):
        raise ValueError(f"{env_id!r} is not a SEAL environment: its vector_entry_point must be {ENTRY_POINT!r} or a subclass")
    return spec.kwargs


def _is_seal(spec: EnvSpec) -> bool:
    entry_point: Any = spec.vector_entry_point
    if isinstance(entry_point, str):
        try:
            entry_point = load_env_creator(entry_point)
        except (ImportError, AttributeError, ValueError):  # Gymnasium registers ids whose optional packages are missing
            return False
    return isinstance(entry_point, type) and issubclass(entry_point, SealVectorEnv)


def policy_options(config: EnvConfig) -> dict[str, Any]:
    """Options of :meth:`agents.Policy.from_pretrained` that a policy takes from its environment.

    If the environment leaves ``template`` or ``enable_thinking`` open, the policy uses its saved value, or its model's.
    """
    options = {name: getattr(config, name) for name in ("device", "dtype", "trust_remote_code")}
    if config.template != "auto":
        options["template"] = config.template
    if config.enable_thinking is not None:
        options["enable_thinking"] = config.enable_thinking
    return options


def from_mapping(given: Mapping[str, Any], overrides: Sequence[str] = ()) -> Settings:
    """Settings from a YAML or JSON tree, and from ``key=value`` overrides with dots between levels (``evaluation.tasks=50``).

    ``agents`` is a list of names, or a mapping from labels to ``agent``, ``config``, ``self_adapting`` and ``tuned_on``, all
    optional; ``seeds`` is a list or a number. Hyperparameters that ``config`` leaves out come from the agent's preset for the
    policy's model (:attr:`agents.Agent.presets`), as in Python; ``num_envs`` and ``policy`` come from ``configs/defaults.yaml``
    for the environment.

    Raises:
        ValueError: a key is unknown, or a value cannot be used.
    """
    tree = _numbers(json.loads(json.dumps(given)))
    if isinstance(agents := tree.get("agents"), list):
        tree["agents"] = {name: {} for name in agents}
    for override in overrides:
        apply_override(tree, override)
    check_names("benchmark", tree, [f.name for f in fields(Settings)])
    if "env" not in tree:
        raise ValueError("a benchmark needs env: the id of an environment")
    defaults = _numbers(yaml.safe_load((CONFIGS / f"{DEFAULTS}.yaml").read_text(encoding="utf-8")))
    default = defaults.get(str(tree["env"]).rpartition(":")[2], {})
    evaluation = _mapping("evaluation", tree.get("evaluation"))
    check_names("evaluation", evaluation, [f.name for f in fields(EvaluationSettings)])
    tree["evaluation"] = EvaluationSettings(**evaluation)
    if "num_envs" in default:
        tree.setdefault("num_envs", default["num_envs"])
    if "seeds" in tree:
        tree["seeds"] = _seeds(tree["seeds"])
    tree["policy"] = {**default.get("policy", {}), **_mapping("policy", tree.get("policy"))}
    tree["env_options"] = _mapping("env_options", tree.get("env_options"))
    environment = from_keywords({**env_keywords(tree["env"]), **tree["env_options"]})
    model = tree["policy"].get("model", environment.model)
    agents = _mapping("agents", tree.get("agents"))
    tree["agents"] = {label: _agent(label, value, model, environment.domain) for label, value in agents.items()}
    return Settings(**tree)


def _seeds(value: Any) -> tuple[int, ...]:
    if type(value) is int:
        return tuple(range(value))
    if not isinstance(value, list):
        raise ValueError(f"seeds must be a number of seeds or a list, got {value!r}")
    return tuple(value)


def _mapping(name: str, value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError(f"{name} must be a mapping, got {value!r}")
    return value


def _agent(label: str, value: Any, model: str, domain: str) -> AgentSettings:
    tree = _mapping(f"agents.{label}", value)
    check_names(f"agents.{label}", tree, [f.name for f in fields(AgentSettings)])
    name, changed = tree.get("agent", label), _mapping(f"agents.{label}.config", tree.get("config"))
    settings = AgentSettings(name, changed, bool(tree.get("self_adapting", False)), tree.get("tuned_on"))
    preset = settings.type.preset(model, domain)
    config, tuned_on = {**preset.values, **changed}, settings.tuned_on
    if tuned_on is None:
        # How the preset was tuned is not known of other values.
        tuned_on = (preset.tuned_on if config == preset.values else None) if settings.learns else 0
    return replace(settings, config=config, tuned_on=tuned_on)


# YAML and the command line ----------------------------------------------------------------------------------------------


def read_config(name: str) -> dict[str, Any]:
    """A benchmark's YAML: a path, or the name of one that comes with the package.

    Raises:
        ValueError: the file does not exist, or does not hold a mapping.
    """
    bundled = [path.stem for path in sorted(CONFIGS.glob("*.yaml")) if path.stem != DEFAULTS]
    path = CONFIGS / f"{name}.yaml" if name in bundled else Path(name)
    if not path.is_file():
        raise ValueError(f"no config {name!r}.{did_you_mean(name, bundled)} Give a path, or one of: {', '.join(bundled)}")
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(tree, dict):
        raise ValueError(f"{path} must hold a mapping such as 'env: SEAL-SQuAD-v0'")
    return tree


def value_of(text: str) -> Any:
    """Parse a YAML value; ``3e-4`` is a number, which YAML 1.1 would read as text.

    Raises:
        ValueError: ``text`` is not YAML.
    """
    try:
        return _numbers(yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise ValueError(f"{text!r} is not a YAML value: {' '.join(str(error).split())}") from error


def _numbers(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _numbers(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_numbers(value) for value in tree]
    if isinstance(tree, str) and re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+", tree):
        return float(tree)
    return tree


def tree_of(pairs: Sequence[str], option: str = "-P", form: str = "key=value") -> dict[str, Any]:
    """A tree from ``key=value`` pairs with YAML values and dots between levels (``inner_loop.epochs=3``)."""
    tree: dict[str, Any] = {}
    for pair in pairs:
        apply_override(tree, pair, option, form)
    return tree


def apply_override(tree: dict[str, Any], override: str, option: str = "-P", form: str = "key=value") -> None:
    """Set a value of ``tree`` in place.

    Args:
        override: the path, with dots between levels, and the value, as YAML: ``evaluation.tasks=50``.
        option: the command-line option, for errors.
        form: what the option takes, for errors.

    Raises:
        ValueError: ``override`` is malformed, or its path leads through a value.
    """
    path, equals, text = override.partition("=")
    if not equals or not path:
        raise ValueError(f"{option} takes {form}, got {override!r}")
    *parents, name = path.split(".")
    for parent in parents:
        if tree.get(parent) is None:
            tree[parent] = {}
        tree = tree[parent]
        if not isinstance(tree, dict):
            raise ValueError(f"{option} {override}: {parent!r} is a value and has nothing below it")
    tree[name] = value_of(text)


def check_counts(arguments: argparse.Namespace, *names: str) -> None:
    """Raise a ValueError for the first option that was given and is not at least 1."""
    for name in names:
        if getattr(arguments, name) is not None:
            check_at_least(f"--{name.replace('_', '-')}", getattr(arguments, name), 1)
