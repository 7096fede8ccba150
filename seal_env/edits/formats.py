"""Edit formats: how a self-edit is asked for, and how it is cut. Register your own with :func:`register_format`.

A base model is given raw text and goes on from its last line, the cue::

    Let's read the following passage and produce a list of implications derived directly or indirectly from the content.

    Passage:
    Genghis Khan
    The Shah's army was split by diverse internecine feuds and ...

    Implications:

``implications``, ``rewrite`` and ``self-qa`` reproduce the prompts that SEAL's authors recorded, character by character.
``implications-long``, ``implications-very-long``, ``chain-of-thought`` and ``none`` have no records; their sentences are
those of the authors' published prompts (``none`` gives the passage alone and lets the model go on). What an instruct model
is asked is ours: the same sentence and passage, without the cue, as one message.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

from seal_env.chat import Template, check_template
from seal_env.chat import prompt_ids as prompt_ids  # for whoever writes an edit: ids of what EditFormat.prompt asks
from seal_env.checks import did_you_mean
from seal_env.edits.split import Splitter, segments, segments_after_thoughts
from seal_env.tasks import Document, Task


class Message(TypedDict):
    """One turn of a chat, as ``tokenizer.apply_chat_template`` takes it."""

    role: str
    content: str


@dataclass(frozen=True)
class EditFormat:
    """How a self-edit is asked for and how it is cut.

    Attributes:
        name: what it is registered under.
        instruction: what the model is asked to do with the passage; empty: nothing is asked.
        cue: the end of a base model's prompt, with its newline if the edit is to begin on a line of its own.
        split: from the text to its segments, the rest of a training sequence after the title line.
    """

    name: str
    instruction: str = ""
    cue: str = ""
    split: Splitter = segments

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.strip():
            raise ValueError(f"name must be a non-empty string, got {self.name!r}")
        if not callable(self.split):
            raise ValueError(f"split must be a function such as seal_env.edits.segments, got {self.split!r}")

    def prompt(self, task: Task | Document, template: Template = "base") -> str:
        """What the policy reads: the whole text for a base model, the user's message for an instruct model."""
        check_template(template)
        asked = f"{self.instruction}\n\n" if self.instruction else ""
        message = f"{asked}Passage:\n{task.title}\n{task.context}"
        # An instruct model begins a turn of its own, so that a cue would only be something to repeat.
        return f"{message}\n\n{self.cue}" if template == "base" else message

    def messages(self, task: Task | Document) -> list[Message]:
        """The chat for an instruct model: one message of the user, as not every chat template knows a system role."""
        return [{"role": "user", "content": self.prompt(task, "instruct")}]

    def opening(self, template: Template = "base") -> str:
        """What the prompt already wrote of the edit's first line: ``"Question 1: "`` for self-qa, mostly nothing."""
        return self.cue[self.cue.rfind("\n") + 1 :] if template == "base" else ""


_FORMATS: dict[str, EditFormat] = {}


def register_format(edit_format: EditFormat) -> EditFormat:
    """Make ``edit_format`` known by its name, and return it.

    Raises:
        ValueError: the name is taken.
    """
    if not isinstance(edit_format, EditFormat):
        raise TypeError(f"register_format takes an EditFormat, got {type(edit_format).__name__}: {edit_format!r}")
    if edit_format.name in _FORMATS:
        raise ValueError(f"the edit format {edit_format.name!r} exists already; register yours under another name")
    _FORMATS[edit_format.name] = edit_format
    return edit_format


def get_format(name: str) -> EditFormat:
    """The registered format ``name``.

    Raises:
        ValueError: there is none; the message names the closest and all that exist.
    """
    if isinstance(name, str) and name in _FORMATS:
        return _FORMATS[name]
    raise ValueError(f"no edit format {name!r}.{did_you_mean(name, _FORMATS)} There are: {', '.join(_FORMATS)}")


def available_formats() -> tuple[str, ...]:
    """The names of all registered formats, in the order of registration."""
    return tuple(_FORMATS)


_IMPLICATIONS = (
    "Let's read the following passage and produce a {} of implications derived directly or indirectly from the content."
)
register_format(EditFormat("implications", _IMPLICATIONS.format("list"), "Implications:\n"))
register_format(EditFormat("implications-long", _IMPLICATIONS.format("long list"), "Implications:\n"))
register_format(EditFormat("implications-very-long", _IMPLICATIONS.format("very long list"), "Implications:\n"))
register_format(
    EditFormat(
        "rewrite",
        "Let's read the following passage and rewrite it in a few different ways, each one separated by a newline.",
        "Rewritten passages:\n",
    )
)
register_format(
    EditFormat("self-qa", "Let's read the following passage and rewrite it in a question-answer format.", "Question 1: ")
)
register_format(
    EditFormat(
        "chain-of-thought",
        "Let's read the following passage, think step by step, and then produce a list of implications derived directly or "
        'indirectly from the content. We should first generate a "Thought Process" and then "Implications"',
        "Thought Process:\n",
        segments_after_thoughts,
    )
)
register_format(EditFormat("none"))
