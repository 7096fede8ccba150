"""Edit formats: the prompt that asks for a self-edit, and how its text is split. Add your own with ``FORMATS.register``.

A base model reads raw text and continues its last line, the cue::

    Let's read the following passage and produce a list of implications derived directly or indirectly from the content.

    Passage:
    Genghis Khan
    The Shah's army was split by diverse internecine feuds and ...

    Implications:

``implications``, ``rewrite`` and ``self-qa`` reproduce the prompts that SEAL's authors recorded, character by character.
``implications-long``, ``implications-very-long``, ``chain-of-thought`` and ``none`` have no records; their sentences are
those of the authors' published prompts (``none`` is the passage alone, which the model continues). The prompt for an instruct
model is ours: the same sentence and passage, without the cue, as one message.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

from seal_env.chat import Template, check_template
from seal_env.chat import prompt_ids as prompt_ids  # turns EditFormat.prompt into token ids
from seal_env.edits.split import Splitter, segments, segments_after_thoughts
from seal_env.registry import Registry
from seal_env.tasks import Document, Task


class Message(TypedDict):
    """One turn of a chat, as ``tokenizer.apply_chat_template`` takes it."""

    role: str
    content: str


@dataclass(frozen=True)
class EditFormat:
    """The prompt that asks for a self-edit, and how the edit is split into training sequences.

    Attributes:
        instruction: what the model is to do with the passage; empty: the prompt is the passage alone.
        cue: the end of a base model's prompt; it ends with a newline if the edit is to begin on a new line.
        split: returns the segments of an edit's text. A training sequence is the title, a newline and a segment.

    Raises:
        ValueError: ``split`` is no function.
    """

    instruction: str = ""
    cue: str = ""
    split: Splitter = segments

    def __post_init__(self) -> None:
        if not callable(self.split):
            raise ValueError(f"split must be a function such as seal_env.edits.segments, got {self.split!r}")

    def prompt(self, task: Task | Document, template: Template = "base") -> str:
        """The prompt of the policy: the full text for a base model, the user's message for an instruct model."""
        check_template(template)
        instruction = f"{self.instruction}\n\n" if self.instruction else ""
        message = f"{instruction}Passage:\n{task.title}\n{task.context}"
        # An instruct model begins a new turn and would only repeat a cue.
        return f"{message}\n\n{self.cue}" if template == "base" else message

    def messages(self, task: Task | Document) -> list[Message]:
        """The chat for an instruct model: one user message, since not every chat template has a system role."""
        return [{"role": "user", "content": self.prompt(task, "instruct")}]

    def opening(self, template: Template = "base") -> str:
        """The part of the edit's first line that the prompt ends with: ``"Question 1: "`` for self-qa, mostly empty."""
        return self.cue[self.cue.rfind("\n") + 1 :] if template == "base" else ""


def _problem(target: object) -> str:
    return "" if isinstance(target, EditFormat) else f"is no EditFormat: {target!r}"


FORMATS: Registry[EditFormat] = Registry("edit format", "seal_env.formats", _problem)


def get_format(name: str | EditFormat) -> EditFormat:
    """An edit format by name or import path (``package.module:FORMAT``), or the format itself.

    Raises:
        ValueError: there is no such format; the message names the closest and all that exist.
    """
    return FORMATS.get(name)


_IMPLICATIONS = (
    "Let's read the following passage and produce a {} of implications derived directly or indirectly from the content."
)
for _name, _length in (
    ("implications", "list"),
    ("implications-long", "long list"),
    ("implications-very-long", "very long list"),
):
    FORMATS.register(_name, EditFormat(_IMPLICATIONS.format(_length), "Implications:\n"), f"a {_length} of implications")
FORMATS.register(
    "rewrite",
    EditFormat(
        "Let's read the following passage and rewrite it in a few different ways, each one separated by a newline.",
        "Rewritten passages:\n",
    ),
    "the passage rewritten in a few ways",
)
FORMATS.register(
    "self-qa",
    EditFormat("Let's read the following passage and rewrite it in a question-answer format.", "Question 1: "),
    "questions and answers",
)
FORMATS.register(
    "chain-of-thought",
    EditFormat(
        "Let's read the following passage, think step by step, and then produce a list of implications derived directly or "
        'indirectly from the content. We should first generate a "Thought Process" and then "Implications"',
        "Thought Process:\n",
        segments_after_thoughts,
    ),
    "thoughts, then implications; only the implications are trained on",
)
FORMATS.register("none", EditFormat(), "no instruction: the passage alone")
