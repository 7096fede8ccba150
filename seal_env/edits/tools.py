"""The self-edit of few-shot tasks: a choice of tools and settings, written as JSON (paper, section 4.2)::

    {"data_generation": {"use_basic_augmentations": true, "use_size_augmentations": false,
                         "use_chain_augmentations": false, "use_repeat_augmentations": false},
     "training": {"strategy": "train_using_output_tokens", "learning_rate": 0.0001, "num_train_epochs": 2}}

The training set is made of the demonstrations as in SEAL's published code (after Akyürek et al., arXiv 2411.07279): each one in
turn is to be predicted from all others (leave one out) and from all others but one (leave two out); these small tasks are
augmented; of everything there is one more copy in which demonstrations change places and, if there are augmentations, colours.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from itertools import combinations
from typing import Any

from seal_env.chat import without_thoughts
from seal_env.checks import check_count
from seal_env.edits.parse import EditStatus, ParsedEdit
from seal_env.tasks.arc.augment import GROUPS, Pair, augmentations, random_colours
from seal_env.tasks.arc.grid_prompts import ArcPrompts, pairs_text
from seal_env.tasks.arc.grids import GridText, fits
from seal_env.update import Example, Schedule, TokenExample, UpdatePlan

SWITCHES = tuple(f"use_{group}_augmentations" for group in GROUPS)
STRATEGIES = ("train_using_all_tokens", "train_using_output_tokens")
INSTRUCTION = """\
A model is about to be fine-tuned on these demonstrations. Decide how, and answer with one JSON object and nothing else.

"data_generation" says, with true or false, which augmented copies of the demonstrations it also learns:
- "use_basic_augmentations": turned, flipped, mirrored, moved
- "use_size_augmentations": enlarged
- "use_chain_augmentations": turned or flipped, then enlarged
- "use_repeat_augmentations": repeated side by side

"training" says how it learns:
- "strategy": "train_using_all_tokens" or "train_using_output_tokens"
- "learning_rate": a number
- "num_train_epochs": a whole number

