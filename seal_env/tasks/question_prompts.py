"""How a task's questions are put to a model (SEAL's wording; paper, appendix on knowledge incorporation)."""

from __future__ import annotations

from seal_env.chat import Template

_CUE = "\nAnswer:\n"


def question_prompt(title: str, question: str, template: Template = "base") -> str:
    """Ask ``question`` closed-book: the context is not shown.

    It is the whole text for a base model and the user's message to an instruct model. That begins a turn of its own, so that
    its message has no cue, as in :class:`seal_env.edits.EditFormat`.
    """
    asked = f"Let's answer a question directly and concisely.\nQuestion: Topic: {title}\n{question}"
    return asked + _CUE if template == "base" else asked


def open_book_prompt(title: str, context: str, question: str, template: Template = "base") -> str:
    """Ask ``question`` with the context in view (ours; the paper never does)."""
    return f"{title}\n{context}\n\n{question_prompt(title, question, template)}"
