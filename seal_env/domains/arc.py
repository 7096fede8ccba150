"""Few-shot tasks on grids: an edit is a choice of tools, and the student predicts grids (paper, section 4.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast, get_args

import numpy as np
from numpy.typing import NDArray

from seal_env.chat import Chat
from seal_env.checks import check_choice
from seal_env.domains.config import EnvConfig, check_options, keyword
from seal_env.domains.domain import Domain
from seal_env.domains.render import step_lines
from seal_env.domains.render_arc import render_arc
from seal_env.edits import ParsedEdit, ToolEdit, ToolSettings, parse_tools, tool_prompt
from seal_env.evaluation import GridEvaluator
from seal_env.evaluation.grid_evaluator import attempts
from seal_env.plots import arc_image
from seal_env.presets import (
    NANO_ARC,
    NANO_ARC_EVALUATOR,
    NANO_ARC_LORA,
    NANO_ARC_ORACLE,
    NANO_ARC_SETTINGS,
    SEAL_ARC_LORA,
    SEAL_ARC_ORACLE,
)
from seal_env.tasks import Task
from seal_env.tasks.arc import ArcPrompts, ArcTask, Grid, GridText, MiniArcConfig, Pair
from seal_env.tasks.arc.arc_sources import FILTERED, MINI_ARC, load_arc
from seal_env.tasks.arc.grids import LARGEST

if TYPE_CHECKING:
    from seal_env.student import Student

_DEMONSTRATIONS = 10  # that an array shows, where the dataset does not say how many there are


@dataclass(frozen=True)
class ArcConfig(EnvConfig):
    """Keywords of environments on few-shot tasks."""

    domain: str = "arc"
    dataset: Any = keyword("mini-arc", "`mini-arc`, `mini-arc-filtered`, `arc-agi-1`, `arc-agi-2`, a file or a folder.")
    model: str = NANO_ARC
    inner_loop: Mapping[str, Any] = keyword(
        {}, "Options of `seal_env.edits.ToolSettings`; those left out are the defaults of `model`."
    )
    mini_arc: Mapping[str, Any] = keyword({}, "Options of `seal_env.tasks.arc.MiniArcConfig`.")
    grid_text: GridText | None = keyword(
        None, "How grids are written; None: `labelled` for the bundled student, else `spaced`."
    )
    views: int | None = keyword(None, "Views of each test, such as rotations, that the student predicts; None: 7.")
    orders: int | None = keyword(None, "Orders of the demonstrations in each view; None: 1 for the bundled student, else 2.")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("grid_text", self.style, get_args(GridText))
        self.make_evaluator(ArcPrompts(self.style))
        self.settings()
        self.mini_arc_config()

    @property
    def bundled(self) -> bool:
        """Whether the student is the bundled one, which was trained for mini-arc."""
        return self.model == NANO_ARC

    def default_lora(self) -> Mapping[str, Any]:
        return NANO_ARC_LORA if self.bundled else SEAL_ARC_LORA

    def settings(self) -> ToolSettings:
        """The settings of the inner loop that an edit does not choose: the defaults of ``model``, then ``inner_loop``."""
        check_options("inner_loop", self.inner_loop, ToolSettings.option_names())
        base = NANO_ARC_SETTINGS if self.bundled else ToolSettings()
        shape = replace(self.mini_arc_config(), seed=0, tests=1)
        if self.dataset not in (MINI_ARC, FILTERED) or shape != MiniArcConfig():
            base = replace(base, max_tokens=ToolSettings.max_tokens)  # the bundled limit is for mini-arc's default grids
        return base.with_options(**self.inner_loop)

    def mini_arc_config(self) -> MiniArcConfig:
        """The configuration of mini-arc."""
        check_options("mini_arc", self.mini_arc, MiniArcConfig)
        return MiniArcConfig(**self.mini_arc)

    def oracle(self) -> ToolEdit:
        """The choice of tools that was tuned by hand for ``model``."""
        return NANO_ARC_ORACLE if self.bundled else SEAL_ARC_ORACLE

    @property
    def style(self) -> GridText:
        """How grids are written for the student and the policy: ``grid_text``, or the default of ``model``."""
        return self.grid_text or ("labelled" if self.bundled else "spaced")

    def make_evaluator(self, prompts: ArcPrompts) -> GridEvaluator:
        """The evaluator with ``views``, ``orders`` and ``max_new_tokens``, or the defaults of ``model``."""
        options = {"views": self.views, "orders": self.orders, "max_new_tokens": self.max_new_tokens}
        given = {name: value for name, value in options.items() if value is not None}
        return GridEvaluator(prompts, **{**(NANO_ARC_EVALUATOR if self.bundled else {}), **given})


class ArcDomain(Domain):
    """ARC's tasks. An edit chooses augmentations and the settings of the inner loop, as JSON or as numbers."""

    Config = ArcConfig
    render_modes = ("ansi", "human", "rgb_array")
    context_is_edit = False

    def __init__(self, config: ArcConfig, student: Student) -> None:
        options = {**config.dataset_options, **({"mini_arc": config.mini_arc_config()} if config.mini_arc else {})}
        part: dict[str, Any] = {"seed": config.shuffle_seed, "offset": config.offset, "limit": config.limit}
        self.source = load_arc(config.dataset, config.split, **part, **options)
        chat = Chat(student.tokenizer) if config.student_template == "instruct" else None
        self._prompts = ArcPrompts(config.style, chat)
        self.evaluator = config.make_evaluator(self._prompts)
        self._settings, self._oracle = config.settings(), config.oracle()
        self._tokens = lambda text: len(student.tokenizer(text, verbose=False)["input_ids"])

    def instruction(self, task: Task) -> str:
        return tool_prompt(self.demonstrations(task), self._prompts.style)

    def parse(self, action: object, task: Task, seed: int) -> ParsedEdit:
        demonstrations = self.demonstrations(task)
        return parse_tools(action, demonstrations, self._settings, seed, prompts=self._prompts, tokens=self._tokens)

    def render(self, task: Task, info: Mapping[str, Any] | None, edit: object, brief: bool = False) -> str:
        grids = render_arc(cast(ArcTask, task), _attempts(info))
        return grids if info is None else "\n".join([grids, "", *step_lines(info, edit, brief)])

    def image(self, task: Task, info: Mapping[str, Any] | None) -> NDArray[np.uint8]:
        return arc_image(cast(ArcTask, task), _attempts(info))

    @classmethod
    def oracle_problem(cls, config: ArcConfig) -> str:
        return ""

    def oracle_edit(self, context: str, task_id: str, kind: str) -> str:
        return self._oracle.text()

    @classmethod
    def tool_shape(cls, config: ArcConfig) -> tuple[int, int]:
        if config.dataset not in (MINI_ARC, FILTERED):
            return _DEMONSTRATIONS, LARGEST
        mini = config.mini_arc_config()
        return mini.demonstrations, max(mini.height, mini.width)

    def demonstrations(self, task: Task) -> Sequence[Pair]:
        return cast(ArcTask, task).demonstrations


def _attempts(info: Mapping[str, Any] | None) -> list[list[Grid]] | None:
    """The grids predicted for each test after the update; None before the first step."""
    return [attempts(row["answer"]) for row in info["questions"]] if info else None