JSON:
"""

SmallTask = tuple[Pair, ...]  # demonstrations, and last the pair that is to be predicted from them


def tool_prompt(demonstrations: Sequence[Pair], style: GridText = "spaced") -> str:
    """What the policy reads: the demonstrations, and :data:`INSTRUCTION`."""
    return pairs_text(demonstrations, style) + INSTRUCTION


class ToolEditError(ValueError):
    """Text that is no choice of tools.

    Attributes:
        status: what is wrong with it.
    """

    def __init__(self, status: EditStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class ToolEdit:
    """A choice of tools and settings.

    Attributes:
        basic: whether to learn turned, flipped, mirrored and moved copies.
        size: whether to learn enlarged ones.
        chain: whether to learn ones that are turned or flipped, then enlarged.
        repeat: whether to learn ones that are repeated side by side.
        strategy: one of :data:`STRATEGIES`: what the loss is taken on, all tokens or those of the output to be predicted.
        learning_rate: peak, at least 0.
        num_train_epochs: passes over the training set, at least 1.

    Raises:
        ToolEditError: a value of a wrong type or out of range.
    """

    basic: bool
    size: bool
    chain: bool
    repeat: bool
    strategy: str
    learning_rate: float
    num_train_epochs: int

    def __post_init__(self) -> None:
        for switch, value in zip(SWITCHES, self.switches):
            if not isinstance(value, bool):
                raise _wrong(switch, "true or false", value)
        if self.strategy not in STRATEGIES:
            raise _wrong("strategy", " or ".join(STRATEGIES), self.strategy)
        rate, epochs = self.learning_rate, self.num_train_epochs
        if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0 <= rate <= sys.float_info.max:
            raise _wrong("learning_rate", "a finite number of at least 0", rate)
        if isinstance(epochs, bool) or not isinstance(epochs, int) or epochs < 1:
            raise _wrong("num_train_epochs", "an integer of at least 1", epochs)

    @property
    def switches(self) -> tuple[bool, ...]:
        """The four switches, in the order of :data:`SWITCHES`."""
        return (self.basic, self.size, self.chain, self.repeat)

    def text(self) -> str:
        """As JSON, on one line."""
        training = {name: getattr(self, name) for name in _TRAINING}
        return json.dumps({"data_generation": dict(zip(SWITCHES, self.switches)), "training": training})

    @classmethod
    def read(cls, text: str) -> ToolEdit:
        """The choice that ``text`` holds: the JSON object and nothing else, but blanks around it.

        Raises:
            ToolEditError: it holds none.
        """
        try:
            tree = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ToolEditError(EditStatus.NOT_JSON, f"no JSON ({type(error).__name__})") from error
        _check_keys("the edit", tree, ("data_generation", "training"))
        _check_keys("data_generation", tree["data_generation"], SWITCHES)
        _check_keys("training", tree["training"], _TRAINING)
        return cls(*(tree["data_generation"][name] for name in SWITCHES), **tree["training"])


_TRAINING = tuple(f.name for f in fields(ToolEdit))[4:]


@dataclass(frozen=True)
class ToolSettings:
    """What of an inner loop the edit does not choose. The defaults are SEAL's.

    Attributes:
        max_examples: a larger training set is thinned out at random.
        max_steps: an edit that takes more optimizer steps is not carried out.
        max_tokens: longer examples are left out.
        batch_size: examples an optimizer step.
        schedule: of the learning rate, after the warm-up.
        warmup_steps: in which the learning rate climbs.
        max_grad_norm: of the gradient.
        weight_decay: decoupled.
    """

    max_examples: int = 250
    max_steps: int = 375
    max_tokens: int = 8191
    batch_size: int = 2
    schedule: Schedule = "cosine"
    warmup_steps: int = 11
    max_grad_norm: float = 1.0
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        for name in ("max_examples", "max_steps"):
            check_count(name, getattr(self, name))
        self.plan((), 0.0, 1, 0)  # UpdatePlan checks what it takes

    def plan(self, examples: tuple[Example | TokenExample, ...], learning_rate: float, epochs: int, seed: int) -> UpdatePlan:
        """The plan that learns ``examples`` with these settings."""
        return UpdatePlan(
            examples,
            learning_rate=learning_rate,
            epochs=epochs,
            batch_size=self.batch_size,
            schedule=self.schedule,
            warmup_steps=self.warmup_steps,
            max_grad_norm=self.max_grad_norm,
            weight_decay=self.weight_decay,
            max_length=self.max_tokens,
            seed=seed,
        )


def parse_tools(
    action: object,
    demonstrations: Sequence[Pair],
    settings: ToolSettings,
    seed: int,
    *,
    prompts: ArcPrompts,
    tokens: Callable[[str], int],
) -> ParsedEdit:
    """Read ``action`` as a choice of tools for a task with these demonstrations; no action raises.

    What is no such choice, or takes too many steps, trains on nothing: the reward is then that of the un-updated model.
    Thoughts before the JSON, between tags such as ``<think>`` and ``</think>``, are no part of it.

    Args:
        action: what the policy wrote.
        demonstrations: of the task.
        settings: what the edit does not choose.
        seed: of the plan, and of what is drawn for the training set.
        prompts: how tasks are put to the student.
        tokens: how many a text has.
    """
    nothing = settings.plan((), 0.0, 1, seed)
    if not isinstance(action, str):
        return ParsedEdit(nothing, (), EditStatus.NOT_TEXT)
    written = without_thoughts(action)
    if not written.strip():
        return ParsedEdit(nothing, (), EditStatus.EMPTY)
    try:
        edit = ToolEdit.read(written)
    except ToolEditError as error:
        return ParsedEdit(nothing, (), error.status, problem=str(error))
    rng = random.Random(seed)
    small = training_set(demonstrations, edit, rng)
    rng.shuffle(small)
    examples: list[Example | TokenExample] = []
    texts: list[str] = []
    outputs_only = edit.strategy == "train_using_output_tokens"
    for *shown, target in small:
        if len(examples) == settings.max_examples:
            break
        text, output = prompts.example(shown, target)
        example = prompts.encode(text, output if outputs_only else 0)
        if (tokens(text) if isinstance(example, Example) else len(example.ids)) <= settings.max_tokens:
            examples.append(example)
            texts.append(text)
    steps = edit.num_train_epochs * -(-len(examples) // settings.batch_size)
    if steps > settings.max_steps:
        problem = f"{steps} optimizer steps, more than {settings.max_steps}"
        return ParsedEdit(nothing, (), EditStatus.TOO_MANY_STEPS, problem=problem)
    plan = settings.plan(tuple(examples), edit.learning_rate, edit.num_train_epochs, seed)
    return ParsedEdit(plan, tuple(texts), EditStatus.OK, dropped=len(small) - len(examples))


def training_set(demonstrations: Sequence[Pair], edit: ToolEdit, rng: random.Random) -> list[SmallTask]:
    """Small tasks made of the demonstrations; each is some of them and, last, the one to be predicted."""
    small = [task for left_out in (1, 2) for task in leave_out(demonstrations, left_out)]
    chosen = [group for group, on in zip(GROUPS, edit.switches) if on]
    augmented = [one.pairs(task) for group in chosen for one in augmentations(group, demonstrations, rng) for task in small]
    every = small + [task for task in augmented if all(fits(grid) for pair in task for grid in pair)]
    every = list(dict.fromkeys(every))
    return list(dict.fromkeys([*every, *(_permuted(task, rng, colours=bool(chosen)) for task in every)]))


def leave_out(demonstrations: Sequence[Pair], count: int) -> list[SmallTask]:
    """Each demonstration is to be predicted from the others without ``count - 1`` of them, in every way."""
    found = []
    for i, target in enumerate(demonstrations):
        others = [pair for j, pair in enumerate(demonstrations) if j != i]
        kept = len(others) - (count - 1)
        if kept >= 0:
            found += [(*shown, target) for shown in combinations(others, kept)]
    return found


def _permuted(task: SmallTask, rng: random.Random, colours: bool) -> SmallTask:
    *shown, target = random_colours(rng).pairs(task) if colours else task
    rng.shuffle(shown)
    return (*shown, target)


def _check_keys(where: str, tree: Any, known: Sequence[str]) -> None:
    if not isinstance(tree, dict):
        raise ToolEditError(EditStatus.WRONG_VALUE, f"{where} must be an object with {', '.join(known)}, got {tree!r:.80}")
    for name in tree:
        if name not in known:
            raise ToolEditError(EditStatus.WRONG_KEYS, f"{where} has an unknown key {name!r:.80}")
    for name in known:
        if name not in tree:
            raise ToolEditError(EditStatus.WRONG_KEYS, f"{where} lacks {name!r}")


def _wrong(name: str, expected: str, value: object) -> ToolEditError:
    return ToolEditError(EditStatus.WRONG_VALUE, f"{name} must be {expected}, got {value!r:.80}")
