"""Parse a self-edit into an ``Update``: its training sequences, and the settings they are learnt with.

An action comes from a policy and may be anything. An invalid one never raises: it gets a status, and the update trains on the
part of it that is usable, if any. Invalid settings of a user raise a ValueError.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from seal_env.chat import Template, check_template, without_thoughts
from seal_env.checks import check_count
from seal_env.edits.formats import EditFormat, get_format
from seal_env.tasks import Document, Task
from seal_env.update import Example, InnerLoopSettings, Update


class EditStatus(StrEnum):
    """How an action was parsed. Of several that apply, the first of NOT_TEXT, EMPTY, TOO_LONG, TOO_MANY is reported."""

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
class EditSettings(InnerLoopSettings):
    """How self-edits are parsed and learnt. The defaults are SEAL's.

    Attributes:
        format: an edit format, see :func:`seal_env.edits.get_format`.
        template: whether the policy was given the prompt of a ``base`` or an ``instruct`` model.
        split_newlines: one sequence per line; False: one per segment between ``---`` (SEAL's joint update of many passages).
        append_passage: train on the passage, too, after the edit's sequences.
        max_characters: longer edits are cut; thoughts do not count.
        max_sequences: most segments of an edit, the passage not counted; the others are dropped.
        update_config: how the sequences are learnt.
    """

    format: str | EditFormat = "implications"
    template: Template = "base"
    split_newlines: bool = True
    append_passage: bool = True
    max_characters: int = 200_000
    max_sequences: int = 256

    not_options: ClassVar[frozenset[str]] = frozenset({"format", "template"})

    def __post_init__(self) -> None:
        get_format(self.format)
        check_template(self.template)
        for name in ("split_newlines", "append_passage"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} must be True or False, got {getattr(self, name)!r}")
        check_count("max_characters", self.max_characters)
        check_count("max_sequences", self.max_sequences)

    def update(self, sequences: tuple[str, ...], seed: int) -> Update:
        """The update that trains on ``sequences`` with these settings."""
        return Update(tuple(map(Example, sequences)), self.update_config, seed)


@dataclass(frozen=True)
class ParsedEdit:
    """A parsed action.

    Attributes:
        update: for the student; without examples if there is nothing to train on.
        sequences: texts of the update's examples: the edit's segments in order, then the passage.
        status: see :class:`EditStatus`.
        dropped: number of segments or examples that were left out because there were too many.
        problem: what is wrong with a choice of tools; empty if it is valid.
    """

    update: Update
    sequences: tuple[str, ...]
    status: EditStatus
    dropped: int = 0
    problem: str = ""


def parse(action: object, task: Task | Document, settings: EditSettings, seed: int) -> ParsedEdit:
    """Parse ``action`` as a self-edit for ``task``. No action raises.

    Each segment becomes the training sequence ``title\\nsegment``; the passage, ``title\\ncontext``, is the last sequence. An
    edit without a segment trains on nothing, not even on the passage with ``append_passage``: its reward is that of the
    un-updated model. An edit that repeats the passage is the paper's baseline without a self-edit: it is learnt once
    (:func:`passage_only`), and ``append_passage`` does not add it again. Thoughts between tags such as ``<think>`` and
    ``</think>`` are removed first, in every format (:func:`seal_env.chat.without_thoughts`).

    Args:
        action: output of the policy; anything but a ``str`` is NOT_TEXT.
        task: the task that the edit was written for.
        settings: how to parse and learn it.
        seed: of the update.
    """
    if not isinstance(action, str):
        return ParsedEdit(settings.update((), seed), (), EditStatus.NOT_TEXT)
    edit = without_thoughts(action, settings.template)
    if task.context.strip() in (action.strip(), edit.strip()):
        return passage_only(task, settings, seed)
    edit_format = get_format(settings.format)
    text = edit[: settings.max_characters]
    segments = edit_format.split(text, edit_format.opening(settings.template), settings.split_newlines)
    segments = [segment for segment in segments if segment.strip()]
    if not segments:
        return ParsedEdit(settings.update((), seed), (), EditStatus.EMPTY)
    kept = segments[: settings.max_sequences]
    passage = [task.context] if settings.append_passage else []
    sequences = tuple(_encodable(f"{task.title}\n{segment}") for segment in kept + passage)
    status = EditStatus.OK
    if len(kept) < len(segments):
        status = EditStatus.TOO_MANY
    if len(text) < len(edit):
        status = EditStatus.TOO_LONG
    return ParsedEdit(settings.update(sequences, seed), sequences, status, dropped=len(segments) - len(kept))


def passage_only(task: Task | Document, settings: EditSettings, seed: int) -> ParsedEdit:
    """The baseline without a self-edit: an update on the passage alone, whatever ``append_passage`` is."""
    sequences = (_encodable(f"{task.title}\n{task.context}"),)
    return ParsedEdit(settings.update(sequences, seed), sequences, EditStatus.OK)


def _encodable(text: str) -> str:
    """``text`` with lone surrogates replaced by U+FFFD and pairs joined, as tokenizers take only what UTF-8 can encode."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text
