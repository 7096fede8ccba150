"""The self-edit of few-shot tasks: a choice of tools and settings, written as JSON (paper, section 4.2)::

    {"data_generation": {"use_basic_augmentations": true, "use_size_augmentations": false,
                         "use_chain_augmentations": false, "use_repeat_augmentations": false},
     "training": {"strategy": "train_using_output_tokens", "learning_rate": 0.0001, "num_train_epochs": 2}}

The training set is built from the demonstrations as in SEAL's published code (after Akyürek et al., arXiv 2411.07279): each
demonstration is predicted from all others (leave one out) and from all others but one (leave two out); these small tasks are
augmented; each of them is added once more with its demonstrations in another order and, if there are augmentations, other
colours.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import combinations
from typing import Any, ClassVar

from seal_env.chat import without_thoughts
from seal_env.checks import check_count
from seal_env.edits.parse import EditStatus, ParsedEdit
from seal_env.tasks.arc.augment import GROUPS, Pair, augmentations, random_colours
from seal_env.tasks.arc.grid_prompts import ArcPrompts, pairs_text
from seal_env.tasks.arc.grids import GridText, fits
from seal_env.update import Example, InnerLoopSettings, TokenExample, Update, UpdateConfig

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

SmallTask = tuple[Pair, ...]  # demonstrations; the last pair is predicted from the others


def tool_prompt(demonstrations: Sequence[Pair], style: GridText = "spaced") -> str:
    """The prompt of the policy: the demonstrations, then :data:`INSTRUCTION`."""
    return pairs_text(demonstrations, style) + INSTRUCTION


class ToolEditError(ValueError):
    """A text is not a valid choice of tools.

    Attributes:
        status: the kind of error.
    """

    def __init__(self, status: EditStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class ToolEdit:
    """A choice of tools and settings.

    Attributes:
        basic: train on turned, flipped, mirrored and moved copies.
        size: train on enlarged copies.
        chain: train on copies that are turned or flipped, then enlarged.
        repeat: train on copies that are repeated side by side.
        strategy: one of :data:`STRATEGIES`: the loss is on all tokens, or on those of the predicted output.
        learning_rate: peak learning rate, at least 0.
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
        """Parse ``text``: one JSON object, and nothing else but blanks around it.

        Raises:
            ToolEditError: the text is no such object, or a key or a value is wrong.
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
class ToolSettings(InnerLoopSettings):
    """Settings of an inner loop that the edit does not choose. The defaults are SEAL's.

    Attributes:
        max_examples: a larger training set is thinned out at random.
        max_steps: an edit that takes more optimizer steps trains on nothing.
        max_tokens: longer examples are left out. It is also the ``max_length`` of the update.
        update_config: how examples are learnt, but for the learning rate and the epochs, which the edit chooses.
    """

    max_examples: int = 250
    max_steps: int = 375
    max_tokens: int = 8191
    update_config: UpdateConfig = field(default=UpdateConfig(batch_size=2, schedule="cosine", warmup_steps=11), kw_only=True)

    not_options: ClassVar[frozenset[str]] = frozenset({"learning_rate", "epochs", "max_length"})

    def __post_init__(self) -> None:
        check_count("max_examples", self.max_examples)
        check_count("max_steps", self.max_steps)
        object.__setattr__(self, "update_config", replace(self.update_config, max_length=self.max_tokens))


def parse_tools(
    action: object,
    demonstrations: Sequence[Pair],
    settings: ToolSettings,
    seed: int,
    *,
    prompts: ArcPrompts,
    tokens: Callable[[str], int],
) -> ParsedEdit:
    """Parse ``action`` as a choice of tools for a task with these demonstrations. No action raises.

    An action that is no valid choice, or takes too many steps, trains on nothing: its reward is that of the un-updated model.
    Thoughts before the JSON, between tags such as ``<think>`` and ``</think>``, are removed.

    Args:
        action: output of the policy.
        demonstrations: of the task.
        settings: what the edit does not choose.
        seed: of the update, and of the augmentations.
        prompts: how tasks are written for the student.
        tokens: returns the number of tokens of a text.
    """
    nothing = Update((), settings.update_config, seed)
    if not isinstance(action, str):
        return ParsedEdit(nothing, (), EditStatus.NOT_TEXT)
    text = without_thoughts(action)
    if not text.strip():
        return ParsedEdit(nothing, (), EditStatus.EMPTY)
    try:
        edit = ToolEdit.read(text)
    except ToolEditError as error:
        return ParsedEdit(nothing, (), error.status, problem=str(error))
    rng = random.Random(seed)
    small_tasks = training_set(demonstrations, edit, rng)
    rng.shuffle(small_tasks)
    examples: list[Example | TokenExample] = []
    texts: list[str] = []
    outputs_only = edit.strategy == "train_using_output_tokens"
    for *context, target in small_tasks:
        if len(examples) == settings.max_examples:
            break
        text, output = prompts.example(context, target)
        example = prompts.encode(text, output if outputs_only else 0)
        if (tokens(text) if isinstance(example, Example) else len(example.ids)) <= settings.max_tokens:
            examples.append(example)
            texts.append(text)
    config = replace(settings.update_config, learning_rate=edit.learning_rate, epochs=edit.num_train_epochs)
    steps = edit.num_train_epochs * -(-len(examples) // (config.batch_size or max(1, len(examples))))
    if steps > settings.max_steps:
        problem = f"{steps} optimizer steps, more than {settings.max_steps}"
        return ParsedEdit(nothing, (), EditStatus.TOO_MANY_STEPS, problem=problem)
    update = Update(tuple(examples), config, seed)
    return ParsedEdit(update, tuple(texts), EditStatus.OK, dropped=len(small_tasks) - len(examples))


def training_set(demonstrations: Sequence[Pair], edit: ToolEdit, rng: random.Random) -> list[SmallTask]:
    """Small tasks: some of the demonstrations each, the last of which is predicted from the others."""
    small_tasks = [task for left_out in (1, 2) for task in leave_out(demonstrations, left_out)]
    chosen = [group for group, on in zip(GROUPS, edit.switches) if on]
    augmented = [
        augmentation.pairs(task)
        for group in chosen
        for augmentation in augmentations(group, demonstrations, rng)
        for task in small_tasks
    ]
    small_tasks += [task for task in augmented if all(fits(grid) for pair in task for grid in pair)]
    small_tasks = list(dict.fromkeys(small_tasks))
    return list(dict.fromkeys([*small_tasks, *(_permuted(task, rng, colours=bool(chosen)) for task in small_tasks)]))


def leave_out(demonstrations: Sequence[Pair], count: int) -> list[SmallTask]:
    """Each demonstration, predicted from the others without ``count - 1`` of them, in all combinations."""
    small_tasks = []
    for i, target in enumerate(demonstrations):
        others = [pair for j, pair in enumerate(demonstrations) if j != i]
        kept = len(others) - (count - 1)
        if kept >= 0:
            small_tasks += [(*context, target) for context in combinations(others, kept)]
    return small_tasks


def _permuted(task: SmallTask, rng: random.Random, colours: bool) -> SmallTask:
    *context, target = random_colours(rng).pairs(task) if colours else task
    rng.shuffle(context)
    return (*context, target)


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
