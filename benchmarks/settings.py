"""What a benchmark is: environment, agents, seeds and budget, from YAML and the command line, checked before anything runs."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import yaml
from peft import LoraConfig

from agents import Agent, Policy, get_agent
from agents.baselines import Baseline
from agents.policy import SEAL_SAMPLING
from benchmarks import CONFIGS, DEFAULTS
from benchmarks.environments import env_keywords
from seal_env.checks import check_at_least, check_count, check_names, did_you_mean
from seal_env.domains.config import EnvConfig, from_keywords

SEQUENCE = 8  # passages of a continual sequence, as in the paper
LEARNERS = ("rest_em", "grpo", "ppo")
BASELINES = ("no_update", "passage_only", "untrained", "best_of_k", "oracle")
_POLICY = ("model", "lora", "device", "dtype", "trust_remote_code", "temperature", "top_p", "max_new_tokens", "template")
_POLICY_OPTIONS = (*_POLICY, "enable_thinking", "gradient_checkpointing")


@dataclass(frozen=True)
class AgentSettings:
    """One line of the comparison.

    Attributes:
        agent: a name of :func:`agents.get_agent`.
        config: its hyperparameters; what is left out has the agent's default.
        self_adapting: the student becomes the policy after every round.
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
        return not issubclass(self.type, Baseline)


@dataclass(frozen=True)
class EvaluationSettings:
    """How agents are evaluated.

    Attributes:
        tasks: the first so many of the evaluation's environment.
        every: scored edits between evaluations; the end is always evaluated.
        start: whether learners are evaluated before they learn: where ``untrained`` is compared as well, it says the same.
        sequences: continual episodes at the end of a run, each of :data:`SEQUENCE` passages that are learnt one after the
            other, all earlier ones asked again (paper, figure 6); 0: none.
        env_options: in what its environment differs from the one that is learnt from.
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
    """A benchmark; everything that its results depend on, besides versions and hardware.

    Attributes:
        env: the environment's id.
        agents: by the label that reports show.
        env_options: keywords of the environment.
        policy: what :class:`agents.Policy` is made of: ``model`` (by default the environment's), ``lora`` (options, or
            ``all``), ``temperature``, ``top_p``, ``max_new_tokens``, ...
        seeds: a run for each agent and seed.
        budget: scored self-edits of a run.
        num_envs: edits that are scored together.
        evaluation: see :class:`EvaluationSettings`.

    Raises:
        ValueError: a value that cannot work; it is named, and what would.
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
        learnt_from, evaluated = self.env_config(training=True), self.env_config(training=False)
        if evaluated.approximate:
            raise ValueError(
                "reward='proxy' updates nothing that could be evaluated: set evaluation.env_options.reward=score"
                " (and evaluation.env_options.split=test)"
            )
        for label, agent in self.agents.items():
            if not re.fullmatch(r"[A-Za-z0-9][\w.+-]*", label):
                raise ValueError(f"an agent's label is a folder's name: letters, digits, '_', '-', '.', '+'; got {label!r}")
            check_names(agent.agent, agent.config, [f.name for f in fields(agent.type.Config)])
            try:
                agent.type.Config(**agent.config)
            except (TypeError, ValueError) as error:
                raise ValueError(f"agents.{label}: {error}") from error
            for config in (learnt_from, evaluated) if agent.learns else (evaluated,):
                if misfit := agent.type.misfit(config):
                    raise ValueError(f"agents.{label}: {misfit}")

    def baselines(self) -> list[str]:
        """Names of the agents to compare with, those of them that can do something where agents are evaluated."""
        config = self.env_config(training=False)
        return [name for name in BASELINES if not get_agent(name).misfit(config)]

    def env_config(self, training: bool) -> EnvConfig:
        """The environment that is learnt from, or the one of evaluations."""
        return from_keywords({**env_keywords(self.env), **self.keywords(training)})

    def keywords(self, training: bool) -> dict[str, Any]:
        """Keywords of ``gym.make_vec`` for the environment that is learnt from, or for the one of evaluations."""
        return {**self.env_options, **({} if training else self.evaluation.env_options)}

    def continual_keywords(self) -> dict[str, Any]:
        """Keywords of the environment of continual sequences."""
        return {**self.keywords(training=False), "mode": "continual", "updates_per_episode": SEQUENCE}

    def sequences(self) -> list[list[int]]:
        """The tasks of each continual sequence: the evaluation's, in their order."""
        return [list(range(SEQUENCE * i, SEQUENCE * (i + 1))) for i in range(self.evaluation.sequences)]

    def make_policy(self) -> Policy:
        """A policy as it is before any learning."""
        config, options = self.env_config(True), dict(self.policy)
        name, lora = options.pop("model", config.model), options.pop("lora", None)
        sampling = {key: options.pop(key) for key in ("temperature", "top_p") if key in options}
        if sampling:
            options["sampling"] = replace(SEAL_SAMPLING, **sampling)
        chosen = LoraConfig(**lora) if isinstance(lora, Mapping) else lora
        return Policy.from_pretrained(name, chosen, **{**policy_options(config), **options})

    def to_json(self) -> dict[str, Any]:
        """As :func:`from_mapping` reads it."""
        return json.loads(json.dumps(asdict(self)))


