"""A task: a context C and questions tau that are asked about it without showing it; and the prompts of questions.

Nothing here needs torch.
"""

from __future__ import annotations

from dataclasses import dataclass

from seal_env.chat import Template

SPLITS = ("train", "validation", "test")
_CUE = "\nAnswer:\n"


@dataclass(frozen=True)
class Question:
    """A question and the answers that count as right.

    Attributes:
        question: its text, which must be clear without the context.
        answers: the gold answer first, then other accepted forms.
        answer_start: character offset of ``answers[0]`` in the context; None if the context does not contain it.
        id: unique within its source.
        self_written: whether a model wrote it and nobody checked it.

    Raises:
        ValueError: an empty text, no answers, or a negative offset.
    """

    question: str
    answers: tuple[str, ...]
    answer_start: int | None = None
    id: str = ""
    self_written: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.answers, str):
            raise ValueError(f"answers must be a tuple of strings, got the string {self.answers!r}")
        object.__setattr__(self, "answers", tuple(self.answers))
        if not self.question.strip():
            raise ValueError(f"question must not be empty, got {self.question!r}")
        if not self.answers or not all(answer.strip() for answer in self.answers):
            raise ValueError(f"answers must hold at least one answer and no empty one, got {self.answers!r}")
        if self.answer_start is not None and self.answer_start < 0:
            raise ValueError(f"answer_start must be None or >= 0, got {self.answer_start}")


@dataclass(frozen=True)
class Document:
    """A passage without questions.

    Attributes:
        title: what it is about.
        context: the passage.
        id: unique within its source.
    """

    title: str
    context: str
    id: str = ""


@dataclass(frozen=True)
class Task:
    """A context and its questions: (C, tau).

    Attributes:
        title: what the context is about.
        context: the passage.
        questions: at least one.
        id: unique within its source.

    Raises:
        ValueError: an empty text, no questions, or an ``answer_start`` that does not point at the answer.
    """

    title: str
    context: str
    questions: tuple[Question, ...]
    id: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "questions", tuple(self.questions))
        for name in ("title", "context"):
            if not getattr(self, name).strip():
                raise ValueError(f"{name} must not be empty, got {getattr(self, name)!r}")
        if not self.questions:
            raise ValueError(f"questions must hold at least one question, got none for {self.title!r}")
        for question in self.questions:
            start, answer = question.answer_start, question.answers[0]
            if start is not None and not self.context.startswith(answer, start):
                text = self.context[start : start + len(answer)]
                raise ValueError(f"answer_start {start} must point at {answer!r} in the context, it points at {text!r}")

    @property
    def label_free(self) -> bool:
        """Whether a model wrote any of the questions, so that nobody checked the answers."""
        return any(question.self_written for question in self.questions)


def question_prompt(title: str, question: str, template: Template = "base") -> str:
    """The closed-book prompt of a question, in SEAL's wording (paper, appendix on knowledge incorporation).

    It is the full text for a base model and the user's message for an instruct model, which begins a new turn and needs no cue.
    """
    prompt = f"Let's answer a question directly and concisely.\nQuestion: Topic: {title}\n{question}"
    return prompt + _CUE if template == "base" else prompt


def open_book_prompt(title: str, context: str, question: str, template: Template = "base") -> str:
    """The prompt of a question with the context in view, which the paper does not use."""
    return f"{title}\n{context}\n\n{question_prompt(title, question, template)}"
