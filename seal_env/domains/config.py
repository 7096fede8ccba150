"""What an environment is made of: every keyword of ``gym.make("SEAL-SQuAD-v0", ...)``, checked at the door."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Literal, get_args

from peft import LoraConfig

from seal_env.chat import Template, TemplateChoice
from seal_env.checks import brief, check_choice, check_count, check_names, finite_number
from seal_env.distributed import EXECUTORS, ExecutorName
from seal_env.domains.self_questions import SelfQuestions
from seal_env.edits import FORMATS, EditFormat, EditSettings, ToolEdit, ToolSettings, get_format
from seal_env.evaluation import GridEvaluator
from seal_env.evaluation.graders import GRADERS, Grader, get_grader
from seal_env.models import bundled_folder
from seal_env.presets import (
    NANO_ANSWER_TOKENS,
    NANO_ARC,
    NANO_ARC_EVALUATOR,
    NANO_ARC_LORA,
    NANO_ARC_ORACLE,
    NANO_ARC_SETTINGS,
    NANO_LORA,
    NANO_SETTINGS,
    SEAL_ARC_LORA,
    SEAL_ARC_ORACLE,
)
from seal_env.registry import Registry
from seal_env.rewards import PROXIES, PROXY, REWARDS, Proxy, Reward, get_proxy, get_reward
from seal_env.tasks import DATASETS
from seal_env.tasks.almanac import AlmanacConfig
from seal_env.tasks.arc import ArcPrompts, GridText, MiniArcConfig
from seal_env.tasks.arc.arc_sources import FILTERED, MINI_ARC
from seal_env.update import SEAL_LORA

Mode = Literal["single", "refine", "continual", "corpus"]
Carry = Literal["adapter", "merge"]
AdapterObservation = Literal["auto", "full", "summary", "none"]


@dataclass(frozen=True)
class EnvConfig(ABC):
    """What environments of all domains are made of.

    ``dataset``, ``reward``, ``grader``, ``proxy`` and ``edit_format`` may be objects in place of names; :meth:`to_dict` and
    pickle replace these by the names or import paths that find them in another process.

    Raises:
        ValueError: a value that cannot work; it is named, and what would work.
    """

    domain: str = "knowledge"
    dataset: Any = ""
    dataset_options: Mapping[str, Any] = field(default_factory=dict)
    split: str = "train"
    offset: int = 0
    limit: int | None = None
    shuffle_seed: int | None = None
    model: str = ""
    device: str = "cpu"
    dtype: str = "float32"
    trust_remote_code: bool = False
    lora: Mapping[str, Any] | None = None
    template: TemplateChoice = "auto"
    student_template: TemplateChoice = "auto"
    enable_thinking: bool | None = None
    inner_loop: Mapping[str, Any] = field(default_factory=dict)
    reward: str | Reward | None = None
    evaluations_per_edit: int = 1
    mode: Mode = "single"
    updates_per_episode: int | None = None
    carry: Carry = "adapter"
    retention_weight: float = 0.0
    adapter_observation: AdapterObservation = "auto"
    max_new_tokens: int | None = None
    progress: bool = False
    executor: ExecutorName | None = None
    workers: int | None = None

    registries: ClassVar[Mapping[str, Registry[Any]]] = {"reward": REWARDS}

    def __post_init__(self) -> None:
        if not isinstance(self.dataset_options, Mapping):
            raise ValueError(f"dataset_options must be a dictionary, got {self.dataset_options!r}")
        for name, choices in (
            ("mode", get_args(Mode)),
            ("carry", get_args(Carry)),
            ("adapter_observation", get_args(AdapterObservation)),
            ("template", get_args(TemplateChoice)),
            ("student_template", get_args(TemplateChoice)),
        ):
            check_choice(name, getattr(self, name), choices)
        if not isinstance(self.enable_thinking, bool | None):
            raise ValueError(f"enable_thinking must be True, False or None, got {self.enable_thinking!r}")
        if self.executor is not None:
            check_choice("executor", self.executor, EXECUTORS)
        elif self.workers is not None:
            raise ValueError(f"workers={self.workers!r} needs executor='spawn' or 'ray': this process is one worker")
        for name in ("evaluations_per_edit", "updates_per_episode", "max_new_tokens", "workers"):
            if getattr(self, name) is not None:
                check_count(name, getattr(self, name))
        if self.mode == "single" and self.updates != 1:
            raise ValueError(
                f"mode='single' takes one update an episode, got updates_per_episode={self.updates};"
                " choose mode='refine', 'continual' or 'corpus'"
            )
        if self.mode in ("single", "corpus") and self.carry == "merge":
            raise ValueError("carry='merge' needs an episode of several updates: mode='refine' or mode='continual'")
        finite_number(self.retention_weight, "retention_weight is")
        if not self.approximate:
            self.reward_function()
        self.lora_config()

    def __deepcopy__(self, memo: dict[int, Any]) -> EnvConfig:
        return self  # nothing in it changes, and a dataset or a grader may be large

    def __getstate__(self) -> dict[str, Any]:
        found = {name: getattr(self, name) for name in self.registries if getattr(self, name) is not None}
        paths = {name: self.registries[name].path_of(value) for name, value in found.items()}
        if callable(self.dataset):
            paths["dataset"] = DATASETS.path_of(self.dataset)
        return {**self.__dict__, **paths}

    def to_dict(self) -> dict[str, Any]:
        """The configuration as JSON values.

        Raises:
            ValueError: an object that no import leads to, or a dataset in memory; name it ``package.module:object``.
        """
        values = self.__getstate__()
        if not isinstance(values["dataset"], str):
            raise ValueError(
                f"dataset={brief(self.dataset)} is in memory and cannot be saved with a configuration: write it to a file and"
                " name that, or name a function 'package.module:object' that returns it"
            )
        return {name: dict(value) if isinstance(value, Mapping) else value for name, value in values.items()}

    @property
    def approximate(self) -> bool:
        """Whether the reward comes from a proxy: nothing is learnt and nothing is asked."""
        return self.reward == PROXY

    @property
    def updates(self) -> int:
        """Self-edits an episode."""
        return self.updates_per_episode or {"single": 1, "refine": 4, "continual": 8, "corpus": 8}[self.mode]

    def lora_config(self) -> LoraConfig:
        """The adapter: the model's default, or ``lora``."""
        chosen = self.lora_options()
        _check_options("lora", chosen, [f.name for f in fields(LoraConfig)])
        return LoraConfig(**chosen)

    def lora_options(self) -> Mapping[str, Any]:
        """Options of ``peft.LoraConfig``."""
        return self.lora if self.lora is not None else self.default_lora()

    @abstractmethod
    def default_lora(self) -> Mapping[str, Any]:
        """Options of the adapter where none are given."""

    def reward_function(self) -> Reward:
        """``reward``; by default the score, and in refinement, where rewards add up, the gain."""
        return get_reward(self.reward or ("gain" if self.mode == "refine" else "score"))


