"""The keywords that environments of all domains share, and the reference that is generated from them.

A keyword is a dataclass field that carries its default, its sentence and its unit (:func:`keyword`). ``help(SealEnv)``,
``docs/reference.md`` and ``seal-bench list --env ID`` are all made from :func:`keyword_reference`.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from seal_env.chat import TemplateChoice
from seal_env.checks import brief, check_choice, check_count, check_names, finite_number
from seal_env.optimizers import OPTIMIZERS
from seal_env.presets import default_dtype
from seal_env.registry import Registry
from seal_env.rewards import PROXY, REWARDS, Reward, get_reward
from seal_env.tasks import DATASETS
from seal_env.update import SEAL_LORA

if TYPE_CHECKING:
    from peft import LoraConfig

    from seal_env.rewards import Proxy

Mode = Literal["single", "refine", "continual", "corpus"]
Carry = Literal["adapter", "merge"]
AdapterObservation = Literal["auto", "full", "summary", "none"]
Executor = Literal["spawn", "ray"]
UPDATES: dict[str, int] = {"single": 1, "refine": 4, "continual": 8, "corpus": 8}  # self-edits an episode, by mode


class Keyword(NamedTuple):
    """One keyword of an environment, as text.

    Attributes:
        name: as it is passed to ``gym.make``.
        type: of its value.
        default: its representation.
        unit: of a number; empty where there is none.
        help: a sentence on what it does.
    """

    name: str
    type: str
    default: str
    unit: str
    help: str


def keyword(default: Any, help: str, unit: str = "") -> Any:
    """A dataclass field with its documentation; an empty dictionary as default is a new one for each config."""
    metadata = {"help": help, "unit": unit}
    return field(default_factory=dict, metadata=metadata) if default == {} else field(default=default, metadata=metadata)


def keyword_reference(config_class: type[EnvConfig], values: Mapping[str, Any] | None = None) -> list[Keyword]:
    """The keywords of a config class in the order of its fields.

    Args:
        config_class: the ``Config`` of a domain.
        values: defaults that replace those of the class, such as the keywords that an id is registered with.
    """
    hints = get_type_hints(config_class)
    defaults = {f.name: {} if f.default is MISSING else f.default for f in fields(config_class)} | dict(values or {})
    return [
        Keyword(f.name, _type_text(hints[f.name]), repr(defaults[f.name]), metadata.get("unit", ""), metadata.get("help", ""))
        for f in fields(config_class)
        for metadata in [_metadata(config_class, f.name)]
    ]


def _metadata(config_class: type[EnvConfig], name: str) -> Mapping[str, Any]:
    """Documentation of a field; a subclass that only changes the default inherits it."""
    own = (vars(base).get("__dataclass_fields__", {}).get(name) for base in config_class.__mro__)
    return next((f.metadata for f in own if f is not None and f.metadata), {})


def _type_text(hint: Any) -> str:
    if get_origin(hint) in (Union, types.UnionType):
        return " | ".join(map(_type_text, get_args(hint)))
    if get_origin(hint) is Literal:
        return " | ".join(map(repr, get_args(hint)))
    if get_origin(hint) is not None:
        return "dict" if get_origin(hint) is Mapping else "function"
    return "None" if hint is type(None) else hint.__name__


@dataclass(frozen=True)
class EnvConfig:
    """Keywords of environments of all domains.

    ``dataset``, ``reward``, ``grader``, ``proxy``, ``edit_format`` and the optimizer of ``inner_loop`` may be objects instead
    of names. :meth:`to_dict` and pickle replace an object by the name or import path that finds it in another process.

    Attributes:
        modes: values of ``mode`` that the domain supports.
        registries: where keywords that may be names are found.

    Raises:
        ValueError: a value is invalid; the message names it and what is valid.
    """

    modes: ClassVar[tuple[Mode, ...]] = ("single", "refine", "continual")
    registries: ClassVar[Mapping[str, Registry[Any]]] = {"reward": REWARDS}

    domain: str = keyword(
        "", "Kind of task: a name of `seal_env.domains.DOMAINS` or `package.module:Class`; the default depends on the id."
    )
    dataset: Any = keyword("", "Where tasks come from: a name, a path, a hub id, a `datasets.Dataset` or a list of tasks.")
    dataset_options: Mapping[str, Any] = keyword({}, "Options of the dataset, such as `columns` of a table.")
    split: str = keyword("train", "Split of the dataset: `train`, `validation` or `test`.")
    offset: int = keyword(0, "Leave out this many tasks, after shuffling.", "tasks")
    limit: int | None = keyword(None, "Use at most this many tasks, after shuffling and `offset`; None: all.", "tasks")
    shuffle_seed: int | None = keyword(None, "Seed that shuffles the tasks; None: the order of the dataset.")
    model: str = keyword(
        "seal-nano", "The student: `seal-nano`, `smollm2-135m`, a folder (a PEFT adapter's, too), a GGUF file or a hub id."
    )
    device: str = keyword("cpu", "PyTorch device of the student.")
    dtype: str = keyword(
        "auto",
        "Data type of the student's base weights, `float32` or `bfloat16`; `auto`: `float32`, but `bfloat16` for `smollm2-135m`"
        " on a CPU with bfloat16 units.",
    )
    trust_remote_code: bool = keyword(False, "Whether a model of the hub may run code of its repository.")
    lora: Mapping[str, Any] | None = keyword(None, "Options of `peft.LoraConfig`; None: the default of `model`.")
    template: TemplateChoice = keyword("auto", "How the policy is prompted, and how its edits are read; `auto`: as `model` is.")
    student_template: TemplateChoice = keyword("auto", "How the student is prompted; `auto`: as `model` is.")
    enable_thinking: bool | None = keyword(
        None, "Whether the chat template invites the policy to think; None: the policy decides, by default it does not."
    )
    inner_loop: Mapping[str, Any] = keyword({}, "Options of the inner loop; those left out are the defaults of `model`.")
    reward: str | Reward | None = keyword(
        None,
        "`score`, `gain`, `binary`, `proxy`, a function of an outcome or its path `package.module:function`; None: `gain` with"
        " `mode='refine'`, else `score`.",
    )
    evaluations_per_edit: int = keyword(1, "Repeat the update with this many seeds and average the rewards.", "updates")
    mode: Mode = keyword("single", "What an episode is.")
    updates_per_episode: int | None = keyword(
        None, "Self-edits an episode; None: 1 with `single`, 4 with `refine`, 8 with `continual` and `corpus`.", "edits"
    )
    carry: Carry = keyword("adapter", "What the next update starts from: the last adapter, or the base it was merged into.")
    retention_weight: float = keyword(
        0.0, "With `mode='continual'`, weight of the mean change of the score on earlier tasks in the reward."
    )
    adapter_observation: AdapterObservation = keyword(
        "auto", "The adapter in the observation: in full, as norms, or left out; `auto`: `full` up to a million parameters."
    )
    max_new_tokens: int | None = keyword(None, "Most tokens of an answer; None: the default of `model`.", "tokens")
    progress: bool = keyword(False, "Whether to show a progress bar while adapters are trained.")
    executor: Executor | None = keyword(None, "Run updates on worker processes or on Ray; None: in this process.")
    workers: int | None = keyword(None, "Number of workers of `executor`; None: one for each GPU or CPU core.")

    def __post_init__(self) -> None:
        if self.dtype == "auto":
            object.__setattr__(self, "dtype", default_dtype(self.model, self.device))
        if not isinstance(self.dataset_options, Mapping):
            raise ValueError(f"dataset_options must be a dictionary, got {self.dataset_options!r}")
        for name, choices in (
            ("mode", self.modes),
            ("carry", get_args(Carry)),
            ("adapter_observation", get_args(AdapterObservation)),
            ("template", get_args(TemplateChoice)),
            ("student_template", get_args(TemplateChoice)),
        ):
            check_choice(name, getattr(self, name), choices)
        if not isinstance(self.enable_thinking, bool | None):
            raise ValueError(f"enable_thinking must be True, False or None, got {self.enable_thinking!r}")
        if self.executor is not None:
            check_choice("executor", self.executor, get_args(Executor))
        elif self.workers is not None:
            raise ValueError(f"workers={self.workers!r} needs executor='spawn' or 'ray': this process is one worker")
        for name in ("evaluations_per_edit", "updates_per_episode", "max_new_tokens", "workers"):
            if getattr(self, name) is not None:
                check_count(name, getattr(self, name))
        if self.mode == "single" and self.updates != 1:
            raise ValueError(
                f"mode='single' takes one update an episode, got updates_per_episode={self.updates};"
                f" choose mode={' or '.join(map(repr, self.modes[1:]))}"
            )
        if self.mode in ("single", "corpus") and self.carry == "merge":
            raise ValueError("carry='merge' needs an episode of several updates: mode='refine' or mode='continual'")
        finite_number(self.retention_weight, "retention_weight is")
        if self.approximate:
            self._check_approximate()
        else:
            self.reward_function()
        self.lora_config()

    def __deepcopy__(self, memo: dict[int, Any]) -> EnvConfig:
        return self  # immutable, and a dataset or a grader may be large

    def __getstate__(self) -> dict[str, Any]:
        values = {name: getattr(self, name) for name in self.registries if getattr(self, name) is not None}
        paths: dict[str, Any] = {name: self.registries[name].path_of(value) for name, value in values.items()}
        if callable(self.dataset):
            paths["dataset"] = DATASETS.path_of(self.dataset)
        if "optimizer" in self.inner_loop:
            paths["inner_loop"] = {**self.inner_loop, "optimizer": OPTIMIZERS.path_of(self.inner_loop["optimizer"])}
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

    def _check_approximate(self) -> None:
        self.make_proxy()
        if self.mode != "single":
            raise ValueError(f"reward='proxy' needs mode='single': it updates nothing, got mode={self.mode!r}")
        if self.evaluations_per_edit != 1:
            raise ValueError(
                f"reward='proxy' is the same each time: evaluations_per_edit must be 1, got {self.evaluations_per_edit}"
            )

    @property
    def approximate(self) -> bool:
        """Whether the reward comes from a proxy: no student is updated or evaluated."""
        return self.reward == PROXY

    @property
    def updates(self) -> int:
        """Self-edits an episode."""
        return self.updates_per_episode or UPDATES[self.mode]

    def lora_config(self) -> LoraConfig:
        """The adapter's configuration, from :meth:`lora_options`."""
        from peft import LoraConfig  # imports torch

        options = self.lora_options()
        check_options("lora", options, LoraConfig)
        return LoraConfig(**options)

    def lora_options(self) -> Mapping[str, Any]:
        """``lora``, or the default of the model."""
        return self.lora if self.lora is not None else self.default_lora()

    def default_lora(self) -> Mapping[str, Any]:
        """Options of ``peft.LoraConfig`` where ``lora`` is None."""
        return SEAL_LORA

    def make_proxy(self) -> Proxy:
        """The proxy that rates edits with ``reward="proxy"``.

        Raises:
            ValueError: the domain has no proxy.
        """
        raise ValueError(f"reward='proxy': domain {self.domain!r} has no proxy; use 'score', 'gain' or 'binary'")

    def reward_function(self) -> Reward:
        """``reward``; by default the score, and in refinement, where rewards add up, the gain."""
        return get_reward(self.reward or ("gain" if self.mode == "refine" else "score"))


def check_options(name: str, options: Mapping[str, Any], config: type | list[str], *excluded: str) -> None:
    """Raise a ValueError unless ``options`` is a dictionary of fields of ``config``, or of the names that it lists.

    Args:
        name: what errors call the options.
        options: what was passed.
        config: a dataclass, or the names themselves.
        excluded: fields that are not options.
    """
    known = config if isinstance(config, list) else [f.name for f in fields(config) if f.name not in excluded]
    if not isinstance(options, Mapping):
        raise ValueError(f"{name} must be a dictionary of {', '.join(known)}, got {options!r}")
    check_names(name, options, known)
