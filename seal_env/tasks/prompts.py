"""How a task's questions are put to a model (SEAL's wording; paper, appendix on knowledge incorporation)."""

from __future__ import annotations


def question_prompt(title: str, question: str) -> str:
    """Ask ``question`` closed-book: the context is not shown."""
    return f"Let's answer a question directly and concisely.\nQuestion: Topic: {title}\n{question}\nAnswer:\n"


def open_book_prompt(title: str, context: str, question: str) -> str:
    """Ask ``question`` with the context in view (ours; the paper never does)."""
    return f"{title}\n{context}\n\n{question_prompt(title, question)}"