@dataclass(frozen=True)
class KnowledgeConfig(EnvConfig):
    """See :class:`~seal_env.envs.env.SealEnv` for what each keyword means."""

    dataset: Any = "almanac"
    model: str = "seal-nano"
    passage_words: int | None = None
    almanac: Mapping[str, Any] = field(default_factory=dict)
    self_questions: Mapping[str, Any] = field(default_factory=dict)
    edit_format: str | EditFormat = "implications"
    proxy: str | Proxy = "coverage"
    proxy_options: Mapping[str, Any] = field(default_factory=dict)
    grader: str | Grader | None = None
    grader_options: Mapping[str, Any] = field(default_factory=dict)

    registries = {"reward": REWARDS, "grader": GRADERS, "proxy": PROXIES, "edit_format": FORMATS}  # noqa: RUF012

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.passage_words is not None:
            check_count("passage_words", self.passage_words)
        get_format(self.edit_format)
        if self.approximate:
            self._check_approximate()
        self.make_proxy()
        self.make_grader()
        self._settings("base")
        self.almanac_config()
        self.self_question_settings()

    def _check_approximate(self) -> None:
        if self.mode != "single":
            raise ValueError(f"reward='proxy' needs mode='single': it updates nothing, got mode={self.mode!r}")
        if self.evaluations_per_edit != 1:
            raise ValueError(
                f"reward='proxy' is the same each time: evaluations_per_edit must be 1, got {self.evaluations_per_edit}"
            )

    def default_lora(self) -> Mapping[str, Any]:
        return NANO_LORA if bundled_folder(self.model) else SEAL_LORA

    def settings(self) -> EditSettings:
        """How an edit is read and learnt: the model's defaults, then ``inner_loop``.

        Raises:
            ValueError: ``template`` is still ``auto``: an environment resolves it when it has loaded the model.
        """
        if self.template == "auto":
            raise ValueError(
                "template='auto' depends on the model: see seal_env.chat.resolve_template, or say base or instruct"
            )
        return self._settings(self.template)

    def _settings(self, template: Template) -> EditSettings:
        base = NANO_SETTINGS if bundled_folder(self.model) else EditSettings()
        _check_options("inner_loop", self.inner_loop, EditSettings.option_names())
        return base.with_options(format=self.edit_format, template=template, **self.inner_loop)

    @property
    def answer_tokens(self) -> int:
        """Most tokens of an answer: ``max_new_tokens``, or the model's default (SEAL's is 64)."""
        return self.max_new_tokens or (NANO_ANSWER_TOKENS if bundled_folder(self.model) else 64)

    def almanac_config(self) -> AlmanacConfig:
        """The Almanac that tasks come from."""
        _check_options("almanac", self.almanac, [f.name for f in fields(AlmanacConfig)])
        return AlmanacConfig(**self.almanac)

    def self_question_settings(self) -> SelfQuestions:
        """How the model writes questions about documents that have none; they are answered as in the exam."""
        names = [f.name for f in fields(SelfQuestions) if f.name not in ("template", "max_new_tokens")]
        _check_options("self_questions", self.self_questions, names)
        return SelfQuestions(template=self.student_template, max_new_tokens=self.answer_tokens, **self.self_questions)

    def make_grader(self) -> Grader:
        """``grader`` with its options; by default exact match for students that answer in a word.

        These are bundled models, and base models on the Almanac. Others answer in sentences, which ``calibrated`` reads as a
        judge does.
        """
        if not isinstance(self.grader_options, Mapping):
            raise ValueError(f"grader_options must be a dictionary, got {self.grader_options!r}")
        exact = bundled_folder(self.model) or (self.dataset == "almanac" and self.student_template != "instruct")
        return get_grader(self.grader or ("exact" if exact else "calibrated"), self.grader_options)

    def make_proxy(self) -> Proxy:
        """``proxy`` with its options; only ``reward="proxy"`` makes use of it."""
        if not isinstance(self.proxy_options, Mapping):
            raise ValueError(f"proxy_options must be a dictionary, got {self.proxy_options!r}")
        return get_proxy(self.proxy, self.proxy_options)


