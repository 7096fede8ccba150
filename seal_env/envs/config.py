"""What an environment is made of: every keyword of ``gym.make("SEAL-SQuAD-v0", ...)``, checked at the door."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, get_args

from peft import LoraConfig

from seal_env.checks import check_choice, check_count, check_names, imported
from seal_env.edits import EditSettings, get_format
from seal_env.edits.formats import Template
from seal_env.grading import Grader, get_grader
from seal_env.models import NANO_ANSWER_TOKENS, NANO_LORA, NANO_SETTINGS, SEAL_LORA, bundled_folder
from seal_env.proxy import Proxy, get_proxy
from seal_env.scoring import Outcome
from seal_env.self_questions import SelfQuestions
from seal_env.tasks.almanac import AlmanacConfig

Mode = Literal["single", "refine", "continual", "corpus"]
Carry = Literal["adapter", "merge"]
AdapterObservation = Literal["auto", "full", "summary", "none"]
Reward = Callable[[Outcome], float]

REWARDS: dict[str, Reward] = {
    "score": lambda outcome: outcome.score,
    "gain": lambda outcome: outcome.gain,
    "binary": lambda outcome: float(outcome.gain > 0),
}
PROXY = "proxy"  # the reward that is no function of an outcome, for there is none


@dataclass(frozen=True)
class EnvConfig:
    """See :class:`~seal_env.envs.env.SealEnv` for what each keyword means. All values can be written as JSON.

    Raises:
        ValueError: a value that cannot work; it is named, and what would work.
    """

    dataset: str = "almanac"
    split: str = "train"
    offset: int = 0
    limit: int | None = None
    shuffle_seed: int | None = None
    almanac: Mapping[str, Any] = field(default_factory=dict)
    self_questions: Mapping[str, Any] = field(default_factory=dict)
    model: str = "seal-nano"
    device: str = "cpu"
    dtype: str = "float32"
    trust_remote_code: bool = False
    lora: Mapping[str, Any] | None = None
    edit_format: str = "implications"
    template: Template = "base"
    inner_loop: Mapping[str, Any] = field(default_factory=dict)
    reward: str | None = None
    proxy: str = "coverage"
    proxy_options: Mapping[str, Any] = field(default_factory=dict)
    evaluations_per_edit: int = 1
    mode: Mode = "single"
    updates_per_episode: int | None = None
    carry: Carry = "adapter"
    retention_weight: float = 0.0
    adapter_observation: AdapterObservation = "auto"
    max_new_tokens: int | None = None
    grader: str | None = None
    grader_options: Mapping[str, Any] = field(default_factory=dict)
    progress: bool = False

    def __post_init__(self) -> None:
        for name, choices in (
            ("mode", get_args(Mode)),
            ("carry", get_args(Carry)),
            ("adapter_observation", get_args(AdapterObservation)),
        ):
            check_choice(name, getattr(self, name), choices)
        for name in ("evaluations_per_edit", "updates_per_episode", "max_new_tokens"):
            if getattr(self, name) is not None:
                check_count(name, getattr(self, name))
        if self.mode == "single" and self.updates != 1:
            raise ValueError(
                f"mode='single' takes one update an episode, got updates_per_episode={self.updates};"
                " choose mode='refine', 'continual' or 'corpus'"
            )
        if self.mode in ("single", "corpus") and self.carry == "merge":
            raise ValueError("carry='merge' needs an episode of several updates: mode='refine' or mode='continual'")
        get_format(self.edit_format)
        if self.approximate:
            self._check_approximate()
        else:
            self.reward_function()
        self.make_proxy()
        self.make_grader()
        self.settings()
        self.almanac_config()
        self.self_question_settings()
        self.lora_config()

    def _check_approximate(self) -> None:
        if self.mode != "single":
            raise ValueError(f"reward='proxy' needs mode='single': it updates nothing, got mode={self.mode!r}")
        if self.evaluations_per_edit != 1:
            raise ValueError(
                f"reward='proxy' is the same each time: evaluations_per_edit must be 1, got {self.evaluations_per_edit}"
            )

    @property
    def approximate(self) -> bool:
        """Whether the reward comes from a proxy: nothing is learnt and nothing is asked."""
        return self.reward == PROXY

    @property
    def updates(self) -> int:
        """Self-edits an episode."""
        return self.updates_per_episode or {"single": 1, "refine": 4, "continual": 8, "corpus": 8}[self.mode]

    def settings(self) -> EditSettings:
        """How an edit is read and learnt: the model's defaults, then ``inner_loop``."""
        base = NANO_SETTINGS if bundled_folder(self.model) else EditSettings()
        _check_options(
            "inner_loop", self.inner_loop, [f.name for f in fields(EditSettings) if f.name not in ("format", "template")]
        )
        return replace(base, format=self.edit_format, template=self.template, **self.inner_loop)

    def lora_config(self) -> LoraConfig:
        """The adapter: the model's default, or ``lora``."""
        chosen = self.lora if self.lora is not None else NANO_LORA if bundled_folder(self.model) else SEAL_LORA
        _check_options("lora", chosen, [f.name for f in fields(LoraConfig)])
        return LoraConfig(**chosen)

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
        return SelfQuestions(template=self.template, max_new_tokens=self.answer_tokens, **self.self_questions)

    def make_grader(self) -> Grader:
        """``grader`` by name or import path, with its options; by default exact match on the Almanac and of bundled models.

        Larger models answer in sentences, which ``calibrated`` reads as a judge does.
        """
        if not isinstance(self.grader_options, Mapping):
            raise ValueError(f"grader_options must be a dictionary, got {self.grader_options!r}")
        exact = self.dataset == "almanac" or bundled_folder(self.model)
        return get_grader(self.grader or ("exact" if exact else "calibrated"), self.grader_options)

    def make_proxy(self) -> Proxy:
        """``proxy`` by name or import path, with its options; only ``reward="proxy"`` makes use of it."""
        if not isinstance(self.proxy_options, Mapping):
            raise ValueError(f"proxy_options must be a dictionary, got {self.proxy_options!r}")
        return get_proxy(self.proxy, self.proxy_options)

    def reward_function(self) -> Reward:
        """``reward`` by name or import path; by default the score, and in refinement, where rewards add up, the gain."""
        name = self.reward or ("gain" if self.mode == "refine" else "score")
        if name in REWARDS:
            return REWARDS[name]
        return imported("reward", name, [*REWARDS, PROXY])


def from_keywords(keywords: Mapping[str, Any]) -> EnvConfig:
    """The configuration of ``gym.make(id, **keywords)``; an unknown keyword names the closest that exists."""
    _check_options("SEAL environments", keywords, [f.name for f in fields(EnvConfig)])
    return EnvConfig(**keywords)


def _check_options(where: str, given: Mapping[str, Any], known: list[str]) -> None:
    if not isinstance(given, Mapping):
        raise ValueError(f"{where} must be a dictionary of {', '.join(known)}, got {given!r}")
    check_names(where, given, known)
