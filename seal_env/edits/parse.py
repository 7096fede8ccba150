"""From an action to an ``UpdatePlan``: the training sequences of a self-edit and the settings they are learnt with.

Actions come from a policy and may be anything. A bad one is never an exception but a status: it trains on what is usable in
it and, where nothing is, on nothing at all. What a user passes wrongly (a format, a setting) raises at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from seal_env.chat import Template, check_template, without_thoughts
from seal_env.edits.formats import EditFormat, get_format
from seal_env.tasks import Document, Task
from seal_env.update import Example, Schedule, UpdatePlan


class EditStatus(StrEnum):
    """What became of an action. Where several hold, the first of NOT_TEXT, EMPTY, TOO_LONG, TOO_MANY is told."""

    OK = "ok"
    NOT_TEXT = "not_text"  # not a str; nothing is trained
    EMPTY = "empty"  # no segment to learn: no text, blanks, separators or thoughts only; nothing is trained
    TOO_LONG = "too_long"  # over max_characters: cut there, the rest is trained
    TOO_MANY = "too_many"  # over max_sequences segments: the first ones are trained
    NOT_JSON = "not_json"  # a choice of tools is JSON, and this is not; nothing is trained
    WRONG_KEYS = "wrong_keys"  # a key is missing or unknown; nothing is trained
    WRONG_VALUE = "wrong_value"  # a value of the wrong type or out of range; nothing is trained
    TOO_MANY_STEPS = "too_many_steps"  # over max_steps optimizer steps; nothing is trained


@dataclass(frozen=True)
class EditSettings:
    """How self-edits are read and learnt. The defaults are SEAL's; those of the update are :class:`UpdatePlan`'s own.

    Attributes:
        format: an edit format, see :func:`seal_env.edits.get_format`.
        template: whether the policy was given the prompt of a ``base`` or an ``instruct`` model.
        split_newlines: one sequence per line; False: one per piece between ``---`` (SEAL's joint update of many passages).
        append_passage: learn the passage itself, too, after the edit's own sequences.
        max_characters: longer edits are cut; thoughts do not count.
        max_sequences: segments of one edit, the passage not counted; further ones are dropped.
        batch_size: sequences per optimizer step; 0: all sequences of the edit in one step.

    The other attributes are those of :class:`UpdatePlan`.
    """

    format: str | EditFormat = "implications"
    template: Template = "base"
    split_newlines: bool = True
    append_passage: bool = True
    max_characters: int = 200_000
    max_sequences: int = 256
    learning_rate: float = UpdatePlan.learning_rate
    epochs: int = UpdatePlan.epochs
    batch_size: int = UpdatePlan.batch_size
    schedule: Schedule = UpdatePlan.schedule
    warmup_steps: int = UpdatePlan.warmup_steps
    max_grad_norm: float = UpdatePlan.max_grad_norm
    weight_decay: float = UpdatePlan.weight_decay
    max_length: int = UpdatePlan.max_length
    shuffle: bool = UpdatePlan.shuffle

    def __post_init__(self) -> None:
        get_format(self.format)
        check_template(self.template)
        for name in ("split_newlines", "append_passage", "shuffle"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} must be True or False, got {getattr(self, name)!r}")
        for name, least in (("max_characters", 1), ("max_sequences", 1), ("batch_size", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise ValueError(f"{name} must be an integer >= {least}, got {value!r}")
        self.plan((), seed=0)  # UpdatePlan checks what it takes

    def plan(self, sequences: tuple[str, ...], seed: int) -> UpdatePlan:
        """The plan that learns ``sequences`` with these settings."""
        return UpdatePlan(
            examples=tuple(Example(text) for text in sequences),
            learning_rate=self.learning_rate,
            epochs=self.epochs,
            batch_size=self.batch_size or max(1, len(sequences)),
            schedule=self.schedule,
            warmup_steps=self.warmup_steps,
            max_grad_norm=self.max_grad_norm,
            weight_decay=self.weight_decay,
            max_length=self.max_length,
            shuffle=self.shuffle,
            seed=seed,
        )


@dataclass(frozen=True)
class ParsedEdit:
    """What an action turned into.

    Attributes:
        plan: for the student; it has no examples where there is nothing to train.
        sequences: the text of the plan's examples, the edit's segments in their order and then the passage.
        status: see :class:`EditStatus`.
        dropped: segments or examples that are not in the plan, being too many.
        problem: what is wrong with a choice of tools, in words; empty where nothing is.
    """

    plan: UpdatePlan
    sequences: tuple[str, ...]
    status: EditStatus
    dropped: int = 0
    problem: str = ""


def parse(action: object, task: Task | Document, settings: EditSettings, seed: int) -> ParsedEdit:
    """Read ``action`` as a self-edit for ``task``; no action raises.

    Each segment becomes the training sequence ``title\\nsegment``; the passage, ``title\\ncontext``, comes last. An edit
    without a segment trains on nothing, not even on the passage with ``append_passage``: the reward is then that of the
    un-updated model, and silence cannot earn what the passage alone would teach. The passage itself, word for word, is the
    paper's baseline without a self-edit: it is learnt once (:func:`passage_only`), not once more for ``append_passage``.
    Thoughts between tags such as ``<think>`` and ``</think>`` are no part of an edit, whatever its format: they are removed
    first (:func:`seal_env.chat.without_thoughts`).

    Args:
        action: what the policy wrote; anything but a ``str`` is NOT_TEXT.
        task: what it was written for.
        settings: how to read and learn it.
        seed: of the plan, for a fresh adapter's weights and the order of the sequences.
    """
    if not isinstance(action, str):
        return ParsedEdit(settings.plan((), seed), (), EditStatus.NOT_TEXT)
    written = without_thoughts(action, settings.template)
    if task.context.strip() in (action.strip(), written.strip()):
        return passage_only(task, settings, seed)
    edit_format = get_format(settings.format)
    text = written[: settings.max_characters]
    found = edit_format.split(text, edit_format.opening(settings.template), settings.split_newlines)
    found = [segment for segment in found if segment.strip()]
    if not found:
        return ParsedEdit(settings.plan((), seed), (), EditStatus.EMPTY)
    kept = found[: settings.max_sequences]
    passage = [task.context] if settings.append_passage else []
    sequences = tuple(_encodable(f"{task.title}\n{learnt}") for learnt in kept + passage)
    status = EditStatus.OK
    if len(kept) < len(found):
        status = EditStatus.TOO_MANY
    if len(text) < len(written):
        status = EditStatus.TOO_LONG
    return ParsedEdit(settings.plan(sequences, seed), sequences, status, dropped=len(found) - len(kept))


def passage_only(task: Task | Document, settings: EditSettings, seed: int) -> ParsedEdit:
    """The baseline without a self-edit: the passage alone is learnt, whatever ``append_passage`` says."""
    sequences = (_encodable(f"{task.title}\n{task.context}"),)
    return ParsedEdit(settings.plan(sequences, seed), sequences, EditStatus.OK)


def _encodable(text: str) -> str:
    """``text`` with lone surrogates replaced by U+FFFD and pairs joined: tokenizers refuse what UTF-8 cannot hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text