def policy_options(config: EnvConfig) -> dict[str, Any]:
    """What a policy takes over from its environment, as :meth:`agents.Policy.from_pretrained` names it.

    Where the environment leaves ``template`` or ``enable_thinking`` open, the policy has its own: as it was saved, or as its
    model is.
    """
    options = {name: getattr(config, name) for name in ("device", "dtype", "trust_remote_code")}
    if config.template != "auto":
        options["template"] = config.template
    if config.enable_thinking is not None:
        options["enable_thinking"] = config.enable_thinking
    return options


def from_mapping(given: Mapping[str, Any], overrides: Sequence[str] = ()) -> Settings:
    """Settings from what YAML or JSON holds, then from ``key=value`` with dots between levels (``evaluation.tasks=50``).

    ``agents`` is a list of names, or a mapping from labels to ``agent``, ``config``, ``self_adapting`` and ``tuned_on``, all
    optional; ``seeds`` is a list or a number. What is left out of an agent's ``config`` comes from its preset for the policy's
    model (:attr:`agents.Agent.presets`), as it does in Python; ``num_envs`` and ``policy`` come from ``configs/defaults.yaml``
    for this environment.

    Raises:
        ValueError: an unknown key or a value that cannot work.
    """
    tree = _numbers(json.loads(json.dumps(given)))
    if isinstance(agents := tree.get("agents"), list):
        tree["agents"] = {name: {} for name in agents}
    for override in overrides:
        apply_override(tree, override)
    check_names("benchmark", tree, [f.name for f in fields(Settings)])
    if "env" not in tree:
        raise ValueError("a benchmark needs env: the id of an environment")
    default = _read_defaults().get(str(tree["env"]).rpartition(":")[2], {})
    tree["policy"] = {**default.get("policy", {}), **_mapping("policy", tree.get("policy"))}
    tree["env_options"] = _mapping("env_options", tree.get("env_options"))
    if "num_envs" in default:
        tree.setdefault("num_envs", default["num_envs"])
    evaluation = _mapping("evaluation", tree.get("evaluation"))
    check_names("evaluation", evaluation, [f.name for f in fields(EvaluationSettings)])
    tree["evaluation"] = EvaluationSettings(**evaluation)
    if type(tree.get("seeds")) is int:
        tree["seeds"] = range(tree["seeds"])
    elif "seeds" in tree and not isinstance(tree["seeds"], list):
        raise ValueError(f"seeds must be a number of seeds or a list, got {tree['seeds']!r}")
    if "seeds" in tree:
        tree["seeds"] = tuple(tree["seeds"])
    environment = from_keywords({**env_keywords(tree["env"]), **tree["env_options"]})
    model = tree["policy"].get("model", environment.model)
    agents = _mapping("agents", tree.get("agents"))
    tree["agents"] = {label: _agent(label, value, model, environment.domain) for label, value in agents.items()}
    return Settings(**tree)


def read_config(name: str) -> dict[str, Any]:
    """A benchmark's YAML: a path, or the name of one that comes with the package.

    Raises:
        ValueError: there is none, or it is no mapping.
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
    """A YAML value; ``3e-4`` is a number here, which YAML 1.1 takes for text.

    Raises:
        ValueError: it is not YAML.
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
    """A tree from ``key=value``, as YAML, with dots between levels (``inner_loop.epochs=3``)."""
    tree: dict[str, Any] = {}
    for pair in pairs:
        apply_override(tree, pair, option, form)
    return tree


def apply_override(tree: dict[str, Any], override: str, option: str = "-P", form: str = "key=value") -> None:
    path, equals, text = override.partition("=")
    if not equals or not path:
        raise ValueError(f"{option} takes {form}, got {override!r}")
    *above, last = path.split(".")
    for name in above:
        if tree.get(name) is None:
            tree[name] = {}
        tree = tree[name]
        if not isinstance(tree, dict):
            raise ValueError(f"{option} {override}: {name!r} is a value and has nothing below it")
    tree[last] = value_of(text)


def check_counts(arguments: argparse.Namespace, *names: str) -> None:
    """Raise a ValueError for the first option that was given and is not at least 1."""
    for name in names:
        if getattr(arguments, name) is not None:
            check_at_least(f"--{name.replace('_', '-')}", getattr(arguments, name), 1)


def _mapping(name: str, given: Any) -> dict[str, Any]:
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise ValueError(f"{name} must be a mapping, got {given!r}")
    return given


def _agent(label: str, given: Any, model: str, domain: str) -> AgentSettings:
    tree = _mapping(f"agents.{label}", given)
    check_names(f"agents.{label}", tree, [f.name for f in fields(AgentSettings)])
    name, changed = tree.get("agent", label), _mapping(f"agents.{label}.config", tree.get("config"))
    settings = AgentSettings(name, changed, bool(tree.get("self_adapting", False)), tree.get("tuned_on"))
    preset = settings.type.preset(model, domain)
    config, tuned_on = {**preset.values, **changed}, settings.tuned_on
    if tuned_on is None:
        # What is known of the preset says nothing about other values.
        tuned_on = (preset.tuned_on if config == preset.values else None) if settings.learns else 0
    return replace(settings, config=config, tuned_on=tuned_on)


def _read_defaults() -> dict[str, Any]:
    tree = yaml.safe_load((CONFIGS / f"{DEFAULTS}.yaml").read_text(encoding="utf-8"))
    return _numbers(tree)