@dataclass(frozen=True)
class ArcConfig(EnvConfig):
    """See :class:`~seal_env.envs.env.SealEnv` and docs/arc.md for what each keyword means."""

    domain: str = "arc"
    dataset: Any = "mini-arc"
    model: str = NANO_ARC
    mini_arc: Mapping[str, Any] = field(default_factory=dict)
    grid_text: GridText | None = None
    views: int | None = None
    orders: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.approximate:
            raise ValueError(
                "reward='proxy' rates texts about a passage, and an ARC task has none: use 'score', 'gain' or 'binary'"
            )
        if self.mode == "corpus":
            raise ValueError(
                "mode='corpus' joins the edits of several passages; ARC has mode='single', 'refine' or 'continual'"
            )
        check_choice("grid_text", self.style, get_args(GridText))
        self.make_evaluator(ArcPrompts(self.style))
        self.settings()
        self.mini_arc_config()

    @property
    def bundled(self) -> bool:
        """Whether the student is the one that was made for mini-arc."""
        return self.model == NANO_ARC

    def default_lora(self) -> Mapping[str, Any]:
        return NANO_ARC_LORA if self.bundled else SEAL_ARC_LORA

    def settings(self) -> ToolSettings:
        """What the edit does not choose: the model's defaults, then ``inner_loop``."""
        _check_options("inner_loop", self.inner_loop, ToolSettings.option_names())
        base = NANO_ARC_SETTINGS if self.bundled else ToolSettings()
        shape = replace(self.mini_arc_config(), seed=0, tests=1)
        if self.dataset not in (MINI_ARC, FILTERED) or shape != MiniArcConfig():
            base = replace(base, max_tokens=ToolSettings.max_tokens)  # the model's limit is for what it was made for
        return base.with_options(**self.inner_loop)

    def mini_arc_config(self) -> MiniArcConfig:
        """The mini-arc that tasks come from."""
        _check_options("mini_arc", self.mini_arc, [f.name for f in fields(MiniArcConfig)])
        return MiniArcConfig(**self.mini_arc)

    def oracle(self) -> ToolEdit:
        """The choice of tools that was made by hand for the model."""
        return NANO_ARC_ORACLE if self.bundled else SEAL_ARC_ORACLE

    @property
    def style(self) -> GridText:
        """How grids are written for the student and the policy: ``grid_text``, or the model's default."""
        return self.grid_text or ("labelled" if self.bundled else "spaced")

    def make_evaluator(self, prompts: ArcPrompts) -> GridEvaluator:
        """How the student is asked: ``views``, ``orders`` and ``max_new_tokens`` of a grid, or the model's defaults."""
        given = {"views": self.views, "orders": self.orders, "max_new_tokens": self.max_new_tokens}
        chosen = {name: value for name, value in given.items() if value is not None}
        return GridEvaluator(prompts, **{**(NANO_ARC_EVALUATOR if self.bundled else {}), **chosen})


DOMAINS: dict[str, type[EnvConfig]] = {"knowledge": KnowledgeConfig, "arc": ArcConfig}


def from_keywords(keywords: Mapping[str, Any]) -> EnvConfig:
    """The configuration of ``gym.make(id, **keywords)``; an unknown keyword names the closest that exists."""
    domain = keywords.get("domain", "knowledge")
    check_choice("domain", domain, tuple(DOMAINS))
    made = DOMAINS[domain]
    _check_options("SEAL environments", keywords, [f.name for f in fields(made)])
    return made(**keywords)


def _check_options(where: str, given: Mapping[str, Any], known: list[str]) -> None:
    if not isinstance(given, Mapping):
        raise ValueError(f"{where} must be a dictionary of {', '.join(known)}, got {given!r}")
    check_names(where, given, known)
